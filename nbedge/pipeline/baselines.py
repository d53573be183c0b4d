"""The stages of [baselines]: other ways to train the tiny model, with the control's seed, pictures and optimizer."""

from pathlib import Path

from nbedge.distillation import CrossEntropy, Distillation, TeacherFree
from nbedge.errors import InputError
from nbedge.pipeline import learning, overparameterized, pruned
from nbedge.pipeline.context import Context
from nbedge.pipeline.overparameterized import BLOCKS
from nbedge.pipeline.stage import Outcome, Stage
from nbedge.recipe import Recipe
from nbedge.tracing import cost
from nbedge.widening import Augmentation, Widened, refuse_narrow

#: checkpoint of the first of two phases
FIRST = "first-phase"


def _first_phase(context: Context, state: Path) -> Outcome:
    """Train the tiny model for as long as the giant."""
    return learning.trained(context, FIRST, context.tiny(), context.recipe.train.giant_epochs, state)


def _two_phase(context: Context, state: Path) -> Outcome:
    """Train it on, in a schedule of its own, for as long as the tuning."""
    epochs = context.recipe.train.plt_epochs
    return learning.trained(context, "two-phase", context.load(FIRST), epochs, state, learning.tuning(context))


def _same_macs(context: Context, state: Path) -> Outcome:
    """Train the tiny model for what giant and tuning cost, in whole epochs."""
    tiny = context.tiny()
    epochs = max(1, pruned.spent(context) // cost(tiny, context.example).macs)
    return learning.trained(context, "same-macs", tiny, epochs, state)


def _distilled(context: Context, state: Path) -> Outcome:
    """Train the tiny model with the trained giant as its teacher."""
    section, base = context.recipe.distill, CrossEntropy(context.recipe.train.label_smoothing)
    objective = Distillation(context.load("giant"), section.weight, section.temperature, base=base)
    return learning.trained(context, "distilled", context.tiny(), _epochs(context), state, objective=objective)


def _teacher_free(context: Context, state: Path) -> Outcome:
    """Train the tiny model with a virtual teacher."""
    objective = TeacherFree(base=CrossEntropy(context.recipe.train.label_smoothing))
    return learning.trained(context, "teacher-free", context.tiny(), _epochs(context), state, objective=objective)


def _linear(context: Context, state: Path) -> Outcome:
    """Train the tiny model as chains of linear layers."""
    return overparameterized.train(context, state, BLOCKS["linear"])


def _branches(context: Context, state: Path) -> Outcome:
    """Train the tiny model as parallel branches."""
    return overparameterized.train(context, state, BLOCKS["branches"])


def _netaug(context: Context, state: Path) -> Outcome:
    """Train the tiny model inside wider ones."""
    model = widened(context)
    objective = Augmentation(base=CrossEntropy(context.recipe.train.label_smoothing))
    return learning.trained(
        context, "netaug", model, _epochs(context), state, objective=objective, product=lambda _model: model.tiny
    )


def widened(context: Context) -> Widened:
    """Return the tiny model inside the wider ones.

    Raises:
        InputError: one of them is not wider, or has other layers.
    """
    tiny = context.tiny()
    wider = [context.network(arguments, "baselines.wide") for arguments in context.recipe.baselines.wide]
    try:
        refuse_narrow(tiny, wider)
    except InputError as error:
        raise InputError(f"baselines.{error}") from error
    return Widened(tiny, wider)


def _epochs(context: Context) -> int:
    return context.recipe.train.giant_epochs + context.recipe.train.plt_epochs


_FIRST = Stage(FIRST, (), ("train",), _first_phase, trains=True)
_BASELINES = (
    Stage("two-phase", (f"{FIRST}.safetensors",), ("train",), _two_phase, trains=True),
    Stage("same-macs", ("plan.json",), ("train",), _same_macs, trains=True),
    Stage(
        "distilled", ("giant.safetensors",), ("train", "distill.weight", "distill.temperature"), _distilled, trains=True
    ),
    Stage("teacher-free", (), ("train",), _teacher_free, trains=True),
    Stage("linear", (), ("train",), _linear, trains=True),
    Stage("branches", (), ("train",), _branches, trains=True),
    Stage("netaug", (), ("train", "baselines.wide"), _netaug, trains=True),
)  # fmt: skip


def baselines(recipe: Recipe) -> tuple[Stage, ...]:
    """Return the stages of the baselines that the recipe asks for, behind the giant, which one of them learns from."""
    known, asked = {stage.name: stage for stage in _BASELINES}, recipe.baselines.train
    first = (_FIRST,) if "two-phase" in asked else ()
    return (*first, *(known[name] for name in asked))
