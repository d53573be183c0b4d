"""Batches that are a pure function of (seed, epoch, number): a resumed run sees what the undisturbed one saw.

A batch is drawn for all processes together, and each takes its part of it; on how many processes a run goes on, or in
how many worker processes pictures are decoded, changes no batch. Streamed pictures are the exception: every process
reads its own part of the stream, so the number of processes is part of what fixes a batch.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Sampler

from nbedge.data import Pictures, PictureStream
from nbedge.errors import InputError
from nbedge.preprocessing import Preprocessing

AUGMENTATIONS = ("shift", "flip")
SHIFT = 2  # pixels, on 28x28; larger pictures shift in proportion


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


class Batches(Dataset[tuple[Tensor, Tensor]]):
    """Pictures; a batch is read, augmented and normalised at once, which tiny networks need."""

    def __init__(
        self, pictures: Pictures | PictureStream, preprocessing: Preprocessing, augment: Sequence[str]
    ) -> None:
        self._pictures = pictures
        scale, shift = preprocessing.scale_shift()
        self._scale = torch.from_numpy(scale)[:, None, None]
        self._offset = torch.from_numpy(shift)[:, None, None]
        self._augment = frozenset(augment)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self._pictures)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """Return (inputs (n, c, h, w) float32 channels last, labels (n,)).

        Raises:
            InputError: a picture is broken.
        """
        images, labels = self._pictures.read(draw.picked)
        x = self._augmented(torch.from_numpy(images).permute(0, 3, 1, 2), draw)  # NCHW, channels last in memory
        x = x.float() * self._scale + self._offset
        return x.contiguous(memory_format=torch.channels_last), torch.from_numpy(labels)

    def _augmented(self, x: Tensor, draw: Draw) -> Tensor:
        """Augment x; what is random is drawn for the whole batch, so that its pictures are those of one process."""
        generator = torch.Generator().manual_seed(draw.seed % 2**63)
        if "shift" in self._augment:
            by = max(1, round(SHIFT * x.shape[2] / 28))
            x = moved(x, by, *(steps[draw.rows] for steps in moves(draw.size, by, generator)))
        if "flip" in self._augment:
            flips = (torch.rand(draw.size, generator=generator) < 0.5)[draw.rows]
            x = torch.where(flips[:, None, None, None], x.flip(3), x)
        return x


def shifted(x: Tensor, by: int, generator: torch.Generator) -> Tensor:
    """Move each picture of x (n, c, h, w) by up to `by` pixels in both directions, each by its own amount."""
    return moved(x, by, *moves(len(x), by, generator))


def moves(count: int, by: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw by how much `count` pictures move down and right, (count, 1) each; 0 is `by` pixels up or left."""
    down, right = (torch.randint(0, 2 * by + 1, (count, 1), generator=generator) for _ in range(2))
    return down, right


def moved(x: Tensor, by: int, down: Tensor, right: Tensor) -> Tensor:
    """Move the pictures of x (n, c, h, w) by what `moves` drew; what comes in from outside is 0."""
    n, _, height, width = x.shape
    padded = functional.pad(x, (by, by, by, by))
    rows, columns = down + torch.arange(height), right + torch.arange(width)
    cut = padded[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # (n, h, w, c)
    return cut.permute(0, 3, 1, 2)


def steps_per_epoch(pictures: int, batch_size: int) -> int:
    """Return how many batches an epoch has."""
    return pictures // min(batch_size, pictures)


def batches(
    pictures: Pictures | PictureStream,
    preprocessing: Preprocessing,
    batch_size: int,
    seed: int,
    augment: Sequence[str] = (),
    *,
    workers: int = 0,
    place: Place | None = None,
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Return a loader of augmented batches of `pictures`.

    Args:
        pictures: what is drawn from.
        preprocessing: of the pictures.
        batch_size: pictures a step, of all processes together.
        seed: of the order and the augmentation.
        augment: any of `AUGMENTATIONS`.
        workers: processes that read ahead and decode; any number gives the same batches.
        place: of this process among those that train; asked of torch.distributed if left out.
    """
    picks = partial(streamed, pictures) if isinstance(pictures, PictureStream) else partial(permuted, len(pictures))
    sampler = EpochSampler(picks, len(pictures), batch_size, seed, place)
    # batch_size None: the sampler draws whole batches
    return Loader(
        Batches(pictures, preprocessing, augment), batch_size=None, sampler=sampler, num_workers=workers,
        persistent_workers=workers > 0,
    )  # fmt: skip
