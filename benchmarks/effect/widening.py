"""Width augmentation in the manner of NetAug (ICLR 2022, arXiv 2110.08890): wider networks share the weights.

Each weight of a wider network holds the tiny network's weight in its first channels. The tiny network is trained by its
own loss and by that of a wider one, drawn anew at each step; at the end the wider ones are dropped, and nothing is
merged. Unlike NetAug, each width has BatchNorm statistics of its own, so none have to be measured anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from effect.changes import Setting
from nbedge.distillation import Objective


class Widened(nn.Module):
    """A tiny network, and wider ones of the same keys that share its weights.

    Attributes:
        tiny: what runs in `forward`.
        wider: networks of rising width; the last one holds the weights beyond the tiny network's, of which the others
            take slices. What the others hold themselves is never used, but for their BatchNorm statistics.
    """

    def __init__(self, tiny: nn.Module, wider: Sequence[nn.Module]) -> None:
        super().__init__()
        self.tiny, self.wider = tiny, nn.ModuleList(wider)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> logits (n, classes) of the tiny network."""
        result: Tensor = self.tiny(x)
        return result

    def augmented(self, x: Tensor, number: int) -> Tensor:
        """(n, c, h, w) -> logits (n, classes) of wider network number `number`."""
        own, most = dict(self.tiny.named_parameters()), dict(self.wider[-1].named_parameters())
        net = self.wider[number]
        shared = {name: _shared(own[name], most[name], value.shape) for name, value in net.named_parameters()}
        result: Tensor = functional_call(net, shared, (x,))
        return result


def _shared(own: Tensor, most: Tensor, shape: torch.Size) -> Tensor:
    """Return a weight of `shape`: `own` in its first channels, and slices of `most` elsewhere."""
    reach = [side for size, kept in zip(reversed(shape), reversed(own.shape), strict=True) for side in (0, size - kept)]
    outside = functional.pad(torch.zeros_like(own), reach, value=1.0)
    return functional.pad(own, reach) + outside * most[tuple(slice(size) for size in shape)]


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
        """Return the objective; which of the wider networks is run is drawn from torch's generator of the CPU."""

        def loss(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
            assert isinstance(model, Widened)
            number = int(torch.randint(len(model.wider), ()))
            wide = functional.cross_entropy(model.augmented(x, number), labels)
            return functional.cross_entropy(model(x), labels) + self.weight * wide

        return loss

    def passes(self, previous: nn.Module | None, setting: Setting) -> int:
        """Return the mean of the wider networks, which are trained: forward and backward."""
        macs = [setting.macs(setting.tiny(width)) for width in self.widths]
        return 3 * sum(macs) // len(macs)
