"""Which pictures make up a batch, and which of them this process takes."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import distributed
from torch.utils.data import Sampler

from nbedge.data import PictureStream
from nbedge.errors import InputError


class Place(NamedTuple):
    """Which of how many training processes this one is."""

    rank: int
    world: int

    def rows(self, size: int) -> slice:
        """Return the rows of a batch of `size` pictures that this process takes.

        Raises:
            InputError: the processes cannot share `size` equally.
        """
        if size % self.world:
            raise InputError(
                f"a batch of {size} pictures cannot be shared equally by {self.world} processes; "
                f"set batch_size to a multiple of {self.world}"
            )
        share = size // self.world
        return slice(self.rank * share, (self.rank + 1) * share)


def here() -> Place:
    """Return the place of this process: that of torch.distributed, or the only one."""
    if distributed.is_available() and distributed.is_initialized():
        return Place(distributed.get_rank(), distributed.get_world_size())
    return Place(0, 1)


class Draw(NamedTuple):
    """What one process takes of one batch.

    Attributes:
        picked: what the pictures' `read` takes: their numbers, or undecoded examples of a stream.
        rows: where they stand in the batch.
        size: of the batch, of all processes.
        seed: of the augmentation of the batch.
    """

    picked: Any
    rows: slice
    size: int
    seed: int


#: (seed of the epoch, size of a batch, place) -> what `read` takes, batch by batch
Picks = Callable[[int, int, Place], Iterator[Any]]


def permuted(count: int, seed: int, size: int, place: Place) -> Iterator[Any]:
    """Yield the numbers of `count` pictures, each at most once, batch by batch."""
    order, rows = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).numpy(), place.rows(size)
    for start in range(0, count - size + 1, size):
        yield order[start : start + size][rows]


def streamed(stream: PictureStream, seed: int, size: int, place: Place) -> Iterator[Any]:
    """Yield undecoded examples of a stream, batch by batch, without end."""
    place.rows(size)  # refuses what cannot be shared
    examples = stream.endless(seed, place.rank, place.world)
    while True:
        yield tuple(next(examples) for _ in range(size // place.world))


class EpochSampler(Sampler[Draw]):
    """Draw the batches of an epoch, fixed by (seed, epoch). An incomplete last batch is left out."""

    def __init__(self, picks: Picks, pictures: int, batch_size: int, seed: int, place: Place | None = None) -> None:
        self._picks, self._pictures, self._size = picks, pictures, min(batch_size, pictures)
        self._seed, self._epoch, self._place = seed, 0, place

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this before each one, also after a resume."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches, the same in every process."""
        return steps_per_epoch(self._pictures, self._size)

    def __iter__(self) -> Iterator[Draw]:
        """Yield the draws of the chosen epoch.

        Raises:
            InputError: the processes cannot share a batch equally, or a stream cannot be read.
        """
        place = self._place or here()  # asked for now: processes find each other after the loader is made
        seed, rows = self._seed * 1_000_003 + self._epoch, place.rows(self._size)
        for number, picked in zip(range(len(self)), self._picks(seed, self._size, place), strict=False):
            yield Draw(picked, rows, self._size, seed * 100_003 + number)


def steps_per_epoch(pictures: int, batch_size: int) -> int:
    """Return how many batches an epoch has."""
    return pictures // min(batch_size, pictures)
