"""`nbedge predict`: what one model says of one picture."""

from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from nbedge import files
from nbedge.cli.evaluate import answers
from nbedge.cli.screen import Screen, percent, refuse_given, with_screen
from nbedge.cli.subject import ModelOptions, model_options, open_subject
from nbedge.errors import InputError, needs
from nbedge.subject import Subject


@click.command(name="predict")
@click.argument("name", metavar="FILE")
@click.argument("picture_file", metavar="PICTURE", type=click.Path(path_type=Path))
@click.option("--top", default=5, show_default=True, type=click.IntRange(min=1), help="How many answers.")
@click.option(
    "--score", default=0.3, show_default=True, type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Lowest score of a box that is shown.",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="Draw the boxes into the picture, a .png file.")
@click.option("--overwrite", is_flag=True, help="Replace it.")
@model_options
@with_screen
def command(
    screen: Screen, options: ModelOptions, name: str, picture_file: Path, top: int, score: float, out: Path | None,
    overwrite: bool,
) -> None:  # fmt: skip
    """Print what FILE (checkpoint, .onnx, .tflite or .pte) says of PICTURE: the first answers, or the boxes."""
    with needs("train"):
        from nbedge.data import picture
        from nbedge.task import DETECTION, task_of
    subject = open_subject(name, options)
    outputs = answers(subject, picture(picture_file, subject.pictured())[None])
    detects = subject.task == DETECTION.name or (not subject.task and not DETECTION.unfit(outputs, 0))
    wrong = (DETECTION if detects else task_of("")).unfit(outputs, 0)
    if wrong:
        raise InputError(f"{name} {wrong}: what it says cannot be told")
    if detects:
        refuse_given(("top",), f"{name} finds boxes")
        found = _boxes(screen, subject, outputs, score)
        if out:
            _draw(picture_file, found, _names(subject, outputs), out, overwrite)
            screen.say(f"{out}: {len(found)} boxes drawn")
    else:
        refuse_given(("score", "out", "overwrite"), f"{name} finds no boxes")
        found = _classes(screen, subject, next(iter(outputs.values()))[0].astype(np.float64), top)
    screen.result({"file": name, "picture": str(picture_file), "answers": found, **({"out": str(out)} if out else {})})


def _classes(screen: Screen, subject: Subject, logits: NDArray[np.float64], top: int) -> list[dict[str, Any]]:
    shares = probabilities(logits)
    order = np.argsort(-shares, kind="stable")[:top]
    labels = [subject.classes[i] if subject.classes else f"output {i}" for i in order]
    screen.table(
        "", ("answer", "probability"), [(label, percent(shares[i])) for label, i in zip(labels, order, strict=True)]
    )
    return [{"class": label, "probability": float(shares[i])} for label, i in zip(labels, order, strict=True)]


def _boxes(screen: Screen, subject: Subject, outputs: Any, score: float) -> list[dict[str, Any]]:
    """Print the boxes, and return them in shares of the picture."""
    from nbedge.detection import Decoding, decode

    classes = _names(subject, outputs)
    (found,) = decode(outputs, Decoding(score=score))
    listed = [
        {"class": classes[number], "score": float(value), "box": [float(side) for side in box]}
        for box, number, value in zip(found.boxes, found.classes, found.scores, strict=True)
    ]
    rows = [(one["class"], percent(one["score"]), *(percent(side) for side in one["box"])) for one in listed]
    screen.table("", ("class", "score", "left", "top", "right", "bottom"), rows)
    return listed


def _names(subject: Subject, outputs: Any) -> tuple[str, ...]:
    from nbedge.detection import SCORES

    return subject.classes or tuple(f"class {i}" for i in range(outputs[SCORES].shape[1]))


def _draw(
    picture_file: Path, found: list[dict[str, Any]], classes: tuple[str, ...], out: Path, overwrite: bool
) -> None:  # fmt: skip
    from nbedge.detection.drawing import drawn

    if out.suffix.lower() != ".png":
        raise InputError(f"{out} is to be a picture; call it NAME.png")
    files.refuse_existing_file(out, overwrite)
    files.write_bytes(out, drawn(picture_file, found, classes))


def probabilities(outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the softmax of outputs (k,), or the outputs themselves where the model has taken it already."""
    # an int8 softmax is off by up to half a step of 1/256 in each output
    if outputs.min() >= 0 and abs(outputs.sum() - 1) <= len(outputs) / 512:
        return outputs
    shares = np.exp(outputs - outputs.max())
    return np.asarray(shares / shares.sum())
