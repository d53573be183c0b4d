"""Which plan a run follows; and all that would stop the run, found out before it touches anything."""

from pathlib import Path

from nbedge import files
from nbedge.checkpoint import read_metadata, tensors
from nbedge.errors import CheckpointError, InputError
from nbedge.expansion import expand
from nbedge.pipeline.baselines import widened
from nbedge.pipeline.context import Context
from nbedge.pipeline.overparameterized import BLOCKS, overparameterized
from nbedge.pipeline.pruned import cut
from nbedge.plan import Plan
from nbedge.proposal import propose
from nbedge.task import CLASSIFICATION
from nbedge.transfer import adopt_, plan_for

#: baselines whose loss is one of classes
OF_CLASSES = ("distilled", "teacher-free", "netaug")


def _refuse_for_classes_only(context: Context) -> None:
    """Refuse what a recipe asks for that is not there for the task of its data.

    Raises:
        InputError: it asks for such a thing.
    """
    if context.task is CLASSIFICATION:
        return
    recipe = context.recipe
    asked = [("baselines.train", name) for name in recipe.baselines.train if name in OF_CLASSES]
    asked += [("distill.teacher", recipe.distill.teacher)] if recipe.distill.teacher else []
    asked += [("export.head", recipe.export.head)] if recipe.export.head == "softmax" else []
    for key, word in asked:
        raise InputError(f"{key} {word!r} is for classes, and {recipe.data.source} is for {context.task.name}")


def proposed(context: Context) -> Plan:
    """Return the plan that the recipe's policy makes.

    Raises:
        PlanError: it chooses nothing, or what cannot be expanded.
    """
    section = context.recipe.plan
    return propose(
        context.tiny(), context.example, ratio=section.ratio, choose=section.policy, block=section.block or None,
        start=section.start, shortcut=section.shortcut,
    )  # fmt: skip


def adopted(context: Context) -> Plan:
    """Return the plan of the giant that comes from elsewhere, for the model with a new head.

    Raises:
        CheckpointError: it is no giant, or one of the two sources belongs to another network.
    """
    section = context.recipe.transfer
    about = read_metadata(Path(section.giant))
    if about.plan is None or about.stage != "giant":
        raise CheckpointError(
            f"{section.giant} is a checkpoint of stage {about.stage}, not of a giant whose slopes are still to rise"
        )
    control = Path(section.control)
    if (stage := read_metadata(files.existing(control, "the control")).stage) != "control":
        raise CheckpointError(f"{control} is of stage {stage}; give the tiny model that was trained plainly")
    tiny = context.tiny()
    adopt_(tiny, tensors(control), context.share, section.control)
    found = plan_for(tiny, about.plan, context.share)
    adopt_(expand(tiny, found), tensors(Path(section.giant)), context.share, section.giant)
    return found


def chosen_plan(context: Context) -> Plan:
    """Return the plan of a run: of its own policy, or that of the giant that comes from elsewhere."""
    return adopted(context) if context.recipe.transfer.giant else proposed(context)


def check(context: Context) -> None:
    """Find out, before anything is written, deleted or trained, what would stop a later stage.

    Raises:
        NbedgeError: as the stages would.
    """
    _refuse_for_classes_only(context)
    context.check()
    chosen_plan(context)
    if context.recipe.prune.wide:
        cut(context, context.wide())
    if context.recipe.baselines.wide:
        widened(context)
    for name in set(BLOCKS) & set(context.recipe.baselines.train):
        overparameterized(context, BLOCKS[name])
    teacher = context.recipe.distill.teacher
    if teacher not in ("", "giant", "virtual"):
        read_metadata(files.existing(Path(teacher), "the teacher (distill.teacher)"))
