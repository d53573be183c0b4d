"""The grid of an integer file: what rounding makes of weights and activations."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from nbedge.quantization.folding import WEIGHTED, fused

#: operators that pass on what they get, on its grid
PASSING = ("view", "reshape", "_unsafe_view", "flatten", "squeeze", "unsqueeze", "clone", "alias", "contiguous",
           "permute", "transpose", "dropout", "native_dropout", "max_pool2d", "max_pool2d_with_indices",
           "constant_pad_nd", "pad", "detach", "detach_", "expand", "slice", "select")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Grid:
    """The integers that a file has.

    Attributes:
        weights: largest step of a weight, symmetric about 0, one scale an output channel: 127; 64 of 7 bits.
        bits: of activations, one scale a tensor: 8, asymmetric, or 16, symmetric about 0.
    """

    weights: int = 127
    bits: int = 8

    def scales(self, weight: Tensor) -> Tensor:
        """Return the scale of each output channel of a weight (o, ...), shaped to divide it."""
        largest = weight.detach().abs().flatten(1).amax(1).reshape(-1, *(1,) * (weight.ndim - 1))
        return torch.where(largest > 0, largest, 1) / self.weights

    def weight(self, weight: Tensor) -> Tensor:
        """Return a weight (o, ...) on the grid; gradients pass as if it were not rounded (Bengio et al. 2013)."""
        scales = self.scales(weight)
        on_grid = torch.clamp(torch.round(weight / scales), -self.weights, self.weights) * scales
        return weight + (on_grid - weight).detach()

    def activation(self, x: Tensor, low: float, high: float) -> Tensor:
        """Return x on the grid of the range from `low` to `high`; gradients pass within it."""
        low, high = min(low, 0.0), max(high, 0.0)
        if high == low:
            return x
        if self.bits == 8:
            scale, least = (high - low) / 255, 0
            zero, most = round(-low / scale), 255
        else:
            scale, zero, most = max(high, -low) / 32767, 0, 32767
            least = -most
        clipped = torch.clamp(x, (least - zero) * scale, (most - zero) * scale)
        return clipped + (torch.round(clipped / scale) * scale - clipped).detach()


def on_grid(module: fx.GraphModule) -> set[fx.Node]:
    """Return the nodes of a folded network whose values an integer file stores, each on a grid of its own."""
    found = {node for node in module.graph.nodes if node.op == "placeholder"}
    for node in module.graph.nodes:
        value = node.meta.get("val")
        if node.op != "call_function" or not isinstance(value, Tensor) or not value.is_floating_point():
            continue
        inside = node.target in WEIGHTED and fused(node) is not None
        if not inside and operator_name(node) not in PASSING:
            found.add(node)
    return found


def operator_name(node: fx.Node) -> str:
    """Return the name of an operator without its overload."""
    return str(getattr(node.target, "__name__", node.target)).partition(".")[0]


def extremes(x: Any) -> tuple[float, float]:
    """Return the least and the largest number of a tensor."""
    return float(x.min()), float(x.max())
