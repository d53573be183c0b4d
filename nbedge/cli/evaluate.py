"""`nbedge evaluate`: accuracy of checkpoints and exported files on labelled pictures."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from nbedge.cli.screen import DASH, Screen, percent, with_screen
from nbedge.cli.subject import ModelOptions, model_options, open_subject
from nbedge.errors import InputError, needs
from nbedge.subject import Subject, refuse_other_classes

if TYPE_CHECKING:
    from nbedge.data import Source
    from nbedge.evaluation import Accuracy


@click.command(name="evaluate")
@click.argument("names", metavar="FILE...", nargs=-1, required=True)
@click.option("--data", required=True, metavar="DATA", help="Labelled pictures; their test part is used.")
@click.option("--reference", metavar="FILE", help="Count the answers that differ from this one's.")
@model_options
@with_screen
def command(screen: Screen, options: ModelOptions, names: tuple[str, ...], data: str, reference: str | None) -> None:
    """Measure top-1 and top-5, per class, of each FILE: checkpoint, .onnx, .tflite or .pte."""
    with needs("train"):
        from nbedge.data import read
        from nbedge.evaluation import judge
    subjects = [open_subject(name, options) for name in names]
    base = open_subject(reference, options) if reference else None
    for subject in (*subjects, *([base] if base else [])):
        if subject.shape != subjects[0].shape:
            raise InputError(
                f"{subject.name} takes pictures of {subject.shape}, {subjects[0].name} of {subjects[0].shape}; "
                "evaluate them one by one"
            )
    source = read(data, subjects[0].pictured())
    wanted = _logits(base, source, data) if base else None
    found: dict[str, Accuracy] = {}
    for name, subject in zip(names, subjects, strict=True):
        found[name] = judge(_logits(subject, source, data), source.test.labels, source.classes, wanted)
    _show(screen, found, source.classes)
    screen.result({"data": data, "rows": [{"file": name, **asdict(a)} for name, a in found.items()]})


def answers(subject: Subject, images: Any) -> Any:
    """Return logits (n, classes) of pictures (n, h, w, c)."""
    from torch import nn

    from nbedge.evaluation import logits_of_module
    from nbedge.runtime import answer_pictures

    if isinstance(subject.model, nn.Module):
        return logits_of_module(subject.model, images, subject.prepared())
    return answer_pictures(subject.model, images, subject.prepared())


def _logits(subject: Subject, source: "Source", data: str) -> Any:
    classes = source.classes
    refuse_other_classes(subject, classes, data)
    logits = answers(subject, source.test.images)
    if logits.shape[1:] != (len(classes),):
        raise InputError(
            f"{subject.name} gives {logits.shape[1:]} outputs for a picture, {data} has {len(classes)} classes; "
            "set the outputs with --model-args, or choose other data"
        )
    return logits


def _show(screen: Screen, found: "dict[str, Accuracy]", classes: tuple[str, ...]) -> None:
    rows = [
        (name, str(a.pictures), percent(a.top1), percent(a.top5), DASH if a.flips is None else str(a.flips))
        for name, a in found.items()
    ]
    screen.table("", ("file", "pictures", "top-1", "top-5", "differ from reference"), rows)
    per_class = [(name, *(percent(a.per_class[name]) for a in found.values())) for name in classes]
    screen.table("top-1 per class", ("class", *found), per_class)
    if screen.verbosity > 0:
        for name, accuracy in found.items():
            cells = [(c, *map(str, row)) for c, row in zip(classes, accuracy.confusion, strict=True)]
            screen.table(f"{name}: rows are labels, columns answers", ("label", *classes), cells)
