"""propose(): find the sites of a model by running it once, and choose which of them to expand."""

import torch
from torch import Tensor, nn

from nbedge.blocks import Template, structure
from nbedge.errors import PlanError
from nbedge.plan import Plan, Refusal, fingerprint
from nbedge.selection import Every, Field, Policy, usual_candidates
from nbedge.survey import Candidate, Survey, Wish, survey
from nbedge.tracing import cost


def propose(
    model: nn.Module,
    example_input: Tensor,
    *,
    ratio: float = 6,
    every: int = 2,
    choose: Policy | None = None,
    block: str | None = None,
    start: str = "random",
    shortcut: bool = False,
) -> Plan:
    """Choose the layers to expand: of the 1x1 convolutions that feed a depthwise one, every `every`-th.

    This is the choice of NetBooster (DAC 2023): the first pointwise layer of an inverted residual, spread evenly
    over the network. The sites are found by running the model once, not by names.

    Args:
        model: the tiny model; it is left as it is.
        example_input: (n, c, h, w), as the model takes it.
        ratio: hidden channels of the inserted block per input channel.
        every: 1 takes each site, 2 every second one, beginning with the first.
        choose: another policy of `nbedge.selection`, in place of `every`.
        block: kind of block, see `nbedge.plan.BLOCKS`; None: the inverted residual, for a fully connected layer the
            basic block.
        start: "random", or one of "zero" and "factorized", which keep what a trained model computes.
        shortcut: an identity around each block.

    Raises:
        PlanError: the model has no such site, or a choice that nothing can be made of.
    """
    policy = choose or Every(every)
    found = survey(model, example_input, Wish(block, ratio, start, shortcut))
    refuse_unready(found)
    field = Field(
        usual_candidates(found.candidates), found.candidates, cost(model, example_input).macs,
        lambda candidate: extra_macs(model, candidate),
    )  # fmt: skip
    chosen = policy.choose(field)
    others = [candidate for candidate in found.candidates if candidate not in chosen]
    passed = tuple(Refusal(c.site.layer, f"can be expanded ({c.kind}), not chosen") for c in others)
    return Plan(fingerprint(model), tuple(c.site for c in chosen), found.refused + passed)


def refuse_unready(found: Survey) -> None:
    """Refuse a model of which no plan can be made.

    Raises:
        PlanError: it has lazy layers without shapes, or no layer that can be expanded.
    """
    if found.uninitialized:
        raise PlanError(
            f"the model holds layers without shapes yet ({found.uninitialized[0]}); run it once on an input first"
        )
    if not found.candidates:
        raise PlanError("the model has no layer that can be expanded; nbedge inspect lists each layer with the reason")


def extra_macs(model: nn.Module, candidate: Candidate) -> int:
    """Return the multiply-accumulates for one input that the candidate's block takes beyond those of its layer."""
    layer = model.get_submodule(candidate.site.layer)
    assert isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
    on_meta = Template.of(layer).layer  # shapes only
    chain = structure(on_meta, candidate.site, None, layer.bias is not None)
    kept = candidate.macs if candidate.site.start == "zero" else 0
    return cost(chain, torch.zeros(1, *candidate.input_shape[1:], device="meta")).macs - candidate.macs + kept
