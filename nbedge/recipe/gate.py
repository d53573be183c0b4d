"""The section [gate] of a recipe: when boosting is given up."""

import math
from dataclasses import dataclass

from nbedge.errors import InputError


@dataclass(frozen=True, slots=True)
class GateSection:
    """When boosting is given up, on validation pictures alone; the run goes on with the control.

    The defaults let 82 % of the 44 runs of giant and tuning through that gained in the study, and stop 33 % of the
    other 43 (docs/results.md, "What the gates would have done").

    Attributes:
        lead: points that the giant must be above the control, else it is not linearized; -100 lets every giant through.
        plt_loss: points that the giant may lose while it becomes linear, else it is not contracted; 100 is no limit.
    """

    lead: float = -3.5
    plt_loss: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is no number of points."""
        for name, value in (("lead", self.lead), ("plt_loss", self.plt_loss)):
            if not (math.isfinite(value) and abs(value) <= 100):
                raise InputError(f"{name} is {value}; give percentage points, from -100 to 100")
