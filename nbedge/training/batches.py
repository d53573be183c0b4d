"""Batches that are a pure function of (seed, epoch, number): a resumed run sees what the undisturbed one saw.

A batch is drawn for all processes together, and each takes its part of it; on how many processes a run goes on, or in
how many worker processes pictures are decoded, changes no batch. Streamed pictures are the exception: every process
reads its own part of the stream, so the number of processes is part of what fixes a batch.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from nbedge.data import Pictures, PictureStream
from nbedge.detection.moving import flipped_boxes, moved_boxes
from nbedge.errors import InputError
from nbedge.preprocessing import Preprocessing
from nbedge.training.sampling import Draw, EpochSampler, Place, permuted, streamed

AUGMENTATIONS = ("shift", "flip")
SHIFT = 2  # pixels, on 28x28; larger pictures shift in proportion


Batch = tuple[Tensor, Tensor]


class Batches(Dataset[Any]):
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

    def __getitem__(self, draw: Draw) -> Batch | InputError:
        """Return (inputs (n, c, h, w) float32 channels last, labels (n, ...)), or what `Loader` is to raise."""
        try:
            images, labels = self._pictures.read(draw.picked)
        except InputError as error:
            return error
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2)  # NCHW, channels last in memory
        x, wanted = self._augmented(pixels, torch.from_numpy(labels), draw)
        x = x.float() * self._scale + self._offset
        return x.contiguous(memory_format=torch.channels_last), wanted

    def _augmented(self, x: Tensor, labels: Tensor, draw: Draw) -> Batch:
        """Augment x; what is random is drawn for the whole batch, so that its pictures are those of one process.

        Boxes go with their pictures; a class stays what it is.
        """
        generator = torch.Generator().manual_seed(draw.seed % 2**63)
        if "shift" in self._augment:
            by = max(1, round(SHIFT * x.shape[2] / 28))
            down, right = (steps[draw.rows] for steps in moves(draw.size, by, generator))
            x = moved(x, by, down, right)
            if labels.ndim > 1:
                labels = moved_boxes(labels, (by - right) / x.shape[3], (by - down) / x.shape[2])
        if "flip" in self._augment:
            flips = (torch.rand(draw.size, generator=generator) < 0.5)[draw.rows]
            x = torch.where(flips[:, None, None, None], x.flip(3), x)
            if labels.ndim > 1:
                labels = torch.where(flips[:, None, None], flipped_boxes(labels), labels)
        return x, labels


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


class Loader(DataLoader[Batch]):
    """Raise what went wrong in a worker process as it was raised there, where torch would show its traceback."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Yield batches.

        Raises:
            InputError: a picture is broken, a stream cannot be read, or processes cannot share a batch equally.
        """
        for batch in super().__iter__():
            if isinstance(batch, InputError):
                # a new one: `batch` would be kept alive by its own traceback, and the workers with it
                raise InputError(str(batch))
            yield batch


def batches(
    pictures: Pictures | PictureStream,
    preprocessing: Preprocessing,
    batch_size: int,
    seed: int,
    augment: Sequence[str] = (),
    *,
    workers: int = 0,
    place: Place | None = None,
) -> DataLoader[Batch]:
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
