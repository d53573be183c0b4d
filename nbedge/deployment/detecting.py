"""What a detector's folder for a microcontroller holds beside the network: C that makes boxes of its outputs."""

import json
from collections.abc import Callable
from pathlib import Path

from nbedge.artifact import TensorSpec
from nbedge.deployment.contents import write_templates
from nbedge.deployment.micro import Subject
from nbedge.detection import BOXES, SCORES
from nbedge.errors import InputError
from nbedge.runtime.tflite import output_places
from nbedge.task import DETECTION

TEMPLATES = ("NAME_boxes.h", "NAME_boxes.c")
#: numpy name of a type -> C's
_TYPES = {"int8": "int8_t", "int16": "int16_t", "float32": "float"}


def write_boxes(subject: Subject, folder: Path, place: Callable[[int], str]) -> str:
    """Write NAME_boxes.h and NAME_boxes.c, and return what is to be known of them; nothing for other networks.

    Args:
        subject: the file.
        folder: where to.
        place: returns where the output of a number, in the order of the file, is found; for people.

    Raises:
        InputError: the outputs are not those of a detector, cell by cell.
    """
    if subject.sidecar is None or subject.sidecar.task != DETECTION.name:
        return ""
    specs = {spec.name: spec for spec in subject.runner.outputs}
    if set(specs) != {SCORES, BOXES} or any(len(spec.shape) != 4 for spec in specs.values()):
        raise InputError(
            f"{subject.path} has the outputs {', '.join(specs)}, not {SCORES} and {BOXES}; export it again"
        )
    scores, boxes = specs[SCORES], specs[BOXES]
    _, rows, columns, classes = scores.shape
    places, name = output_places(subject.path), subject.name
    words = {
        "name": name, "NAME": name.upper(), "source": subject.path.name, "rows": str(rows), "columns": str(columns),
        "classes": str(classes), "labels": ", ".join(map(json.dumps, subject.sidecar.classes)),
        "scores_type": _TYPES[scores.dtype], "boxes_type": _TYPES[boxes.dtype],
        "scores_place": place(places[SCORES]), "boxes_place": place(places[BOXES]),
        "scores_real": _real(scores, f"scores[cell * {name.upper()}_CLASSES + label]"),
        "boxes_real": _real(boxes, "boxes[cell * 4 + side]"),
    }  # fmt: skip
    write_templates("detection", {file: file.replace("NAME", name) for file in TEMPLATES}, folder, words)
    return f"{name}_boxes.h says how its outputs become boxes"


def _real(spec: TensorSpec, value: str) -> str:
    """Return the C of the real value of an integer, or of a float itself."""
    return f"(float)({value} - ({spec.zero_point})) * {spec.scale:.9g}f" if spec.scale else value
