"""Augmented batches, made on the device that holds the pictures: a pure function of (seed, step)."""

import torch
from torch import Tensor
from torch.nn import functional

from effect.pictures import Dataset, Part
from nbedge.training.batches import SHIFT
from nbedge.training.sampling import steps_per_epoch

#: pictures of one pass where no gradient is needed
PASS = 1000


class Feeder:
    """The training pictures of a dataset with a border, and the draws of the epoch at hand.

    What is random is drawn on the CPU for a whole epoch, so that it is the same on every device.
    """

    def __init__(self, dataset: Dataset, seed: int, size: int) -> None:
        """Take the pictures; `size` is that of a batch, or that of all pictures where they are fewer."""
        part = dataset.train
        self.size, self.each = min(size, len(part)), steps_per_epoch(len(part), size)
        self._dataset, self._seed, self._epoch = dataset, seed, -1
        self._by = max(1, round(SHIFT * part.images.shape[1] / 28))
        self._padded = functional.pad(part.images, (0, 0, self._by, self._by, self._by, self._by))
        self._across = torch.arange(part.images.shape[1], device=part.images.device)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the inputs (n, c, h, w) float32, channels last, and the labels (n,) of `step`."""
        epoch, number = divmod(step, self.each)
        if epoch != self._epoch:
            self._draw(epoch)
        rows = slice(number * self.size, (number + 1) * self.size)
        picked = self._order[rows]
        down, right = (moves[rows, None] + self._across for moves in (self._down, self._right))
        right = torch.where(self._flip[rows, None], right.flip(1), right)  # mirrored columns
        images = self._padded[picked[:, None, None], down[:, :, None], right[:, None, :]]
        return normalised(self._dataset, images), self._dataset.train.labels[picked]

    def _draw(self, epoch: int) -> None:
        count, steps = len(self._dataset.train), 2 * self._by + 1
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
        device = self._padded.device
        self._order = torch.randperm(count, generator=generator).to(device)
        self._down, self._right = (torch.randint(steps, (count,), generator=generator).to(device) for _ in range(2))
        self._flip = (torch.rand(count, generator=generator) < 0.5).to(device)
        self._epoch = epoch


def normalised(dataset: Dataset, images: Tensor) -> Tensor:
    """Return images (n, h, w, c) uint8 as inputs (n, c, h, w) float32, channels last in memory."""
    return (images * dataset.scale + dataset.shift).permute(0, 3, 1, 2)


@torch.no_grad()
def accuracy(model: torch.nn.Module, dataset: Dataset, part: Part) -> float:
    """Return the share of `part` that `model`, in eval mode on the dataset's device, answers right."""
    right = torch.zeros((), dtype=torch.int64, device=part.labels.device)
    for start in range(0, len(part), PASS):
        x = normalised(dataset, part.images[start : start + PASS])
        right += (model(x).argmax(1) == part.labels[start : start + PASS]).sum()
    return right.item() / len(part)
