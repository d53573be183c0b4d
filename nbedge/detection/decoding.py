"""From a detector's outputs to boxes: a grid of cells, each of which may be the centre of an object.

A detector of this package answers two maps of h x w cells that cover the picture:

* `scores` (n, classes, h, w): logits; their sigmoid says how surely the centre of an object of a class is in a cell
  (the heat map of CenterNet, arXiv 1904.07850).
* `boxes` (n, 4, h, w): how far the box around that object reaches from the middle of the cell to the left, top, right
  and bottom, in cells; below 0 counts as 0 (TTFNet, arXiv 1909.00700).

There are no anchors, and the numbers depend on no size of picture. The same is done in C (`deployment/templates/tflm`)
and in JavaScript (`deployment/templates/web`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge.detection.boxes import Detections, Floats, overlaps

#: names of the outputs
SCORES, BOXES = "scores", "boxes"
#: sides of a box: left, top, right, bottom
SIDES = 4
#: lowest score of a box that is shown to people
SHOWN = 0.3

Outputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Decoding:
    """How outputs become boxes.

    Attributes:
        score: lowest score of a box. As low as 0.05, for a precision is taken over all scores.
        overlap: intersection over union above which the weaker of two boxes of one class is left out.
        most: boxes in a picture, as COCO counts them.
    """

    score: float = 0.05
    overlap: float = 0.5
    most: int = 100


def decode(outputs: Outputs, how: Decoding | None = None) -> list[Detections]:
    """Return what a detector found in each of n pictures.

    Args:
        outputs: "scores" (n, classes, h, w) and "boxes" (n, 4, h, w), real values.
        how: which boxes are kept.
    """
    how = how or Decoding()
    found = zip(outputs[SCORES], outputs[BOXES], strict=True)
    return [_picture(scores.astype(np.float32), boxes.astype(np.float32), how) for scores, boxes in found]


def _picture(scores: Floats, sides: Floats, how: Decoding) -> Detections:
    """Decode one picture: logits (classes, h, w), sides (4, h, w)."""
    least = np.float32(math.log(how.score / (1 - how.score)))  # compared before the sigmoid, as in C
    classes, rows, columns = np.nonzero(scores >= least)
    logits = scores[classes, rows, columns]
    order = np.argsort(-logits, kind="stable")
    classes, rows, columns, logits = classes[order], rows[order], columns[order], logits[order]
    boxes = around(sides[:, rows, columns].T, rows, columns, scores.shape[1:])
    kept = suppressed(boxes, classes, how)
    return Detections(boxes[kept], classes[kept].astype(np.int64), sigmoid(logits[kept]))


def around(
    sides: Floats, rows: NDArray[np.int64], columns: NDArray[np.int64], grid: tuple[int, ...]
) -> Floats:  # fmt: skip
    """Return the boxes (k, 4) that reach `sides` (k, 4) cells from the middle of their cells, within the picture."""
    height, width = grid
    x, y = columns.astype(np.float32) + 0.5, rows.astype(np.float32) + 0.5
    left, top, right, bottom = np.maximum(sides, 0).T
    corners = [(x - left) / width, (y - top) / height, (x + right) / width, (y + bottom) / height]
    return np.asarray(np.clip(np.stack(corners, 1), 0, 1), np.float32)


def suppressed(boxes: Floats, classes: NDArray[np.int64], how: Decoding) -> list[int]:
    """Return the numbers of the boxes (k, 4), the surest first, that no surer box of their class overlaps too much."""
    left, kept = np.arange(len(boxes)), list[int]()
    while len(left) and len(kept) < how.most:
        first, others = left[0], left[1:]
        kept.append(int(first))
        same = classes[others] == classes[first]
        left = others[~same | (overlaps(boxes[first][None], boxes[others])[0] <= how.overlap)]
    return kept


def sigmoid(logits: Floats) -> Floats:
    """Return 1 / (1 + e^-x)."""
    return np.asarray(1 / (1 + np.exp(-logits)), np.float32)
