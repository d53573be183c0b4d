"""An exponential average of a network's weights and BatchNorm statistics, over the last part of a phase."""

import copy
from dataclasses import dataclass

import torch
from torch import nn

from nbedge.slopes import copy_slopes_


@dataclass(frozen=True, slots=True)
class Average:
    """average <- decay * average + (1 - decay) * weights, after each step; at decay 0 it is the weights themselves.

    Attributes:
        decay: from 0, below 1.
        start: share of the phase after which it begins.
    """

    decay: float = 0.0
    start: float = 0.5

    @torch.no_grad()
    def updated(self, average: nn.Module | None, model: nn.Module) -> nn.Module:
        """Return `average`, changed by the step that `model` has just made; slopes are those of `model`."""
        if average is None:
            return copy.deepcopy(model)
        kept, new = (
            [value for value in net.state_dict().values() if value.is_floating_point()] for net in (average, model)
        )
        torch._foreach_lerp_(kept, new, 1 - self.decay)
        copy_slopes_(model, average)
        return average
