"""PLT: the schedule that takes every slope of a giant from 0 to exactly 1. It belongs to no training framework."""

from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from nbedge.blocks import sloped_activations
from nbedge.errors import InputError


@dataclass(slots=True)
class PLT:
    """Progressive Linearization Tuning: slope(step) rises linearly from 0 at `start` to exactly 1 at `end`.

    Linear and per step, as in the paper and in DepthShrinker (ICML 2022), whose public code holds the mechanism.

    Attributes:
        start: last step (of the optimizer) with slope 0.
        end: first step with slope 1.
        step: the step that was applied last.
    """

    start: int
    end: int
    step: int = 0

    def __post_init__(self) -> None:
        """Refuse an empty or backward ramp."""
        if not 0 <= self.start < self.end:
            raise InputError(f"PLT runs from step {self.start} to step {self.end}; give 0 <= start < end")

    def slope(self, step: int) -> float:
        """Return the slope at `step`: 0.0 up to start, 1.0 from end on."""
        if step >= self.end:
            return 1.0
        return max(0.0, (step - self.start) / (self.end - self.start))

    def apply(self, giant: nn.Module, step: int) -> float:
        """Set every slope of `giant` to its value at `step`, and return it.

        Raises:
            InputError: the model has no slope to set.
        """
        self.step = step
        value = self.slope(step)
        set_slope_(giant, value)
        return value

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for a training checkpoint."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.start, self.end, self.step = state["start"], state["end"], state["step"]


def set_slope_(giant: nn.Module, value: float) -> None:
    """Set every slope of `giant` in place.

    Raises:
        InputError: the model has no slope to set, or `value` lies outside [0, 1].
    """
    if not 0.0 <= value <= 1.0:
        raise InputError(f"slope {value} lies outside [0, 1]")
    activations = sloped_activations(giant)
    if not activations:
        raise InputError("the model has no expanded block, so there is no slope to set; expand it first")
    for _, activation in activations:
        activation.slope.fill_(value)
