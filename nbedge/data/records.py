"""The source that holds labelled pictures, and the splits made of it."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nbedge.data.pictures import Pictures
from nbedge.data.stream import PictureStream
from nbedge.preprocessing import Images

#: what the pictures are labelled with: a class each, or boxes
CLASSIFICATION, DETECTION = "classification", "detection"


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """Four disjoint sets. Choices see validation only; the test set is read once, at the end.

    Attributes:
        train: what weights are fitted to.
        validation: what choices and gates see.
        calibration: what quantizers see.
        test: what is reported.
        classes: names, in label order.
        fingerprint: sha256 that changes with the pictures: of names, sizes and times, or of what the hub says.
        task: "classification", or "detection" where the labels are boxes.
    """

    train: Pictures | PictureStream
    validation: Pictures
    calibration: Pictures
    test: Pictures
    classes: tuple[str, ...]
    fingerprint: str
    task: str = CLASSIFICATION

    def to_learn(self, count: int) -> Iterator[Images]:
        """Yield training pictures (n, h, w, c), evenly spaced, `count` in all at most; read when they are asked for."""
        images = self.train.sample()
        number = min(count, len(images))
        yield images[np.arange(number) * len(images) // max(1, number)]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What a data source holds before it is split; `validation` is None where the source has no such part."""

    train: Pictures | PictureStream
    test: Pictures
    classes: tuple[str, ...]
    fingerprint: str
    validation: Pictures | None = None
    task: str = CLASSIFICATION


def fingerprint(sources: list[Path]) -> str:
    """Return the sha256 over names, sizes and times of `sources`: data are identified without being read."""
    rows = (f"{s.parent.name}/{s.name}:{s.stat().st_size}:{s.stat().st_mtime_ns}" for s in sources)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()
