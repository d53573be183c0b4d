"""Transfer: a giant, or a tiny model, that was trained on other data gets a new head and goes on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from nbedge.errors import CheckpointError
from nbedge.plan import Plan, fingerprint
from nbedge.tracing import WEIGHTED, trace


def head_of(model: nn.Module, example_input: Tensor) -> str:
    """Return the path of the layer that gives the answer: the last one with weights that runs.

    Args:
        model: gives logits (n, classes).
        example_input: (n, c, h, w), as the model takes it.
    """
    ran: list[nn.Module] = [
        call.module for call in trace(model, example_input).calls if isinstance(call.module, WEIGHTED)
    ]
    names: dict[nn.Module, str] = {module: name for name, module in model.named_modules()}
    return names[ran[-1]]


@dataclass(frozen=True, slots=True)
class Share:
    """What two networks have in common.

    Attributes:
        part: path of the module that both have; empty: all but the head.
        head: path of the layer that gives the answer, which each has for itself.
    """

    part: str = ""
    head: str = ""

    def holds(self, name: str) -> bool:
        """Return whether a layer, or a tensor of one, is shared."""
        if self.part:
            return f"{name}.".startswith(f"{self.part}.")
        return not f"{name}.".startswith(f"{self.head}.")

    def __str__(self) -> str:
        return f"lacks the part {self.part}" if self.part else f"differs in more than its head ({self.head})"


def plan_for(tiny: nn.Module, plan: Plan, share: Share) -> Plan:
    """Return `plan`, made for a network that shares some layers with `tiny`, for `tiny`: without its other layers."""
    return replace(plan, fingerprint=fingerprint(tiny), sites=tuple(s for s in plan.sites if share.holds(s.layer)))


def adopt_(model: nn.Module, state: Mapping[str, Tensor], share: Share, source: str) -> None:
    """Give `model` the shared weights of `state`.

    Args:
        model: a tiny model or a giant, whose other layers have fresh weights.
        state: of the other network.
        share: what they have in common.
        source: where the state comes from, for messages.

    Raises:
        CheckpointError: the two networks have less in common, or nothing.
    """
    wanted = {name: value for name, value in model.state_dict().items() if share.holds(name)}
    found = {name: value for name, value in state.items() if share.holds(name)}
    if not wanted:
        raise CheckpointError(f"the model has no part {share.part!r} that {source} could give it; name one of its own")
    for name in sorted(wanted.keys() | found.keys()):
        shapes = [tuple(part[name].shape) if name in part else "missing" for part in (found, wanted)]
        if shapes[0] != shapes[1]:
            raise CheckpointError(
                f"{source} belongs to a network that {share}: {name} is {shapes[0]} there, {shapes[1]} here; name the "
                "same model with the same arguments"
            )
    with torch.no_grad():
        for name, value in wanted.items():
            value.copy_(found[name])
