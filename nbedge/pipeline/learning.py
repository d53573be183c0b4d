"""The stages that train: the control, the giant, its tuning, and what a transfer and a tail add to them."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nbedge import files
from nbedge.blocks import expanded_blocks, squeeze_, unsqueeze_
from nbedge.checkpoint import load_checkpoint, tensors
from nbedge.distillation import CrossEntropy, Distillation, Objective, TeacherFree
from nbedge.expansion import expand
from nbedge.linearization import ORDERS, PLT, least_sensitive_first, sensitivities
from nbedge.pipeline.context import Context
from nbedge.pipeline.stage import Outcome
from nbedge.recipe import MEASURED, TrainSection
from nbedge.slopes import fix_slopes_, learn_slopes_, set_slope_
from nbedge.statistics import reestimate_
from nbedge.tracing import evaluating
from nbedge.training import Straightening, steps_per_epoch, train, usual_objective
from nbedge.training.sampling import here
from nbedge.transfer import adopt_

#: pictures on which the sensitivity of each block is measured
SENSITIVITY_PICTURES = 512
#: pictures of one pass while BatchNorm statistics are measured
PASS = 256


def control(context: Context, state: Path) -> Outcome:
    """Train the tiny model as it is, for as many epochs as the giant and its tuning take together."""
    section = context.recipe.train
    before = 0 if context.recipe.transfer.giant else section.giant_epochs
    return trained(context, "control", context.tiny(), before + section.plt_epochs, state)


def transferred(context: Context, state: Path) -> Outcome:
    """Tune the tiny model that was trained plainly on the other data."""
    model = context.tiny()
    adopt_(model, tensors(context.folder / "source/control.safetensors"), context.share, "transfer.control")
    return trained(context, "transferred", model, context.recipe.train.plt_epochs, state, tuning(context))


def giant(context: Context, state: Path) -> Outcome:
    """Expand the tiny model and train the giant."""
    section = context.recipe.train
    return trained(context, "giant", context.giant(), section.giant_epochs, state, after=section.shared_epochs[1])


def adopted_giant(context: Context, _state: Path) -> Outcome:
    """Give the giant that was trained on the other data a new head."""
    expanded = expand(context.tiny(), context.plan, seed=context.recipe.seed)
    adopt_(expanded, tensors(context.folder / "source/giant.safetensors"), context.share, "transfer.giant")
    return Outcome((context.save("giant", expanded),))


def linearize(context: Context, state: Path) -> Outcome:
    """Tune the giant while its slopes rise to 1."""
    section, model = context.recipe.train, context.load("giant")
    tuned_later = section.plt_epochs - section.ramp_epochs if section.tail == "contract-and-tune" else 0
    objective = _objective(context)
    plt = _schedule(context, model)
    if context.recipe.plt.penalty:
        learn_slopes_(model)
    before = section.shared_epochs[0]
    straight = Straightening(plt, context.recipe.plt.penalty, squeeze_ if section.tail == "squeezed" else _as_it_is)
    return trained(
        context, "linearized", model, section.plt_epochs - tuned_later, state, tuning(context), straight, objective,
        before=before, after=tuned_later, finish=_straighten(context),
    )  # fmt: skip


def tune(context: Context, state: Path) -> Outcome:
    """Tune the contracted model, in the schedule that the giant's tuning began."""
    section = context.recipe.train
    rest = section.plt_epochs - section.ramp_epochs
    return trained(
        context, "contracted", context.load("merged"), rest, state, tuning(context),
        objective=_objective(context), before=section.shared_epochs[0] + section.ramp_epochs, curve="tuned",
    )  # fmt: skip


def _as_it_is(_model: nn.Module) -> None:
    """Train on the giant."""


def _itself(model: nn.Module) -> nn.Module:
    return model


def tuning(context: Context) -> TrainSection:
    """Return the settings of what is tuned and not trained from scratch."""
    section = context.recipe.train
    return replace(section, learning_rate=section.plt_learning_rate or section.learning_rate)


def _schedule(context: Context, model: nn.Module) -> PLT:
    section, plt = context.recipe.train, context.recipe.plt
    each = steps_per_epoch(len(context.splits.train), section.batch_size)
    steps = each * section.plt_epochs
    end = max(1, round((plt.fall + section.ramp) * steps))
    if section.tail == "contract-and-tune":  # slope 1 for good before the phase ends
        end = min(end, each * section.ramp_epochs - 1) or 1
    fall = min(round(plt.fall * steps), end - 1)
    measured = plt.order == MEASURED
    order = _least_sensitive_first(context, model) if measured else tuple(ORDERS[plt.order](model))
    return PLT(fall, end, plt.shape, order, fall)


def _least_sensitive_first(context: Context, model: nn.Module) -> tuple[str, ...]:
    """Measure on validation pictures: choices see no others."""
    some = context.splits.validation.spread(SENSITIVITY_PICTURES)
    x, labels = torch.from_numpy(context.preprocessing(some.images)), torch.from_numpy(some.labels)
    objective = usual_objective(context.task)

    def loss(giant: nn.Module) -> float:
        with evaluating(giant), torch.inference_mode():
            return objective(giant, x, labels).item()

    return least_sensitive_first(sensitivities(model, loss))


def _objective(context: Context) -> Objective:
    """Return what the tuning minimises; the contracted model's layers stand where the giant's blocks stood."""
    section, smoothing = context.recipe.distill, context.recipe.train.label_smoothing
    if not section.teacher:
        return usual_objective(context.task, smoothing)
    base = CrossEntropy(smoothing)
    if section.teacher == "virtual":
        return TeacherFree(section.weight, section.temperature, base=base)
    if section.teacher == "giant":
        teacher = context.load("giant")
        blocks = expanded_blocks(teacher) if section.features else []
        at = tuple(block.site.norm or block.site.layer for _, block in blocks)
        return Distillation(teacher, section.weight, section.temperature, section.features, at, base)
    teacher, _ = load_checkpoint(Path(section.teacher))
    return Distillation(teacher, section.weight, section.temperature, base=base)


def _straighten(context: Context) -> Callable[[nn.Module], None]:
    """Return what makes the tuned giant ready to contract."""

    def finish(model: nn.Module) -> None:
        if context.recipe.train.reestimate:  # before unsqueezing: what a merged weight was trained with stays
            reestimate_(model, _passes(context))
        unsqueeze_(model)
        fix_slopes_(model)
        set_slope_(model, 1.0)

    return finish


def _passes(context: Context) -> list[torch.Tensor]:
    pictures = context.splits.train.sample()
    order = np.random.default_rng(context.recipe.seed).permutation(len(pictures))[: context.recipe.train.reestimate]
    chosen = pictures.take(order, axis=0)
    return [torch.from_numpy(context.preprocessing(chosen[i : i + PASS])) for i in range(0, len(chosen) - 1, PASS)]


def trained(
    context: Context, stage: str, model: nn.Module, epochs: int, state: Path, settings: TrainSection | None = None,
    plt: Straightening | None = None, objective: Objective | None = None, *, before: int = 0, after: int = 0,
    finish: Callable[[nn.Module], None] = _as_it_is, product: Callable[[nn.Module], nn.Module] = _itself,
    curve: str = "",
) -> Outcome:  # fmt: skip
    """Train `model`, `finish` it, and write the checkpoint of its `product` and its curve.

    `before` epochs of earlier phases and `after` of later ones share one cosine with this one.
    """
    recipe = context.recipe
    points = train(
        model, context.splits, context.preprocessing, settings or recipe.train, epochs=epochs,
        # the order of the pictures goes on where the earlier phase ended, and does not begin again
        seed=recipe.seed + before * 7919, plt=plt, objective=objective, before=before, after=after, resume=state,
        title=stage, progress=context.shown,
    )  # fmt: skip
    if here().rank:
        return Outcome(())
    finish(model)
    path = context.folder / "curves" / f"{curve or stage}.json"
    files.write_json(
        path, {"schema_version": 1, "metric": context.task.metric, "epochs": [asdict(point) for point in points]}
    )
    return Outcome((context.save(stage, product(model)), str(path.relative_to(context.folder))))
