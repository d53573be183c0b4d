"""Width augmentation in the manner of NetAug (ICLR 2022, arXiv 2110.08890): wider networks share the weights.

Each weight of a wider network holds the tiny network's weight in its first channels. The tiny network is trained by its
own loss and by that of a wider one, drawn anew at each step; at the end the wider ones are dropped, and nothing is
merged. Unlike NetAug, each width has BatchNorm statistics of its own, so none have to be measured anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from nbedge.distillation import CrossEntropy
from nbedge.errors import InputError


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
        # DistributedDataParallel waits for the gradient of every parameter that may have one
        self.wider[:-1].requires_grad_(False)

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
class Augmentation:
    """The loss of a `Widened` model: that of the tiny network, and `weight` times that of a wider one.

    Attributes:
        weight: of the wider network; 0 or more.
        base: the loss of each.
    """

    weight: float = 1.0
    base: CrossEntropy = field(default_factory=CrossEntropy)

    def __call__(self, model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
        """Run both on x (n, c, h, w); which of the wider ones is drawn from torch's generator of the CPU."""
        assert isinstance(model, Widened)
        number = int(torch.randint(len(model.wider), ()))
        wide = self.base.of(model.augmented(x, number), labels)
        return self.base.of(model(x), labels) + self.weight * wide


def refuse_narrow(tiny: nn.Module, wider: Sequence[nn.Module]) -> None:
    """Refuse networks that cannot share weights with `tiny` and with each other.

    Raises:
        InputError: one has other layers, is somewhere narrower than the one before it, or no wider anywhere.
    """
    before = {name: tuple(value.shape) for name, value in tiny.named_parameters()}
    for place, net in enumerate(wider):
        found = {name: tuple(value.shape) for name, value in net.named_parameters()}
        if {name: len(shape) for name, shape in found.items()} != {name: len(shape) for name, shape in before.items()}:
            raise InputError(f"wide[{place}] has other layers than the network before it; change widths alone")
        less = [name for name in found if any(map(int.__lt__, found[name], before[name]))]
        if less or found == before:
            what = f"is narrower at {less[0]} than" if less else "is no wider than"
            raise InputError(f"wide[{place}] {what} the network before it; give widths that rise")
        before = found
