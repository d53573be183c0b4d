"""Pictures that are decoded when they are asked for: a set of any size fits."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from nbedge.data.decoding import drafted, picture
from nbedge.errors import InputError, needs
from nbedge.preprocessing import Images

#: decoded bytes of a set that is kept in memory: seconds to decode once, little beside a training in a few GB of memory
IN_MEMORY_BYTES = 256 * 2**20


class LazyImages(ABC):
    """What reads like a uint8 array (n, h, w, c) and holds no pixels."""

    __slots__ = ()
    size: tuple[int, int, int]

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of pictures."""

    @abstractmethod
    def take(self, indices: NDArray[np.int64], axis: int = 0) -> Self:
        """Return the pictures at `indices`, none of them decoded; `axis` is 0, as in numpy."""

    @abstractmethod
    def decoded(self, row: int) -> NDArray[np.uint8]:
        """Return one picture (h, w, c).

        Raises:
            InputError: it is broken.
        """

    @property
    def shape(self) -> tuple[int, ...]:
        """The (n, h, w, c) of the array that it reads like."""
        channels, height, width = self.size
        return (len(self), height, width, channels)

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """The type of a pixel."""
        return np.dtype(np.uint8)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        """Decode the pictures of a slice, or those at the numbers `rows` (n,).

        Raises:
            InputError: a picture is broken.
        """
        chosen = range(*rows.indices(len(self))) if isinstance(rows, slice) else rows.tolist()
        images = np.empty((len(chosen), *self.shape[1:]), np.uint8)
        for place, row in enumerate(chosen):
            images[place] = self.decoded(row)
        return images


@dataclass(frozen=True, slots=True, eq=False)
class FolderImages(LazyImages):
    """Picture files.

    Attributes:
        root: the folder that holds them.
        names: of the files, relative to `root`, as bytes: a million paths take 0.1 GB this way, and 0.5 as objects.
        size: (c, h, w) that they are resized to.
    """

    root: Path
    names: NDArray[np.bytes_]
    size: tuple[int, int, int]

    @classmethod
    def of(cls, root: Path, paths: list[Path], size: tuple[int, int, int]) -> "FolderImages":
        """Return the files `paths`, all under `root`.

        Raises:
            InputError: a file is empty; whether the others are whole is found when they are decoded.
        """
        empty = next((path for path in paths if not path.stat().st_size), None)
        if empty:
            raise InputError(f"the picture {empty} is broken (it is empty); repair or remove it")
        skipped = len(os.path.join(root, ""))  # noqa: PTH118 - with the separator at the end
        return cls(root, np.array([os.fsencode(str(path)[skipped:]) for path in paths]), size)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.names)

    def take(self, indices: NDArray[np.int64], axis: int = 0) -> "FolderImages":
        """Return the pictures at `indices`, none of them decoded."""
        return replace(self, names=self.names.take(indices, axis=axis))

    def decoded(self, row: int) -> NDArray[np.uint8]:
        """Return one picture (h, w, c)."""
        path = self.root / os.fsdecode(self.names[row])
        return drafted(path, self.size, str(path))


class Example(NamedTuple):
    """One labelled picture as its set holds it: the bytes of its file, or None where `path` leads to them."""

    content: bytes | None
    path: str | None
    label: int


@dataclass(frozen=True, slots=True, eq=False)
class EncodedImages(LazyImages):
    """Pictures as the bytes of their files; `origin` says in errors where they are from."""

    examples: tuple[Example, ...]
    size: tuple[int, int, int]
    origin: str

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.examples)

    def take(self, indices: NDArray[np.int64], axis: int = 0) -> "EncodedImages":
        """Return the pictures at `indices`, none of them decoded."""
        return replace(self, examples=tuple(self.examples[row] for row in indices.tolist()))

    def decoded(self, row: int) -> NDArray[np.uint8]:
        """Return one picture (h, w, c)."""
        example = self.examples[row]
        name = example.path or f"of {len(example.content or b'')} bytes with the label {example.label}"
        return drafted(_content(example, name), self.size, f"{name} of {self.origin}")


def _content(example: Example, name: str) -> bytes:
    if example.content is not None or example.path is None:
        return example.content or b""
    with needs("hf"):
        import fsspec
    try:
        with fsspec.open(example.path, "rb") as file:
            return bytes(file.read())
    except OSError as error:
        raise InputError(f"the picture {name} cannot be read ({error}); repair or remove it") from error


def opened(root: Path, paths: list[Path], size: tuple[int, int, int], every: int) -> Images:
    """Return the picture files `paths` under `root`: decoded if the set of `every` pictures is small, else as files.

    Raises:
        InputError: a picture is broken.
    """
    if not fits(every, size):
        return FolderImages.of(root, paths, size)
    images = np.empty((len(paths), *size[1:], size[0]), np.uint8)
    for row, file in enumerate(paths):
        images[row] = picture(file, size)
    return images


def kept(images: LazyImages) -> Images:
    """Return `images` decoded into memory if they are few enough for that, else as they are."""
    return images[:] if fits(len(images), images.size) else images


def fits(count: int, size: Iterable[int]) -> bool:
    """Return whether `count` pictures of `size` (c, h, w) are decoded into memory."""
    return count * int(np.prod(tuple(size))) <= IN_MEMORY_BYTES
