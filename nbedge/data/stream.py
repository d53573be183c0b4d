"""Training pictures that are read one after the other, shuffled on the way: the set may be larger than the disk."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge.data.lazy import EncodedImages, Example, kept
from nbedge.data.pictures import Pictures
from nbedge.errors import InputError, needs
from nbedge.preprocessing import Images

#: pictures that wait to be drawn at random: 0.2 GB of the files of ImageNet
BUFFER = 2_000
#: the same where only paths wait
PATHS_BUFFER = 100_000
#: largest part that is held out of a stream: its share of a large set would fill the memory
HELD_OUT = 10_000
#: pictures that are measured, read from the start of a shuffled pass
SAMPLE = 2_000


@dataclass(frozen=True, slots=True, eq=False)
class PictureStream:
    """A stream of labelled pictures, in an order that a number fixes, without those that are held out.

    Attributes:
        origin: the DATA form, for errors.
        rows: a `datasets.IterableDataset` whose pictures are not decoded.
        columns: those of the picture and of the label.
        numbers: what the label column holds -> label.
        size: (c, h, w) that pictures are resized to.
        count: how many pictures there are besides those held out.
        held: digests of the pictures held out.
    """

    origin: str
    rows: Any
    columns: tuple[str, str]
    numbers: Mapping[int, int]
    size: tuple[int, int, int]
    count: int
    held: frozenset[bytes] = field(default=frozenset())

    def __len__(self) -> int:
        """Return how many there are."""
        return self.count

    @property
    def shape(self) -> tuple[int, ...]:
        """The (c, h, w) of every picture."""
        return self.size

    def read(self, examples: Sequence[Example]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return the pixels (n, h, w, c) and the labels (n,) of `examples`.

        Raises:
            InputError: a picture is broken.
        """
        images = EncodedImages(tuple(examples), self.size, self.origin)
        return images[:], np.array([example.label for example in examples], np.int64)

    def sample(self) -> Images:
        """Return the pictures that stand for all where pixels are measured."""
        return EncodedImages(tuple(itertools.islice(self.once(0), SAMPLE)), self.size, self.origin)

    def split(self, count: int, rng: np.random.Generator) -> tuple[Pictures, "PictureStream"]:
        """Take the first `count` pictures, at most `HELD_OUT`, of a pass shuffled by `rng`; return (taken, rest)."""
        passed = self.once(int(rng.integers(2**31)))
        taken = tuple(itertools.islice(passed, max(1, min(count, HELD_OUT))))
        held = self.held | {_digest(example) for example in taken}
        return collected(taken, self.size, self.origin), replace(self, count=self.count - len(taken), held=held)

    def endless(self, order: int, rank: int = 0, world: int = 1) -> Iterator[Example]:
        """Yield the pictures of process `rank` of `world`, pass after pass.

        The processes share no picture in a pass. One whose part is smaller than the others' begins its next pass
        while they end theirs.

        Raises:
            InputError: the process has no picture, or the set cannot be read.
        """
        for number in itertools.count():
            first = None
            for first in self.once(order * 1009 + number, rank, world):
                yield first
            if first is None:
                raise InputError(f"{self.origin}: no training picture is left for process {rank} of {world}; use fewer")

    def once(self, order: int, rank: int = 0, world: int = 1) -> Iterator[Example]:
        """Yield each picture of process `rank` of `world` once, in the order `order`.

        Raises:
            InputError: the set cannot be read, or holds a row without a picture or with an unknown label.
        """
        with needs("hf"):
            from datasets.distributed import split_dataset_by_node
        shuffled = self.rows.shuffle(seed=order % 2**63, buffer_size=self._buffer())
        for example in self.examples(split_dataset_by_node(shuffled, rank, world)):
            if _digest(example) not in self.held:
                yield example

    def _buffer(self) -> int:
        first = next(readable(self.rows, self.origin), None)
        return PATHS_BUFFER if first and first[self.columns[0]] and not first[self.columns[0]]["bytes"] else BUFFER

    def examples(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Example]:
        """Yield what the rows hold.

        Raises:
            InputError: as in `once`.
        """
        image, label = self.columns
        for row in readable(rows, self.origin):
            if row[image] is None:
                raise InputError(f"{self.origin}: a row has no picture in the column {image!r}; remove it")
            if row[label] not in self.numbers:
                raise InputError(
                    f"{self.origin}: a row has the label {row[label]!r} in the column {label!r}, which is none of the "
                    f"{len(self.numbers)} classes; correct or remove it"
                )
            yield Example(row[image]["bytes"], row[image]["path"], self.numbers[row[label]])


def collected(examples: Sequence[Example], size: tuple[int, int, int], origin: str) -> Pictures:
    """Return `examples` as pictures, decoded if they are few."""
    labels = np.array([example.label for example in examples], np.int64)
    return Pictures(kept(EncodedImages(tuple(examples), size, origin)), labels)


def readable(rows: Iterable[Mapping[str, Any]], origin: str) -> Iterator[Mapping[str, Any]]:
    """Yield `rows`, whatever goes wrong in reading them as one error.

    Raises:
        InputError: the rows cannot be read.
    """
    walk = iter(rows)
    while True:
        try:
            row = next(walk)
        except StopIteration:
            return
        except Exception as error:  # of pyarrow, fsspec, the network or a reader of the set's own format
            raise InputError(f"{origin} cannot be read ({error}); check its files and the network") from error
        yield row


def _digest(example: Example) -> bytes:
    """Return what tells a picture apart from the others, wherever it stands in the stream."""
    content = example.content if example.content is not None else (example.path or "").encode()
    return hashlib.blake2b(content, digest_size=16).digest()
