"""Constant channels: weights that read nothing but a constant go, and what they made of it becomes the bias.

A channel that ReLU holds at 0 for every input has no variance, so the BatchNorm behind its depthwise layer divides by
the square root of its epsilon, and two of them, of a branch and of a block, by the epsilon: 1e5 for the usual 1e-5. In
float such weights multiply a 0. Integer kernels refuse their scales (XNNPACK takes none of 256 and more).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, fx

from nbedge.quantization.folding import Layer, copied, layers_of

#: spread of a constant channel, as a share of its largest magnitude: what float32 sums differ by from place to place
NOTHING = 1e-5


@dataclass(frozen=True, slots=True, eq=False)
class Settled:
    """A folded network whose constant channels have no weights.

    Attributes:
        module: the network.
        channels: how many lost theirs.
    """

    module: fx.GraphModule
    channels: int


def settled(module: fx.GraphModule, x: Tensor) -> Settled:
    """Return a folded network that computes the same of `x`, with no weights where all of `x` give the same.

    Args:
        module: a folded network; it is left as it is.
        x: (n, ...) inputs that tell which channels of a layer's outputs are constant.
    """
    found = copied(module)
    layers = {layer.node: layer for layer in layers_of(found)}
    channels = 0

    class Watch(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            nonlocal channels
            value = super().run_node(n)
            if n in layers:
                channels += _settle_(layers[n], value)
            return value

    with torch.no_grad():
        Watch(found).run(x)
    return Settled(found, channels)


def _settle_(layer: Layer, y: Tensor) -> int:
    """Settle the constant channels of a layer that gives y, and return how many there are."""
    values = y.movedim(layer.channel, 0).flatten(1)
    low, high = values.amin(1), values.amax(1)
    still = high - low <= NOTHING * torch.maximum(high.abs(), low.abs())
    still &= layer.weight.flatten(1).any(1)
    layer.weight[still] = 0
    layer.bias[still] = ((high + low) / 2)[still]
    return int(still.sum())
