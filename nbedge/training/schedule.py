"""The learning rate of a training, which may go on over several phases in one cosine."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Schedule:
    """Linear warm-up, then one cosine to 0 over `steps`, of which a phase may begin at step `first`.

    Attributes:
        steps: of the optimizer, in all phases together.
        warmup: steps of linear warm-up.
        first: step at which this phase begins.
    """

    steps: int
    warmup: int = 0
    first: int = 0

    def share(self, step: int) -> float:
        """Return the share of the top learning rate at `step` of this phase."""
        step += self.first
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))
