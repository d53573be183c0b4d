"""PLT: the schedule that takes every slope of a giant from 0 to exactly 1. It belongs to no training framework."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from nbedge.blocks import expanded_blocks
from nbedge.errors import InputError
from nbedge.slopes import clamp_learned_, set_slope_, sloped_activations

#: share of the ramp done -> slope
SHAPES: dict[str, Callable[[float], float]] = {
    "linear": lambda share: share,
    "cosine": lambda share: 0.5 * (1 - math.cos(math.pi * share)),
}


@dataclass(slots=True)
class PLT:
    """Progressive Linearization Tuning: slope(step) rises from 0 at `start` to exactly 1 at `end`.

    Per step, as in the paper and in DepthShrinker (ICML 2022), whose public code holds the mechanism; the cosine is an
    option of VanillaNet (arXiv 2305.12972). The slopes are a pure function of the step: every process of a distributed
    training sets the same ones, and a resumed training goes on where it was.

    Attributes:
        start: last step (of the optimizer) with slope 0.
        end: first step with slope 1.
        shape: "linear" or "cosine".
        order: paths of the blocks, the first to be straightened first; empty: all together. Each has a ramp of its
            own, which begins halfway through the one before; the last ends at `end`.
        fall: steps over which the slopes fall from 1 to 0 first, for giants that start at slope 1 ("factorized").
        step: the step that was applied last.
    """

    start: int
    end: int
    shape: str = "linear"
    order: tuple[str, ...] = ()
    fall: int = 0
    step: int = 0

    def __post_init__(self) -> None:
        """Refuse an empty or backward ramp."""
        if not 0 <= self.fall <= self.start < self.end:
            raise InputError(
                f"PLT falls for {self.fall} steps and rises from step {self.start} to step {self.end}; give "
                "0 <= fall <= start < end"
            )
        if self.shape not in SHAPES:
            raise InputError(f"the shape of PLT is {self.shape!r}; choose one of {', '.join(SHAPES)}")

    def slope(self, step: int, place: int = 0, places: int = 1) -> float:
        """Return the slope at `step` of block number `place` of `places`: 0.0 up to its ramp, 1.0 behind it."""
        if step < self.fall:
            return 1 - step / self.fall
        length = 2 * (self.end - self.start) / (places + 1)  # overlapping by half, they fill start to end
        begin = self.start + place * length / 2
        if step >= self.end or step >= begin + length:
            return 1.0
        return SHAPES[self.shape](max(0.0, (step - begin) / length))

    def apply(self, giant: nn.Module, step: int) -> float:
        """Set every slope of `giant` to its value at `step`, and return the least of them.

        Raises:
            InputError: the model has no expanded block, or `order` names other blocks than it has.
        """
        blocks = [block for _, block in expanded_blocks(giant)]
        if not blocks:
            raise InputError("the model has no expanded block, so there is no slope to set; expand it first")
        self.step = step
        clamp_learned_(giant)
        if not self.order:
            value = self.slope(step)
            set_slope_(giant, value)
            return value
        strange = {block.site.layer for block in blocks} ^ set(self.order)
        if strange:
            raise InputError(f"the order of PLT and the giant's blocks differ: {min(strange)} is in one of them only")
        values = {name: self.slope(step, place, len(self.order)) for place, name in enumerate(self.order)}
        for block in blocks:
            set_slope_(block, values[block.site.layer])
        return min(values.values())

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for a training checkpoint."""
        return {**asdict(self), "order": list(self.order)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.start, self.end, self.step = state["start"], state["end"], state["step"]
        self.shape, self.fall, self.order = state["shape"], state["fall"], tuple(state["order"])


def front_to_back(giant: nn.Module) -> tuple[str, ...]:
    """Return the layers of the giant's blocks in the order in which the plan names them: that in which they run."""
    return tuple(block.site.layer for _, block in expanded_blocks(giant))


def back_to_front(giant: nn.Module) -> tuple[str, ...]:
    """Return the layers of the giant's blocks, the last to run first."""
    return front_to_back(giant)[::-1]


def sensitivities(giant: nn.Module, loss: Callable[[nn.Module], float]) -> dict[str, float]:
    """Return, for each block's layer, by how much the loss rises when that block alone is at slope 1.

    The measure by which SENet (ICLR 2023, arXiv 2301.09254) shares out its activations: one evaluation a block.

    Args:
        giant: at slope 0; its slopes are restored.
        loss: of the giant on some batches, such as the validation loss.
    """
    before = loss(giant)
    found = {}
    for _, block in expanded_blocks(giant):
        with _slope_of(block, 1.0):
            found[block.site.layer] = loss(giant) - before
    return found


@contextmanager
def _slope_of(block: nn.Module, value: float) -> Iterator[None]:
    kept = [activation.slope.clone() for _, activation in sloped_activations(block)]
    set_slope_(block, value)
    try:
        yield
    finally:
        for (_, activation), slope in zip(sloped_activations(block), kept, strict=True):
            activation.slope.copy_(slope)


def least_sensitive_first(found: dict[str, float]) -> tuple[str, ...]:
    """Return the layers in rising order of what `sensitivities` found; on several processes, what the first found.

    Every process measures on its own batches and could come to an order of its own; slopes must be the same everywhere.
    """
    order: list[Any] = [tuple(sorted(found, key=lambda name: (found[name], name)))]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.broadcast_object_list(order, src=0)
    result: tuple[str, ...] = order[0]
    return result


#: name in a recipe -> order, where it needs no measurement
ORDERS: dict[str, Callable[[nn.Module], Sequence[str]]] = {
    "together": lambda _giant: (),
    "front-to-back": front_to_back,
    "back-to-front": back_to_front,
}
