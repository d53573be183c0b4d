"""`nbedge evaluate`: accuracy of checkpoints and exported files on labelled pictures."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from nbedge.cli.screen import DASH, Screen, percent, with_screen
from nbedge.cli.subject import ModelOptions, model_options, open_subject
from nbedge.errors import InputError, needs
from nbedge.subject import Subject, refuse_other_data

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nbedge.data import Images, Source
    from nbedge.evaluation import Outputs


@click.command(name="evaluate")
@click.argument("names", metavar="FILE...", nargs=-1, required=True)
@click.option("--data", required=True, metavar="DATA", help="Labelled pictures; their test part is used.")
@click.option("--reference", metavar="FILE", help="Count the answers that differ from this one's.")
@model_options
@with_screen
def command(screen: Screen, options: ModelOptions, names: tuple[str, ...], data: str, reference: str | None) -> None:
    """Measure each FILE (checkpoint, .onnx, .tflite or .pte): top-1 and top-5 of classes, or mAP of boxes."""
    with needs("train"):
        from nbedge.data import read
        from nbedge.task import task_of
    subjects = [open_subject(name, options) for name in names]
    base = open_subject(reference, options) if reference else None
    for subject in (*subjects, *([base] if base else [])):
        if subject.shape != subjects[0].shape:
            raise InputError(
                f"{subject.name} takes pictures of {subject.shape}, {subjects[0].name} of {subjects[0].shape}; "
                "evaluate them one by one"
            )
    source = read(data, subjects[0].pictured())
    task, labels, classes = task_of(source.task), source.test.labels, source.classes
    wanted = _outputs(base, source, data) if base else None
    found = {
        name: task.judge(_outputs(subject, source, data), labels, classes, wanted)
        for name, subject in zip(names, subjects, strict=True)
    }
    _SHOWN[task.name](screen, found, classes)
    rows = [{"file": name, **asdict(judged)} for name, judged in found.items()]
    screen.result({"data": data, "task": task.name, "metric": task.metric, "rows": rows})


def answers(subject: Subject, images: "Images") -> "Outputs":
    """Return the outputs (n, ...) of pictures (n, h, w, c)."""
    from torch import nn

    from nbedge.evaluation import outputs_of_module
    from nbedge.runtime import answer_pictures

    if isinstance(subject.model, nn.Module):
        return outputs_of_module(subject.model, images, subject.prepared())
    return answer_pictures(subject.model, images, subject.prepared())


def _outputs(subject: Subject, source: "Source", data: str) -> "Outputs":
    from nbedge.task import task_of

    classes = source.classes
    refuse_other_data(subject, source.task, classes, data)
    found = answers(subject, source.test.images)
    wrong = task_of(source.task).unfit({name: y[:1] for name, y in found.items()}, len(classes))
    if wrong:
        raise InputError(
            f"{subject.name} {wrong} ({data} has {len(classes)} classes); set the outputs with --model-args, or "
            "choose other data"
        )
    return found


def _show_accuracy(screen: Screen, found: "Mapping[str, Any]", classes: tuple[str, ...]) -> None:
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


def _show_precision(screen: Screen, found: "Mapping[str, Any]", classes: tuple[str, ...]) -> None:
    rows = [
        (name, str(p.pictures), str(p.boxes), percent(p.map), percent(p.map_error), percent(p.map50),
         DASH if p.flips is None else str(p.flips))
        for name, p in found.items()
    ]  # fmt: skip
    screen.table(
        "", ("file", "pictures", "boxes", "mAP@0.5:0.95", "standard error", "mAP@0.5", "differ from reference"), rows
    )
    per_class = [(name, *(percent(p.per_class[name]) for p in found.values())) for name in classes]
    screen.table("AP@0.5:0.95 per class", ("class", *found), per_class)


_SHOWN = {"classification": _show_accuracy, "detection": _show_precision}
