"""Boxes: those that are to be found, as one array of all pictures, and those that were found in one picture.

Coordinates are shares of the picture's width and height, from 0 at the left and top to 1: a box says the same of a
picture of any size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
#: columns of a box that is to be found: class, left, top, right, bottom, and 1 where it counts neither way
COLUMNS = 6
#: class of the rows that fill up pictures with fewer boxes
NONE = -1


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What was found in one picture, the surest first.

    Attributes:
        boxes: (k, 4) left, top, right, bottom.
        classes: (k,) numbers.
        scores: (k,) from 0 to 1.
    """

    boxes: Floats
    classes: NDArray[np.int64]
    scores: Floats

    def __len__(self) -> int:
        """Return how many."""
        return len(self.scores)

    def above(self, score: float) -> "Detections":
        """Return those of at least this score."""
        kept = self.scores >= score
        return Detections(self.boxes[kept], self.classes[kept], self.scores[kept])


def padded(pictures: Sequence[Floats]) -> Floats:
    """Return the boxes of all pictures, (m, 6) each, as one array (n, most, 6); rows of class -1 fill it up."""
    most = max([1, *map(len, pictures)])
    found = np.zeros((len(pictures), most, COLUMNS), np.float32)
    found[:, :, 0] = NONE
    for row, boxes in enumerate(pictures):
        found[row, : len(boxes)] = boxes
    return found


def rarest(labels: Floats) -> NDArray[np.int64]:
    """Return for each picture of `labels` (n, most, 6) the class in it that is rarest in all of them; -1 for none."""
    classes = labels[:, :, 0].astype(np.int64)
    names, counts = np.unique(classes[classes != NONE], return_counts=True)
    order = names[np.argsort(counts, kind="stable")]
    found = np.full(len(labels), NONE, np.int64)
    for name in order[::-1]:
        found[(classes == name).any(1)] = name
    return found


def overlaps(boxes: Floats, others: Floats) -> Floats:
    """Return intersection over union of boxes (k, 4) and (m, 4), as (k, m); 0 where both have no area."""
    left_top = np.maximum(boxes[:, None, :2], others[None, :, :2])
    right_bottom = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(right_bottom - left_top, 0, None).prod(2)
    together = _areas(boxes)[:, None] + _areas(others)[None] - shared
    return np.asarray(np.divide(shared, together, out=np.zeros_like(shared), where=together > 0), np.float32)


def _areas(boxes: Floats) -> Floats:
    return np.asarray(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(1), np.float32)
