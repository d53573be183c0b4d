"""Baselines of [baselines] that were linear from the start: blocks without activations, trained, contracted, proven."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from nbedge.blocks import squeeze_, unsqueeze_
from nbedge.contraction import contract
from nbedge.errors import GateError, PlanError
from nbedge.expansion import expand
from nbedge.pipeline import learning
from nbedge.pipeline.context import Context
from nbedge.pipeline.stage import Outcome
from nbedge.proposal import propose
from nbedge.selection import parse
from nbedge.training.sampling import here
from nbedge.verification import verify


@dataclass(frozen=True, slots=True)
class Blocks:
    """What stands in place of every layer that takes it.

    Attributes:
        kind: of block, and the name of the baseline.
        ratio: hidden channels per input channel, of branches their number.
        squeezed: it runs as the one layer that it is while its factors are trained; BatchNorms inside would be still.
    """

    kind: str
    ratio: int
    squeezed: bool


#: baseline -> blocks: ExpandNets (NeurIPS 2020), ratio as published; RepVGG (CVPR 2021) has one branch of the layer's
#: kernel, MobileOne (CVPR 2023) several, of which 3 is a choice
BLOCKS = {"linear": Blocks("linear", 4, True), "branches": Blocks("branches", 3, False)}


def overparameterized(context: Context, blocks: Blocks) -> nn.Module:
    """Return the tiny model with blocks in place of its layers.

    Raises:
        PlanError: no layer takes them.
    """
    tiny = context.tiny()
    try:
        plan = propose(tiny, context.example, block=blocks.kind, ratio=blocks.ratio, choose=parse("name:*"))
    except PlanError as error:
        raise PlanError(f"baselines.train holds {blocks.kind!r}: {error}") from error
    return expand(tiny, plan, seed=context.recipe.seed)


def train(context: Context, state: Path, blocks: Blocks) -> Outcome:
    """Train the blocks in one cosine, contract them, and prove the merge.

    Raises:
        GateError: the merge cannot be proven.
    """
    model = overparameterized(context, blocks)
    if blocks.squeezed:
        squeeze_(model)
    section = context.recipe.train
    outcome = learning.trained(
        context, blocks.kind, model, section.giant_epochs + section.plt_epochs, state, finish=unsqueeze_,
        product=contract,
    )  # fmt: skip
    if here().rank:
        return outcome
    judged = verify(model, context.load(blocks.kind), context.proven_on()).named(
        f"{blocks.kind} blocks", f"{blocks.kind}.safetensors"
    )
    if not judged:
        raise GateError(f"the {blocks.kind} blocks and what they became are {judged.verdict}; please report this")
    path = judged.write(context.folder / "verification", "baseline")
    return Outcome((*outcome.outputs, str(path.relative_to(context.folder))), (judged,))
