"""Mean average precision, as COCO defines it, by pycocotools."""

import contextlib
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge.detection.boxes import NONE, Detections, Floats
from nbedge.errors import needs

#: groups of pictures that are left out in turn, to learn how much a precision depends on single pictures
GROUPS = 20


@dataclass(frozen=True, slots=True)
class Precision:
    """Mean average precision on `pictures` pictures; all fractions in [0, 1].

    Attributes:
        pictures: how many.
        boxes: to be found in them.
        map: mean over classes and over the overlaps 0.5, 0.55 to 0.95 from which a box counts as found.
        map50: mean over classes, at an overlap of 0.5.
        per_class: class name -> average precision over all overlaps; nan for a class without boxes.
        map_error: standard error of `map`, by a jackknife; nan where it tells none.
        flips: boxes that the reference has not, or it alone; None without a reference.
    """

    pictures: int
    boxes: int
    map: float
    map50: float
    per_class: dict[str, float]
    map_error: float = math.nan
    flips: int | None = None


def average_precision(found: Sequence[Detections], labels: Floats, classes: Sequence[str]) -> Precision:
    """Judge what was found in n pictures.

    Args:
        found: of each picture.
        labels: (n, most, 6), see `nbedge.detection.boxes`.
        classes: names.

    Raises:
        MissingDependencyError: pycocotools is not installed.
    """
    evaluated = Evaluated(found, labels, len(classes))
    table = evaluated.table()
    per_class = {name: _mean(table[:, number]) for number, name in enumerate(classes)}
    error = _jackknife(len(found), evaluated.score)
    return Precision(len(found), evaluated.boxes, _mean(table), _mean(table[0]), per_class, error)


class Evaluated:
    """The matches of pycocotools, made once, of which precisions of any pictures are taken."""

    def __init__(self, found: Sequence[Detections], labels: Floats, classes: int) -> None:
        with needs("detect"):
            from pycocotools.coco import COCO
            from pycocotools.cocoeval import COCOeval
        self.pictures = len(found)
        truth = _annotations(labels)
        self.boxes = sum(not row["iscrowd"] for row in truth)
        with contextlib.redirect_stdout(io.StringIO()):  # it tells what it does
            sides = [_indexed(COCO(), rows, len(found), classes) for rows in (truth, _results(found))]
            self._judge = COCOeval(*sides, "bbox")
            self._judge.params.areaRng, self._judge.params.areaRngLbl = [[0, 1e10]], ["all"]
            self._judge.params.maxDets = [100]
            self._judge.evaluate()

    def table(self, pictures: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Return average precisions (overlaps, classes) over some pictures, or all; -1 where there is nothing to find.

        Overlaps are 0.5, 0.55 to 0.95.
        """
        every, params = np.arange(self.pictures), self._judge.params
        # pycocotools takes pictures by their places in this list, and leaves out what it does not know
        params.imgIds = (every if pictures is None else np.where(np.isin(every, pictures), every, -1)).tolist()
        with contextlib.redirect_stdout(io.StringIO()):
            self._judge.accumulate(params)
        precision = np.asarray(self._judge.eval["precision"])[:, :, :, 0, 0]  # overlaps, recalls, classes
        return np.where((precision < 0).all(1), -1, precision.mean(1))

    def score(self, pictures: NDArray[np.int64] | None = None) -> float:
        """Return the mean average precision over some pictures, or all."""
        return _mean(self.table(pictures))


def loss(before: Evaluated, after: Evaluated) -> tuple[float, float]:
    """Return how much precision is lost from one side to the other, and the standard error of that, by a jackknife."""
    error = _jackknife(before.pictures, lambda some: before.score(some) - after.score(some))
    return before.score() - after.score(), error


def _jackknife(pictures: int, score: Callable[[NDArray[np.int64]], float]) -> float:
    """Return the standard error of a score; nan of a single picture, or if all there is to find is in one group.

    A delete-a-group jackknife over at most 20 groups of pictures (Efron and Tibshirani, 1993, chapter 11): a precision
    is no mean over pictures, so that no formula gives its error.
    """
    groups = np.array_split(np.random.default_rng(0).permutation(pictures), min(GROUPS, pictures))
    number = len(groups)
    if number < 2:
        return math.nan
    rest = [np.sort(np.concatenate([*groups[:i], *groups[i + 1 :]])) for i in range(number)]
    parts = np.array([score(some) for some in rest])
    return float(math.sqrt((number - 1) / number * np.square(parts - parts.mean()).sum()))


def _mean(values: NDArray[np.float64]) -> float:
    """Return the mean of what is no -1, pycocotools' sign of a class that has no boxes."""
    return float(values[values > -1].mean()) if (values > -1).any() else math.nan


def _indexed(side: Any, rows: list[dict[str, Any]], pictures: int, classes: int) -> Any:
    side.dataset = {
        "images": [{"id": number} for number in range(pictures)],
        "categories": [{"id": number} for number in range(classes)],
        "annotations": [{**row, "id": number} for number, row in enumerate(rows, 1)],
    }
    side.createIndex()
    return side


def _annotations(labels: Floats) -> list[dict[str, Any]]:
    return [
        {"image_id": picture, "category_id": int(row[0]), **_box(row[1:5]), "iscrowd": int(row[5]),
         "ignore": int(row[5])}
        for picture, rows in enumerate(labels) for row in rows if row[0] != NONE
    ]  # fmt: skip


def _results(found: Sequence[Detections]) -> list[dict[str, Any]]:
    return [
        {"image_id": picture, "category_id": int(number), **_box(box), "score": float(score), "iscrowd": 0}
        for picture, one in enumerate(found)
        for box, number, score in zip(one.boxes, one.classes, one.scores, strict=True)
    ]


def _box(corners: Floats) -> dict[str, Any]:
    left, top, right, bottom = map(float, corners)
    return {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
