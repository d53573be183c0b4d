"""`nbedge prune`: a wide model cut down to the cost of a tiny one, then tuned."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nbedge.cli.screen import Screen, number, percent, refuse_given, with_screen
from nbedge.cli.subject import ModelOptions, described, model_options, open_subject
from nbedge.errors import InputError, needs
from nbedge.subject import Subject, refuse_other_data

if TYPE_CHECKING:
    from torch import nn

    from nbedge.data import Splits
    from nbedge.tracing import Cost

METHODS = ("structured", "magnitude")


@click.command(name="prune")
@click.argument("wide", metavar="MODEL")
@click.option("--method", required=True, type=click.Choice(METHODS), help="Whole channels, or single weights.")
@click.option("--like", metavar="MODEL", help="Prune to what this one costs: MACs, with magnitude parameters.")
@click.option("--macs", type=click.IntRange(min=1), help="With structured: the most multiply-accumulates.")
@click.option("--parameters", type=click.IntRange(min=1), help="With magnitude: the parameters that are left.")
@click.option(
    "--spread",
    type=click.Choice(["uniform", "global"]),
    default="uniform",
    show_default=True,
    help="With structured: the same share of every layer, or the smallest channels of all.",
)
@click.option(
    "--multiple",
    default=4,
    show_default=True,
    type=click.IntRange(min=1),
    help="With structured: widths are multiples of this.",
)
@click.option("--data", required=True, metavar="DATA", help="folder:PATH, npz:PATH, fashion-mnist:PATH or hf:NAME.")
@click.option("--epochs", default=20, show_default=True, type=click.IntRange(min=1), help="Of tuning afterwards.")
@click.option("--batch-size", default=256, show_default=True, type=click.IntRange(min=1))
@click.option("--learning-rate", default=0.1, show_default=True)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option("--out", type=click.Path(path_type=Path), default=Path("pruned.safetensors"), show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace the checkpoint.")
@model_options
@with_screen
def command(
    screen: Screen, options: ModelOptions, wide: str, method: str, like: str | None, macs: int | None,
    parameters: int | None, spread: str, multiple: int, data: str, out: Path, overwrite: bool, **settings: Any,
) -> None:  # fmt: skip
    """Prune MODEL (a trained checkpoint, or a reference with --weights), tune what is left on DATA, and write it."""
    if method == "structured":
        refuse_given(("parameters",), "structured pruning is told --macs")
    else:
        refuse_given(
            ("macs", "spread", "multiple"), "magnitude pruning is told --parameters; it leaves the MACs as they are"
        )
    if bool(like) == bool(macs or parameters):
        said = "--macs N" if method == "structured" else "--parameters N"
        raise InputError(f"say how small the model is to be, either with --like MODEL or with {said}")
    with needs("train"):
        from torch import nn

        from nbedge.checkpoint import refuse_target
        from nbedge.data import load
        from nbedge.task import task_of
    refuse_target(out, overwrite)
    subject = open_subject(wide, options)
    if not isinstance(subject.model, nn.Module):
        raise InputError(f"{wide} is an exported file; prune takes a checkpoint or a model reference")
    target = macs or parameters or _cost_of(like or "", subject, options, method)
    splits = load(data, subject.pictured(), seed=settings["seed"])
    refuse_other_data(subject, splits.task, splits.classes, data)
    pruned, finish = _pruned(screen, subject, method, target, spread, multiple)
    score = _tuned(screen, pruned, subject, splits, settings)
    finish(pruned)
    _save(out, pruned, subject, wide, options, splits, settings["seed"])
    said = f"{task_of(splits.task).metric} {percent(score)} on {len(splits.validation)} validation pictures"
    screen.say(f"{out}: pruned, {said}")
    costs = _costs(subject.model, pruned, subject)
    _show(screen, costs)
    screen.result({"checkpoint": str(out), "stage": "pruned", "method": method, **costs, "validation_score": score})


def _cost_of(name: str, subject: Subject, options: ModelOptions, method: str) -> int:
    """Return the multiply-accumulates or the parameters of the model that the user names."""
    from torch import nn

    other = open_subject(name, ModelOptions(shape=subject.shape, trust=options.trust))
    if not isinstance(other.model, nn.Module):
        raise InputError(f"{name} is an exported file; --like takes a checkpoint or a model reference")
    if other.shape != subject.shape:
        raise InputError(
            f"{name} takes inputs of shape {other.shape}, {subject.name} of {subject.shape}; name a model of the same "
            "input, or a number"
        )
    found = _cost(other.model, other)
    return found.macs if method == "structured" else found.parameters


def _cost(model: "nn.Module", subject: Subject) -> "Cost":
    import torch

    from nbedge.tracing import cost

    return cost(model, torch.zeros(1, *subject.shape))


def _pruned(
    screen: Screen, subject: Subject, method: str, target: int, spread: str, multiple: int
) -> "tuple[nn.Module, Callable[[nn.Module], None]]":  # fmt: skip
    """Return the pruned model, and what is done to it after tuning."""
    import torch

    from nbedge.pruning import emptied, prune_channels, prune_weights, settle_

    model: Any = subject.model
    if method == "structured":
        example = torch.zeros(1, *subject.shape)
        return prune_channels(model, example, target, spread=spread, multiple=multiple), lambda _model: None
    masked = prune_weights(model, target)
    if emptied(masked):
        screen.note(f"no weight is left in {', '.join(emptied(masked))}: the answer of such a layer is a constant")
    return masked, settle_


def _tuned(screen: Screen, model: "nn.Module", subject: Subject, splits: "Splits", settings: dict[str, Any]) -> float:
    """Train `model` in place and return its accuracy on the validation pictures."""
    from nbedge.training import TrainSettings, train

    curve = train(
        model, splits, subject.prepared(), TrainSettings(settings["batch_size"], settings["learning_rate"]),
        epochs=settings["epochs"], seed=settings["seed"], title="tuning", progress=screen.shows_progress,
    )  # fmt: skip
    return curve[-1].validation_score


def _save(
    out: Path, model: "nn.Module", subject: Subject, name: str, options: ModelOptions, splits: "Splits", seed: int
) -> None:
    from nbedge.checkpoint import save_checkpoint
    from nbedge.narrowing import widths

    about = described(subject, name, options, "pruned", None, seed)
    sizes = widths(about.model.build(), model)
    save_checkpoint(
        out, model, replace(about, classes=subject.classes or splits.classes, widths=sizes, task=splits.task)
    )


def _costs(before: Any, after: "nn.Module", subject: Subject) -> dict[str, dict[str, int]]:
    from nbedge.pruning import nonzero

    costs = {"before": (before, _cost(before, subject)), "after": (after, _cost(after, subject))}
    return {
        when: {"parameters": cost.parameters, "nonzero": nonzero(model), "macs": cost.macs}
        for when, (model, cost) in costs.items()
    }


def _show(screen: Screen, costs: dict[str, dict[str, int]]) -> None:
    names = {"parameters": "parameters", "nonzero": "of these not 0", "macs": "MACs"}
    rows = [(text, number(costs["before"][key]), number(costs["after"][key])) for key, text in names.items()]
    screen.table("", ("", "before", "after"), rows)
