"""Pictures with boxes, whatever form they are written in: checked, and made into a source."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge.data.lazy import opened
from nbedge.data.pictures import Pictures
from nbedge.data.records import DETECTION, Source, fingerprint
from nbedge.detection import padded
from nbedge.errors import InputError

LOG = logging.getLogger(__name__)
#: pixels that a box may reach beyond its picture, by rounding
BEYOND = 1.0


@dataclass(frozen=True, slots=True)
class Object:
    """One object in a picture: its class, left, top, right and bottom in pixels, and whether it counts neither way."""

    name: str
    box: tuple[float, float, float, float]
    ignored: bool = False


@dataclass(frozen=True, slots=True)
class Annotated:
    """One picture.

    Attributes:
        picture: its file.
        size: (width, height) in pixels, which the boxes are counted in.
        objects: what there is to find; nothing is fine.
        where: what says so, for errors.
    """

    picture: Path
    size: tuple[int, int]
    objects: tuple[Object, ...]
    where: str


Part = Sequence[Annotated]


def with_test(parts: dict[str, list[Any]], place: Path, form: str) -> dict[str, list[Any]]:
    """Return parts with one for the test: the validation part where there is none; of a lone part every fifth.

    Args:
        parts: by name: train, val and test, or "all".
        place: where they were looked for.
        form: how the file of a part is called, with PART in place of its name; for the error.

    Raises:
        InputError: there is nothing to train on, or to test with.
    """
    if "all" in parts:
        every = parts["all"]
        return {"train": [one for i, one in enumerate(every, 1) if i % 5], "test": every[4::5]}
    found = parts if "test" in parts else {("test" if name == "val" else name): part for name, part in parts.items()}
    for name in ("train", "test"):
        if name not in found:
            raise InputError(f"{place} has no {name} part; write {form.replace('PART', name)}")
    return found


def source_of(
    root: Path, train: Part, test: Part, validation: Part | None, shape: tuple[int, int, int],
    classes: tuple[str, ...] = (),
) -> Source:  # fmt: skip
    """Return the source of annotated pictures.

    Args:
        root: folder of the pictures.
        train: pictures of the training part.
        test: of the test part.
        validation: of the validation part; None where there is none.
        shape: (c, h, w) that pictures are resized to.
        classes: names, where the set lists them; empty: those of the training part.

    Raises:
        InputError: a part is empty or holds no boxes, a box lies outside its picture, or a class is unknown.
    """
    names = classes or tuple(sorted({thing.name for one in train for thing in one.objects}))
    listed = {"training": train, "validation": validation or (), "test": test}
    boxes = {part: [_boxes(one, names) for one in pictures] for part, pictures in listed.items()}
    _refuse_missing(root, names, boxes, validation is not None)
    _tell_dropped(root, listed, boxes)
    every = [one for part in listed.values() for one in part]

    def pictures(part: str) -> Pictures:
        paths = [one.picture for one in listed[part]]
        return Pictures(opened(root, paths, shape, len(every)), padded(boxes[part]))

    held = pictures("validation") if validation else None
    marks = fingerprint(sorted({one.picture for one in every} | {Path(one.where) for one in every}))
    return Source(pictures("training"), pictures("test"), names, marks, held, DETECTION)


def _boxes(one: Annotated, names: tuple[str, ...]) -> NDArray[np.float32]:
    """Return the boxes (m, 6) of a picture as shares of it, without those that have no area."""
    width, height = one.size
    found = []
    for thing in one.objects:
        if thing.name not in names:
            raise InputError(
                f"{one.where}: the class {thing.name!r} is none of {', '.join(names)}; rename or remove the object"
            )
        left, top, right, bottom = thing.box
        if min(left, top) < -BEYOND or right > width + BEYOND or bottom > height + BEYOND:
            raise InputError(
                f"{one.where}: the box {left:g}, {top:g}, {right:g}, {bottom:g} of a {thing.name} reaches out of its "
                f"picture of {width} x {height} pixels; correct it, or the size"
            )
        if right > left and bottom > top:
            row = (names.index(thing.name), left / width, top / height, right / width, bottom / height, thing.ignored)
            found.append(row)
    boxes = np.array(found, np.float32).reshape(-1, 6)
    boxes[:, 1:5] = np.clip(boxes[:, 1:5], 0, 1)
    return boxes


def _refuse_missing(
    root: Path, names: tuple[str, ...], boxes: dict[str, list[NDArray[np.float32]]], has_validation: bool
) -> None:  # fmt: skip
    for part, pictures in boxes.items():
        if part == "validation" and not has_validation:
            continue
        if not pictures:
            raise InputError(f"{root}: the {part} part has no pictures; list at least one")
        counted = Counter(int(row[0]) for picture in pictures for row in picture if not row[5])
        if not counted:
            raise InputError(f"{root}: none of the {len(pictures)} {part} pictures has a box; annotate some")
        missing = [name for number, name in enumerate(names) if part == "training" and not counted[number]]
        if missing:
            raise InputError(f"{root}: the {part} pictures hold no box of the class {missing[0]!r}")


def _tell_dropped(root: Path, listed: dict[str, Part], boxes: dict[str, list[NDArray[np.float32]]]) -> None:
    """Say how many boxes were left out because they have no area, and where the first of them is."""
    short = [
        (one.where, len(one.objects) - len(kept))
        for part, pictures in listed.items()
        for one, kept in zip(pictures, boxes[part], strict=True)
        if len(one.objects) > len(kept)
    ]
    if short:
        number = sum(count for _, count in short)
        LOG.warning("%s: %d boxes have no area and were left out, the first in %s", root, number, short[0][0])
