"""Task: what the outputs of a network mean, and how right they are. Numbers in, numbers out; no torch."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nbedge.detection import BOXES, SCORES, SHOWN, Precision, average_precision, decode, differing
from nbedge.detection.decoding import SIDES
from nbedge.detection.precision import Evaluated, loss
from nbedge.errors import InputError
from nbedge.evaluation import Accuracy, Outputs, judge, single, top_k

Labels = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Lost:
    """What a score became; fractions.

    Attributes:
        before: of the reference.
        after: of the candidate.
        error: standard error of their difference.
    """

    before: float
    after: float
    error: float


@dataclass(frozen=True, slots=True)
class Differing:
    """How many answers are others; `of` so many."""

    count: int
    of: int
    what: str


class Task(ABC):
    """One kind of answers. Every score is a fraction from 0 to 1, of which choices, gates and budgets speak in points.

    Attributes:
        name: as checkpoints, sidecars and sources call it.
        metric: name of the score that choices are made by.
        key: under which records keep it.
        additive: whether a score is a mean over pictures.
    """

    name: ClassVar[str]
    metric: ClassVar[str]
    key: ClassVar[str]
    additive: ClassVar[bool]

    @abstractmethod
    def unfit(self, outputs: Outputs, classes: int) -> str:
        """Return what is wrong with outputs of one picture for so many classes (0: any number); empty if nothing is."""

    @abstractmethod
    def score(self, outputs: Outputs, labels: Labels) -> float:
        """Return how right outputs (n, ...) are."""

    @abstractmethod
    def judge(
        self, outputs: Outputs, labels: Labels, classes: Sequence[str], reference: Outputs | None = None
    ) -> Accuracy | Precision:
        """Return all figures of outputs (n, ...), and how many answers differ from a reference if there is one."""

    @abstractmethod
    def differing(self, wanted: Outputs, found: Outputs) -> Mapping[str, Differing]:
        """Return by name of the output, or "" for all together, how many answers differ; nothing where none are told.

        The two have the same names.
        """

    @abstractmethod
    def told(self, outputs: Outputs, classes: Sequence[str]) -> Any:
        """Return what the outputs of one picture (1, ...) say, in plain JSON values."""

    @abstractmethod
    def truth(self, label: NDArray[Any], classes: Sequence[str]) -> Any:
        """Return what there is in one picture, likewise."""

    @abstractmethod
    def lost(self, wanted: Outputs, found: Outputs, labels: Labels) -> Lost | None:
        """Return how much less right one side is; None where the outputs are no answers."""


class Classification(Task):
    """One of several classes: the largest number of one output (n, classes)."""

    name = "classification"
    metric = "top-1"
    key = "top1"
    additive = True

    def unfit(self, outputs: Outputs, classes: int) -> str:
        """Refuse all but one vector."""
        found = {name: y.shape for name, y in outputs.items()}
        fits = len(found) == 1 and all(len(s) == 2 and classes in (0, s[1]) for s in found.values())
        if fits:
            return ""
        return f"gives {_shown(outputs)} for one picture; (1, {classes or 'outputs'}) is expected: one output a class"

    def score(self, outputs: Outputs, labels: Labels) -> float:
        """Return the share whose first answer is right."""
        return top_k(single(outputs), labels, 1)

    def judge(
        self, outputs: Outputs, labels: Labels, classes: Sequence[str], reference: Outputs | None = None
    ) -> Accuracy:
        """Return top-1, top-5 and confusion."""
        return judge(single(outputs), labels, tuple(classes), None if reference is None else single(reference))

    def differing(self, wanted: Outputs, found: Outputs) -> Mapping[str, Differing]:
        """Count other first answers, in each output that has any."""
        answered = {name: y for name, y in wanted.items() if _has_answers(y, found[name])}
        return {
            name: Differing(int((y.argmax(1) != found[name].argmax(1)).sum()), len(y), "inputs")
            for name, y in answered.items()
        }

    def told(self, outputs: Outputs, classes: Sequence[str]) -> str:
        """Return the name of the first answer."""
        return classes[int(single(outputs)[0].argmax())]

    def truth(self, label: NDArray[Any], classes: Sequence[str]) -> str:
        """Return the name of the class."""
        return classes[int(label)]

    def lost(self, wanted: Outputs, found: Outputs, labels: Labels) -> Lost | None:
        """Compare top-1; only pictures that change sides carry noise (McNemar), and their number gives the error."""
        if len(wanted) != 1 or not all(_has_answers(y, found[name]) for name, y in wanted.items()):
            return None
        before, after = (single(y).argmax(1) == labels for y in (wanted, found))
        error = float(np.sqrt((before != after).sum()) / len(labels))
        return Lost(float(before.mean()), float(after.mean()), error)


class Detection(Task):
    """Boxes: two maps, `scores` and `boxes`, see `nbedge.detection.decoding`."""

    name = "detection"
    metric = "mAP@0.5:0.95"
    key = "map"
    additive = False

    def unfit(self, outputs: Outputs, classes: int) -> str:
        """Refuse all but these two maps."""
        scores, boxes = outputs.get(SCORES), outputs.get(BOXES)
        if scores is not None and boxes is not None and len(outputs) == 2 and scores.ndim == boxes.ndim == 4:
            fits = classes in (0, scores.shape[1]) and boxes.shape[1] == SIDES and scores.shape[2:] == boxes.shape[2:]
            if fits:
                return ""
        number = classes or "classes"
        return (
            f"gives {_shown(outputs)} for one picture; {SCORES} (1, {number}, h, w) and {BOXES} (1, {SIDES}, h, w) are "
            "expected"
        )

    def score(self, outputs: Outputs, labels: Labels) -> float:
        """Return the mean average precision as COCO defines it, 0 where outputs are no numbers."""
        if not _finite(outputs):
            return 0.0
        return Evaluated(decode(outputs), labels, outputs[SCORES].shape[1]).score()

    def judge(
        self, outputs: Outputs, labels: Labels, classes: Sequence[str], reference: Outputs | None = None
    ) -> Precision:
        """Return mean average precisions."""
        found = decode(outputs)
        judged = average_precision(found, labels, classes)
        return judged if reference is None else replace(judged, flips=differing(decode(reference), found)[0])

    def differing(self, wanted: Outputs, found: Outputs) -> Mapping[str, Differing]:
        """Count boxes that one side has alone."""
        if not (_finite(wanted) and _finite(found)):
            return {}
        alone, of = differing(decode(wanted), decode(found))
        return {"": Differing(alone, of, "boxes of both")} if of else {}

    def told(self, outputs: Outputs, classes: Sequence[str]) -> list[dict[str, Any]]:
        """Return the boxes that are shown, the surest first."""
        (found,) = decode(outputs)
        shown = found.above(SHOWN)
        return [
            {"class": classes[number], "score": round(float(score), 4), "box": _rounded(box)}
            for box, number, score in zip(shown.boxes, shown.classes, shown.scores, strict=True)
        ]

    def truth(self, label: NDArray[Any], classes: Sequence[str]) -> list[dict[str, Any]]:
        """Return the boxes (most, 6) that are to be found."""
        rows = label[label[:, 0] >= 0]
        return [{"class": classes[int(row[0])], "box": _rounded(row[1:5])} for row in rows]

    def lost(self, wanted: Outputs, found: Outputs, labels: Labels) -> Lost | None:
        """Compare mean average precisions."""
        if not (_finite(wanted) and _finite(found)):
            return None
        before, after = (Evaluated(decode(y), labels, y[SCORES].shape[1]) for y in (wanted, found))
        return Lost(before.score(), after.score(), loss(before, after)[1])


def _rounded(box: NDArray[Any]) -> list[float]:
    """Return the sides of a box to a ten-thousandth of the picture."""
    return [round(float(side), 4) for side in box]


def _has_answers(wanted: NDArray[Any], found: NDArray[Any]) -> bool:
    """Return whether the outputs are numbers of which the largest is the answer."""
    comparable = wanted.shape == found.shape and bool(np.isfinite(wanted).all() and np.isfinite(found).all())
    return comparable and wanted.ndim == 2 and wanted.shape[1] > 1


def _finite(outputs: Outputs) -> bool:
    return all(bool(np.isfinite(y).all()) for y in outputs.values())


def _shown(outputs: Outputs) -> str:
    shapes = [f"{name} {y.shape}" for name, y in outputs.items()]
    return shapes[0].partition(" ")[2] if len(shapes) == 1 else ", ".join(shapes)


#: by name
TASKS: Mapping[str, Task] = {task.name: task for task in (Classification(), Detection())}
CLASSIFICATION, DETECTION = TASKS["classification"], TASKS["detection"]


def task_of(name: str) -> Task:
    """Return the task of a name; an empty one stands for classification.

    Raises:
        InputError: there is none of that name.
    """
    if name and name not in TASKS:
        raise InputError(f"no task is called {name!r}; this nbedge knows {', '.join(TASKS)}")
    return TASKS[name] if name else CLASSIFICATION


def scored(row: Mapping[str, Any]) -> tuple[str, float] | None:
    """Return the metric and the score of a record, whatever its task; None where it has none."""
    found = ((task.metric, row[task.key]) for task in TASKS.values() if row.get(task.key) is not None)
    return next(found, None)
