"""`nbedge train`: one training of a checkpoint; with --from the transfer of a giant to new data."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from nbedge.cli.run import carry_out
from nbedge.cli.screen import Screen, percent, refuse_given, with_screen
from nbedge.cli.subject import ModelOptions, described, model_options, open_subject, pictured
from nbedge.errors import InputError, needs
from nbedge.subject import refuse_other_data


@click.command(name="train")
@click.argument("model_name", metavar="[MODEL]", required=False)
@click.option("--from", "giant", type=click.Path(path_type=Path), help="A giant, to be moved to the new data.")
@click.option(
    "--control", type=click.Path(path_type=Path), help="With --from: the tiny model trained on the same data."
)
@click.option("--part", default="", help="With --from and --model: module that both networks have, such as features.")
@click.option("--data", required=True, metavar="DATA", help="Labelled pictures.")
@click.option("--out", type=click.Path(path_type=Path), help="Checkpoint; with --from a run directory.")
@click.option("--epochs", default=20, show_default=True, type=click.IntRange(min=1), help="Over the training pictures.")
@click.option("--straighten", is_flag=True, help="Raise the slopes of a giant to 1 over the first part of the epochs.")
@click.option(
    "--ramp",
    default=0.25,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of the epochs in which slopes rise.",
)
@click.option("--batch-size", default=256, show_default=True, type=click.IntRange(min=1))
@click.option("--learning-rate", default=0.1, show_default=True)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option("--format", "formats", default="", help="With --from: files to export, for example onnx,tflite.")
@click.option("--resume", is_flag=True, help="With --from: go on in the run directory.")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@model_options
@with_screen
def command(
    screen: Screen, options: ModelOptions, model_name: str | None, giant: Path | None, control: Path | None, data: str,
    part: str, out: Path | None, resume: bool, overwrite: bool, **settings: Any,
) -> None:  # fmt: skip
    """Train MODEL (a checkpoint or a reference) on DATA and write a checkpoint.

    With --from GIANT the giant gets a new head for DATA and is tuned there while its slopes rise, then contracted;
    beside it the tiny model of --control is tuned likewise, and one is trained from scratch. With --model and --part
    another network, such as a detector, takes over a part of the giant.
    """
    if bool(model_name) == bool(giant):
        raise InputError("name what is trained: a model, or with --from the giant that is moved to the new data")
    if giant:
        refuse_given(("weights", "mean", "std", "straighten"), "with --from the giant says it")
        with needs("all"):
            from nbedge.pipeline.derived import transfer
        shape = pictured(options.shape) if options.shape else None
        recipe = transfer(giant, control, data, options.arguments, settings, options.model or "", shape, part)
        carry_out(screen, recipe, out or Path("runs") / recipe.name, resume=resume, overwrite=overwrite)
        return
    refuse_given(("control", "formats", "resume", "part"), "it belongs to --from")
    _one_phase(screen, options, model_name or "", data, out or Path("trained.safetensors"), overwrite, settings)


def _one_phase(
    screen: Screen, options: ModelOptions, name: str, data: str, out: Path, overwrite: bool, settings: dict[str, Any]
) -> None:  # fmt: skip
    with needs("train"):
        from torch import nn

        from nbedge.blocks import expanded_blocks
        from nbedge.checkpoint import refuse_target, save_checkpoint
        from nbedge.data import load
        from nbedge.linearization import PLT
        from nbedge.slopes import set_slope_
        from nbedge.task import task_of
        from nbedge.training import TrainSettings, steps_per_epoch, train
    refuse_target(out, overwrite)
    subject = open_subject(name, options)
    if not isinstance(subject.model, nn.Module):
        raise InputError(f"{name} is an exported file; train takes a checkpoint or a model reference")
    splits = load(data, subject.pictured(), seed=settings["seed"])
    refuse_other_data(subject, splits.task, splits.classes, data)
    if settings["ramp"] != settings["ramp"]:
        raise InputError("--ramp is no number; give a share of the epochs, above 0 and below 1")
    straighten, is_giant = settings["straighten"], bool(expanded_blocks(subject.model))
    if straighten and not is_giant:
        raise InputError(f"{name} is no giant, so it has no slopes to raise; make one with nbedge expand")
    chosen = TrainSettings(settings["batch_size"], settings["learning_rate"])
    steps = steps_per_epoch(len(splits.train), chosen.batch_size) * settings["epochs"]
    plt = PLT(0, max(1, round(settings["ramp"] * steps))) if straighten else None
    curve = train(
        subject.model, splits, subject.prepared(), chosen, epochs=settings["epochs"], seed=settings["seed"], plt=plt,
        progress=screen.shows_progress,
    )  # fmt: skip
    if straighten:
        set_slope_(subject.model, 1.0)
    stage = ("linearized" if straighten else "giant") if is_giant else "control"
    about = described(subject, name, options, stage, None, settings["seed"])
    save_checkpoint(out, subject.model, replace(about, classes=subject.classes or splits.classes, task=splits.task))
    score, metric = curve[-1].validation_score, task_of(splits.task).metric
    screen.say(f"{out}: {stage}, {metric} {percent(score)} on {len(splits.validation)} validation pictures")
    screen.result({"checkpoint": str(out), "stage": stage, "metric": metric, "validation_score": score})
