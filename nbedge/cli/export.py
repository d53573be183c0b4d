"""`nbedge export`: ONNX, TFLite and ExecuTorch files of a checkpoint, each verified before it is kept."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nbedge.artifact import RUNGS
from nbedge.cli.screen import Screen, number, verdict, with_screen
from nbedge.cli.subject import ModelOptions, model_options, open_subject, refuse_contradiction
from nbedge.errors import GateError, InputError, needs
from nbedge.preprocessing import Preprocessing
from nbedge.subject import Subject, refuse_other_data

if TYPE_CHECKING:
    from nbedge.conversion import Exported


@click.command(name="export")
@click.argument("checkpoint")
@click.option("--format", "formats", default="onnx,tflite", show_default=True, help="Comma-separated.")
@click.option("--quant", default="fp32,int8", show_default=True, help="Comma-separated schemes.")
@click.option(
    "--calib",
    required=True,
    metavar="DATA",
    help="Pictures or prepared inputs, to calibrate and compare with.",
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("exports"), show_default=True, help="Folder.")
@click.option("--name", help="Of the files; default the checkpoint's.")
@click.option("--samples", default=200, show_default=True, type=click.IntRange(min=1), help="Calibration pictures.")
@click.option("--backend", default="", help="Tools that make TFLite files, the first choice first: onnx2tf, litert.")
@click.option("--method", default="", help="Of calibration: minmax, entropy, percentile, moving-average.")
@click.option("--target", default="", help="What the files are for, e.g. x86-vnni, x86-avx2, arm, tflm, litert.")
@click.option("--opset", default="", help="Of ONNX operators; default 20.")
@click.option("--batch", type=click.Choice(["1", "dynamic"]), help="Of ONNX files; default 1.")
@click.option("--operators", type=click.Choice(["qdq", "qoperator"]), help="Of integer ONNX files; default qdq.")
@click.option(
    "--input-type",
    type=click.Choice(["float", "uint8-image"]),
    default="float",
    show_default=True,
    help="Preprocessed values, or the pixels of a picture.",
)
@click.option(
    "--head",
    type=click.Choice(["logits", "softmax"]),
    default="logits",
    show_default=True,
    help="Softmax gives probabilities.",
)
@click.option(
    "--budget",
    default=1.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Largest loss of accuracy of an integer file, in percentage points.",
)
@click.option("--rungs", default=",".join(RUNGS), show_default=True, help="Of the accuracy ladder, that may be tried.")
@click.option("--overwrite", is_flag=True, help="Replace files of the same name.")
@model_options
@with_screen
def command(
    screen: Screen, options: ModelOptions, checkpoint: str, formats: str, quant: str, calib: str, out: Path,
    name: str | None, samples: int, backend: str, method: str, target: str, opset: str, batch: str | None,
    operators: str | None, input_type: str, head: str, budget: float, rungs: str, overwrite: bool,
) -> None:  # fmt: skip
    """Write CHECKPOINT (or a model reference) in every format and scheme."""
    with needs("train"):
        import torch
        from torch import nn

        from nbedge.conversion import Options, export
        from nbedge.data import holds_prepared
        from nbedge.verification import Chain
    chosen = Options(
        _words(backend), opset, batch or "", method, operators or "", _words(target), input_type, head, budget,
        _words(rungs),
    )  # fmt: skip
    subject = open_subject(checkpoint, options)
    if not isinstance(subject.model, nn.Module):
        raise InputError(f"{checkpoint} is an exported file already; export takes a checkpoint or a model reference")
    refuse_contradiction(subject, options)
    given = (_prepared if holds_prepared(calib) else _pictures)(subject, calib, samples)
    try:
        exported = export(
            subject.model, torch.zeros(1, *subject.shape), calibration=given.calibration,
            preprocess=given.preprocessing, classes=given.classes, out=out, formats=formats.split(","),
            quant=quant.split(","), check_on=given.held, labels=given.labels, task=given.task, learn_from=given.learn,
            name=name or Path(checkpoint.rpartition(":")[2]).stem, derived_from=Path(checkpoint).name,
            options=chosen, overwrite=overwrite, progress=screen.note,
        )  # fmt: skip
    except GateError as error:
        _show_ladder(screen, "what was tried", error.ladder)
        raise
    if len(given.calibration) < samples:
        screen.note(f"{len(given.calibration)} calibration inputs, not {samples}: half of the training part at most")
    _show(screen, exported)
    files = [
        {**e.artifact.to_dict(), "path": str(e.artifact.path), "verification": Chain(e.edges).to_dict()}
        for e in exported
    ]
    screen.result({"files": files})


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """What files are calibrated and judged with; arguments of export()."""

    calibration: Any
    held: Any
    labels: Any
    learn: Any
    preprocessing: Preprocessing | None
    classes: tuple[str, ...]
    task: str


def _pictures(subject: Subject, calib: str, samples: int) -> Given:
    from nbedge.conversion import CHECKED, LEARNT
    from nbedge.data import load

    splits = load(calib, subject.pictured(), calibration=samples)
    refuse_other_data(subject, splits.task, splits.classes, calib)
    prepare, held = subject.prepared(), splits.validation.spread(CHECKED)
    return Given(
        prepare(splits.calibration.images), prepare(held.images[:]), held.labels,
        map(prepare, splits.to_learn(LEARNT)), prepare, subject.classes or splits.classes, splits.task,
    )  # fmt: skip


def _prepared(subject: Subject, calib: str, samples: int) -> Given:
    """Take every second input for calibration, the others to judge files on; they need not be pictures."""
    from nbedge.conversion import CHECKED
    from nbedge.data import load_prepared

    x, labels = load_prepared(calib, subject.shape)
    seen, held = x[::2][:samples], x[1::2][:CHECKED]
    if not len(held):
        raise InputError(f"{calib} holds {len(x)} inputs; give 2 or more, for calibration and to judge the files on")
    known = None if labels is None else labels[1::2][:CHECKED]
    return Given(seen, held, known, None, subject.preprocessing, subject.classes, subject.task)


def _show(screen: Screen, exported: Sequence["Exported"]) -> None:
    """Show the files, what was tried for those that lost too much at first, and what their user should know."""
    from nbedge.verification import Chain

    rows = [
        (str(e.artifact.path), e.artifact.scheme, number(e.artifact.size_bytes / 1000, "kB", 1),
         verdict(str(Chain(e.edges).verdict)))
        for e in exported
    ]  # fmt: skip
    screen.table("", ("file", "scheme", "size", "verdict"), rows)
    for e in exported:
        name, climb = e.artifact.path.name, e.artifact.ladder
        if climb:
            within = "within" if climb["met"] else "over"
            title = f"{name}: {within} the budget ({climb['budget']:g} points) by {climb['rung']}"
            _show_ladder(screen, title, climb)
        for said in _remarks(e):
            screen.note(f"{name}: {said}")


def _show_ladder(screen: Screen, title: str, climb: Mapping[str, Any]) -> None:
    if len(climb.get("attempts", ())) < 2:
        return
    rows = [
        (a["rung"], a["detail"], number(a["loss"], "points", 2), number(a["sqnr_db"], "dB", 1),
         "kept" if a["kept"] else "")
        for a in climb["attempts"]
    ]  # fmt: skip
    screen.table(title, ("rung", "tried", "loss", "SQNR", ""), rows)
    layers = [(a["layer"], number(a["before_db"], "dB", 1), number(a["after_db"], "dB", 1)) for a in climb["layers"]]
    if layers:
        screen.table("SQNR of each layer", ("layer", "before", "after"), layers)


def _remarks(exported: "Exported") -> Iterator[str]:
    """Yield what the user of a file that was kept should know."""
    from nbedge.verification import PADS

    checks = [check for edge in exported.edges for check in edge.checks]
    over = [c for c in checks if c.name == "accuracy loss" and c.limit is not None and c.value > c.limit]
    for check in sorted(over, key=lambda c: -c.value)[:1]:
        yield (
            f"loses {check.value:.2f} points ({check.detail}), over the budget of {check.limit:g}; it is kept, for on "
            "so few pictures chance alone does that"
        )
    if exported.artifact.scheme.startswith("int8"):
        yield from {f"{c.value} PAD operators make {c.detail}" for c in checks if c.name == PADS and c.value}


def _words(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))
