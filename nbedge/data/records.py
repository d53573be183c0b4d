"""Labelled pictures, the source that holds them, and the splits made of them."""

import hashlib
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: what a reader of a damaged file raises
BROKEN = (ValueError, OSError, EOFError, IndexError, struct.error, zlib.error)


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Pictures (n, h, w, c) uint8 and their labels (n,) int64."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> "Pictures":
        """Return the pictures at `indices`, in that order."""
        return Pictures(self.images[indices], self.labels[indices])


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """Four disjoint sets. Choices see validation only; the test set is read once, at the end.

    Attributes:
        train: what weights are fitted to.
        validation: what choices and gates see.
        calibration: what quantizers see.
        test: what is reported.
        classes: names, in label order.
        fingerprint: sha256 of the sources' names, sizes and times.
    """

    train: Pictures
    validation: Pictures
    calibration: Pictures
    test: Pictures
    classes: tuple[str, ...]
    fingerprint: str


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What a data source holds before it is split; `validation` is None where the source has no such part."""

    train: Pictures
    test: Pictures
    classes: tuple[str, ...]
    fingerprint: str
    validation: Pictures | None = None


def fingerprint(sources: list[Path]) -> str:
    """Return the sha256 over names, sizes and times of `sources`: data are identified without being read."""
    rows = (f"{s.parent.name}/{s.name}:{s.stat().st_size}:{s.stat().st_mtime_ns}" for s in sources)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def statistics(images: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return (mean, std) per channel in [0, 1] units, rounded to 4 digits, of `images` (n, h, w, c)."""
    flat = images.reshape(-1, images.shape[-1])
    mean, std = flat.mean(0, dtype=np.float64) / 255, flat.std(0, dtype=np.float64) / 255
    return tuple(round(float(v), 4) for v in mean), tuple(max(round(float(v), 4), 1e-4) for v in std)
