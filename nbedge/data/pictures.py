"""Labelled pictures that can be picked by number, in memory or decoded when they are asked for."""

import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge.detection import rarest
from nbedge.preprocessing import Images

#: a class (n,) int64, or boxes (n, most, 6) float32
Labels = NDArray[Any]

#: what a reader of a damaged file raises
BROKEN = (ValueError, OSError, EOFError, IndexError, struct.error, zlib.error)
#: pictures that are measured where decoding all would take minutes; their mean is then right to about 0.003
SAMPLE = 10_000
#: pictures decoded at a time where only their histogram is kept
CHUNK = 500


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Pictures (n, h, w, c) uint8, an array or decoded on access, and what they are labelled with.

    Attributes:
        images: the pixels.
        labels: a class (n,) int64, or boxes (n, most, 6) float32, see `nbedge.detection.boxes`.
    """

    images: Images
    labels: Labels

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """The (c, h, w) of every picture."""
        return (*self.images.shape[3:], *self.images.shape[1:3])

    def take(self, indices: NDArray[np.int64]) -> "Pictures":
        """Return the pictures at `indices`, in that order; what is decoded on access stays so."""
        return Pictures(self.images.take(indices, axis=0), self.labels[indices])

    def read(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.uint8], Labels]:
        """Return the pixels (n, h, w, c) and the labels (n, ...) at `indices`.

        Raises:
            InputError: a picture file is broken.
        """
        return self.images[indices], self.labels[indices]

    def sample(self) -> Images:
        """Return the pictures that stand for all where pixels are measured: all that are in memory, else `SAMPLE`."""
        if isinstance(self.images, np.ndarray) or len(self) <= SAMPLE:
            return self.images
        return self.images.take(np.sort(np.random.default_rng(0).permutation(len(self))[:SAMPLE]), axis=0)

    def spread(self, count: int) -> "Pictures":
        """Return at most `count` pictures, evenly spaced: folders lie class by class, so the first ones are of one."""
        number = min(count, len(self))
        return self.take(np.arange(number) * len(self) // max(1, number))

    def split(self, count: int, rng: np.random.Generator) -> "tuple[Pictures, Pictures]":
        """Draw about `count` pictures, the same share of every class; return (drawn, rest), both in file order.

        Pictures with boxes count to the class among theirs that is rarest.
        """
        share = count / len(self)
        classes = self.labels if self.labels.ndim == 1 else rarest(self.labels)
        drawn: list[NDArray[np.int64]] = []
        for label in np.unique(classes):
            members = np.flatnonzero(classes == label)
            drawn.append(rng.permutation(members)[: max(1, round(share * len(members)))])
        chosen = np.sort(np.concatenate(drawn))
        rest = np.setdiff1d(np.arange(len(self)), chosen)
        return self.take(chosen), self.take(rest)


def statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return (mean, std) per channel in [0, 1] units, rounded to 4 digits, of `images` (n, h, w, c)."""
    counts = sum(_histograms(images[start : start + CHUNK]) for start in range(0, len(images), CHUNK))
    values, shares = np.arange(256) / 255, counts / np.sum(counts, axis=1, keepdims=True)
    mean = shares @ values
    std = np.sqrt((shares * (values - mean[:, None]) ** 2).sum(1))
    return tuple(round(float(v), 4) for v in mean), tuple(max(round(float(v), 4), 1e-4) for v in std)


def _histograms(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return how often each channel of (n, h, w, c) has each value, (c, 256)."""
    return np.stack([np.bincount(channel.ravel(), minlength=256) for channel in np.moveaxis(images, 3, 0)])
