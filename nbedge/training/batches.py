"""Batches that are a pure function of (seed, epoch, number): a resumed run sees what the undisturbed one saw."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Sampler

from nbedge.data import Pictures
from nbedge.preprocessing import Preprocessing

AUGMENTATIONS = ("shift", "flip")
SHIFT = 2  # pixels, on 28x28; larger pictures shift in proportion


class Draw(NamedTuple):
    """Which pictures make up one batch, and the seed of its augmentation."""

    indices: Tensor
    seed: int


class EpochSampler(Sampler[Draw]):
    """Draw every picture once an epoch, in an order fixed by (seed, epoch). An incomplete last batch is left out."""

    def __init__(self, pictures: int, batch_size: int, seed: int) -> None:
        self._pictures, self._size, self._seed, self._epoch = pictures, min(batch_size, pictures), seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this before each one, also after a resume."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches."""
        return steps_per_epoch(self._pictures, self._size)

    def __iter__(self) -> Iterator[Draw]:
        """Yield the draws of the chosen epoch."""
        seed = self._seed * 1_000_003 + self._epoch
        order = torch.randperm(self._pictures, generator=torch.Generator().manual_seed(seed))
        for number in range(len(self)):
            yield Draw(order[number * self._size : (number + 1) * self._size], seed * 100_003 + number)


class Batches(Dataset[tuple[Tensor, Tensor]]):
    """Pictures held as one uint8 tensor; a batch is cut, augmented and normalised at once, which tiny networks need."""

    def __init__(self, pictures: Pictures, preprocessing: Preprocessing, augment: Sequence[str]) -> None:
        self._images = torch.from_numpy(pictures.images).permute(0, 3, 1, 2)  # NCHW, channels last in memory
        self._labels = torch.from_numpy(pictures.labels)
        scale, shift = preprocessing.scale_shift()
        self._scale = torch.from_numpy(scale)[:, None, None]
        self._offset = torch.from_numpy(shift)[:, None, None]
        self._augment = frozenset(augment)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self._labels)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """Return (inputs (n, c, h, w) float32 channels last, labels (n,))."""
        x = self._images[draw.indices]
        generator = torch.Generator().manual_seed(draw.seed % 2**63)
        if "shift" in self._augment:
            x = shifted(x, max(1, round(SHIFT * x.shape[2] / 28)), generator)
        if "flip" in self._augment:
            flips = torch.rand(len(x), generator=generator) < 0.5
            x = torch.where(flips[:, None, None, None], x.flip(3), x)
        x = x.float() * self._scale + self._offset
        return x.contiguous(memory_format=torch.channels_last), self._labels[draw.indices]


def shifted(x: Tensor, by: int, generator: torch.Generator) -> Tensor:
    """Move each picture of x (n, c, h, w) by up to `by` pixels in both directions, each by its own amount."""
    n, _, height, width = x.shape
    padded = functional.pad(x, (by, by, by, by))
    rows = torch.randint(0, 2 * by + 1, (n, 1), generator=generator) + torch.arange(height)
    columns = torch.randint(0, 2 * by + 1, (n, 1), generator=generator) + torch.arange(width)
    moved = padded[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # (n, h, w, c)
    return moved.permute(0, 3, 1, 2)


def steps_per_epoch(pictures: int, batch_size: int) -> int:
    """Return how many batches an epoch has."""
    return pictures // min(batch_size, pictures)


def batches(
    pictures: Pictures, preprocessing: Preprocessing, batch_size: int, seed: int, augment: Sequence[str] = ()
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Return a loader of augmented batches of `pictures`."""
    sampler = EpochSampler(len(pictures), batch_size, seed)
    # batch_size None: the sampler draws whole batches
    return DataLoader(Batches(pictures, preprocessing, augment), batch_size=None, sampler=sampler)
