"""`nbedge predict`: what one model says of one picture."""

from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from nbedge.cli.evaluate import answers
from nbedge.cli.screen import Screen, percent, with_screen
from nbedge.cli.subject import ModelOptions, model_options, open_subject
from nbedge.errors import needs


@click.command(name="predict")
@click.argument("name", metavar="FILE")
@click.argument("picture_file", metavar="PICTURE", type=click.Path(path_type=Path))
@click.option("--top", default=5, show_default=True, type=click.IntRange(min=1), help="How many answers.")
@model_options
@with_screen
def command(screen: Screen, options: ModelOptions, name: str, picture_file: Path, top: int) -> None:
    """Print the first answers of FILE (checkpoint, .onnx, .tflite or .pte) to PICTURE."""
    with needs("train"):
        from nbedge.data import picture
    subject = open_subject(name, options)
    image = picture(picture_file, subject.pictured())
    logits = answers(subject, image[None])[0].astype(np.float64)
    shares = probabilities(logits)
    order = np.argsort(-shares, kind="stable")[:top]
    labels = [subject.classes[i] if subject.classes else f"output {i}" for i in order]
    found = [{"class": label, "probability": float(shares[i])} for label, i in zip(labels, order, strict=True)]
    screen.table(
        "", ("answer", "probability"), [(label, percent(shares[i])) for label, i in zip(labels, order, strict=True)]
    )
    screen.result({"file": name, "picture": str(picture_file), "answers": found})


def probabilities(outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the softmax of outputs (k,), or the outputs themselves where the model has taken it already."""
    # an int8 softmax is off by up to half a step of 1/256 in each output
    if outputs.min() >= 0 and abs(outputs.sum() - 1) <= len(outputs) / 512:
        return outputs
    shares = np.exp(outputs - outputs.max())
    return np.asarray(shares / shares.sum())
