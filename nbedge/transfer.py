"""Transfer: a giant, or a tiny model, that was trained on other data gets a new head and goes on."""

from collections.abc import Mapping
from dataclasses import replace

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
    names = {module: name for name, module in model.named_modules()}
    return [names[c.module] for c in trace(model, example_input).calls if isinstance(c.module, WEIGHTED)][-1]


def plan_for(tiny: nn.Module, plan: Plan, head: str) -> Plan:
    """Return `plan`, made for the same network with another head, for `tiny`; an expanded head is left out."""
    return replace(plan, fingerprint=fingerprint(tiny), sites=tuple(s for s in plan.sites if s.layer != head))


def adopt_(model: nn.Module, state: Mapping[str, Tensor], head: str, source: str) -> None:
    """Give `model` the weights of `state`, all but those of its head.

    Args:
        model: a tiny model or a giant, whose head has fresh weights.
        state: of the same network with another head.
        head: path of the head.
        source: where the state comes from, for messages.

    Raises:
        CheckpointError: the two networks differ in more than the head.
    """
    wanted = {name: value for name, value in model.state_dict().items() if not name.startswith(f"{head}.")}
    found = {name: value for name, value in state.items() if not name.startswith(f"{head}.")}
    for name in sorted(wanted.keys() | found.keys()):
        shapes = [tuple(part[name].shape) if name in part else "missing" for part in (found, wanted)]
        if shapes[0] != shapes[1]:
            raise CheckpointError(
                f"{source} belongs to a network that differs in more than its head ({head}): {name} is {shapes[0]} "
                f"there, {shapes[1]} here; name the same model with the same arguments"
            )
    with torch.no_grad():
        for name, value in wanted.items():
            value.copy_(found[name])
