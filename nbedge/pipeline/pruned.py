"""The stages of the second baseline: a wider network is trained, pruned to what the tiny one costs, and tuned."""

from pathlib import Path

from torch import nn

from nbedge.expansion import expand
from nbedge.pipeline import learning
from nbedge.pipeline.context import Context
from nbedge.pipeline.stage import Outcome
from nbedge.pruning import prune_channels, prune_weights, settle_
from nbedge.tracing import cost


def wide(context: Context, state: Path) -> Outcome:
    """Train the wider network."""
    return learning.trained(context, "wide", context.wide(), _epochs(context)[0], state)


def pruned(context: Context, state: Path) -> Outcome:
    """Prune the wider network, and tune what is left."""
    before, epochs = _epochs(context)
    return learning.trained(
        context, "pruned", cut(context, context.load("wide")), epochs, state, learning.tuning(context), before=before,
        finish=settle_,
    )  # fmt: skip


def cut(context: Context, model: nn.Module) -> nn.Module:
    """Return the wider network, pruned: to the tiny one's multiply-accumulates, or to its number of parameters.

    Raises:
        InputError: it is no wider than the tiny one, or cannot become as small.
    """
    section, target = context.recipe.prune, cost(context.tiny(), context.example)
    if section.method == "structured":
        return prune_channels(model, context.example, target.macs, spread=section.spread)
    return prune_weights(model, target.parameters)


def _epochs(context: Context) -> tuple[int, int]:
    """Return the epochs of the wider network and of what is left of it: in sum they cost what giant and tuning do."""
    allowed, before = spent(context), context.wide()
    first = max(1, int(context.recipe.prune.share * allowed) // _macs(context, before))
    rest = allowed - first * _macs(context, before)
    return first, max(1, rest // _macs(context, cut(context, before)))


def spent(context: Context) -> int:
    """Return what giant and tuning cost: epochs times multiply-accumulates of a forward pass."""
    section = context.recipe.train
    giant = _macs(context, expand(context.tiny(), context.plan, seed=context.recipe.seed))
    as_tiny = 0 if section.tail == "giant" else section.plt_epochs - section.ramp_epochs
    return giant * (section.giant_epochs + section.plt_epochs - as_tiny) + _macs(context, context.tiny()) * as_tiny


def _macs(context: Context, model: nn.Module) -> int:
    return cost(model, context.example).macs
