"""Width augmentation in the manner of NetAug, see `nbedge.widening`, as changes and a goal of a method."""

from dataclasses import dataclass

from torch import nn

from effect.changes import Setting
from nbedge.distillation import Objective
from nbedge.widening import Augmentation, Widened


@dataclass(frozen=True, slots=True)
class Widen:
    """Put networks of these widths around a fresh tiny one."""

    widths: tuple[float, ...] = (2.0, 3.0)

    def __call__(self, model: nn.Module | None, setting: Setting) -> nn.Module:
        """Return the networks."""
        return Widened(setting.tiny(), [setting.tiny(width) for width in self.widths])


@dataclass(frozen=True, slots=True)
class Narrow:
    """Drop the wider networks."""

    def __call__(self, model: nn.Module | None, setting: Setting) -> nn.Module:
        """Return the tiny network."""
        assert isinstance(model, Widened), "there is nothing around the network that could be dropped"
        return model.tiny


@dataclass(frozen=True, slots=True)
class Augmented:
    """Cross-entropy of the tiny network, and `weight` times that of a wider one."""

    widths: tuple[float, ...] = (2.0, 3.0)
    weight: float = 1.0

    def made(self, previous: nn.Module | None, setting: Setting) -> Objective:
        """Return the objective."""
        return Augmentation(self.weight)

    def passes(self, previous: nn.Module | None, setting: Setting) -> int:
        """Return the mean of the wider networks, which are trained: forward and backward."""
        macs = [setting.macs(setting.tiny(width)) for width in self.widths]
        return 3 * sum(macs) // len(macs)
