"""The stages of [baselines]: other ways to train the tiny model, with the control's seed, pictures and optimizer."""

from collections.abc import Callable
from pathlib import Path

from nbedge.distillation import CrossEntropy, Distillation, TeacherFree
from nbedge.pipeline import learning, pruned
from nbedge.pipeline.context import Context
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
    refuse_narrow(tiny, wider)
    return Widened(tiny, wider)


def _epochs(context: Context) -> int:
    return context.recipe.train.giant_epochs + context.recipe.train.plt_epochs


_STAGES: dict[str, tuple[tuple[str, ...], Callable[[Context, Path], Outcome]]] = {
    "two-phase": ((f"{FIRST}.safetensors",), _two_phase),
    "same-macs": (("plan.json",), _same_macs),
    "distilled": (("giant.safetensors",), _distilled),
    "teacher-free": ((), _teacher_free),
    "netaug": ((), _netaug),
}


def baselines(recipe: Recipe) -> tuple[Stage, ...]:
    """Return the stages of the baselines that the recipe asks for, behind the giant, which one of them learns from."""
    found: list[Stage] = []
    for name in recipe.baselines.train:
        needs, train = _STAGES[name]
        if name == "two-phase":
            found.append(Stage(FIRST, (), ("train",), _first_phase, trains=True))
        found.append(Stage(name, needs, ("train", "distill", "baselines"), train, trains=True))
    return tuple(found)
