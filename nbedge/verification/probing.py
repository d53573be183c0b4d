"""What a block computes, found by running it: is it affine, and which convolution is it, for every input?"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nbedge.blocks import ConvSpec, SlopedActivation

Map = Callable[[Tensor], Tensor]
SCALES = (1e-3, 1.0, 1e3)
#: value of the pixel that a weight is read with: a bias 10^4 times the weight then costs it no digits
BRIGHT = 2.0**20


@dataclass(frozen=True, slots=True)
class Grid:
    """A small picture that holds every border class and stride phase of a convolution.

    Attributes:
        size: height and width in pixels.
        at: output row and column whose inputs all lie inside.
    """

    size: int
    at: int

    @classmethod
    def of(cls, spec: ConvSpec) -> "Grid":
        """Return the grid of `spec`, whose kernel, stride and padding are square."""
        reach = spec.dilation[0] * (spec.kernel_size[0] - 1) + 1
        at = -(-padding_of(spec) // spec.stride[0]) + 1
        return cls((at + 1) * spec.stride[0] + reach, at)


def padding_of(spec: ConvSpec) -> int:
    """Return the padding in pixels on the top and left."""
    if isinstance(spec.padding, str):
        return 0 if spec.padding == "valid" else spec.dilation[0] * (spec.kernel_size[0] - 1) // 2
    return spec.padding[0]


def kernel_of(block: Map, spec: ConvSpec) -> tuple[Tensor, Tensor]:
    """Read weight (o, i, kh, kw) and bias (o,) of an affine map off its answers to zero and to single pixels.

    `block` takes and gives float64 (n, c, h, w). The result describes it only if `structure_error` is small.
    """
    grid, pad, step = Grid.of(spec), padding_of(spec), spec.stride[0]
    zero = torch.zeros(1, spec.in_channels, grid.size, grid.size, dtype=torch.float64)
    bias = block(zero)[0, :, grid.at, grid.at]
    weight = torch.empty(spec.out_channels, spec.in_channels, *spec.kernel_size, dtype=torch.float64)
    for row in range(spec.kernel_size[0]):
        for column in range(spec.kernel_size[1]):
            y, x = (grid.at * step - pad + spec.dilation[0] * k for k in (row, column))
            answers = block(BRIGHT * _pixels(spec.in_channels, grid.size, y, x))
            weight[:, :, row, column] = (answers[:, :, grid.at, grid.at] - bias).T / BRIGHT
    return weight, bias


def _pixels(channels: int, size: int, y: int, x: int) -> Tensor:
    """Return `channels` pictures, each with a single 1: in its own channel, at (y, x)."""
    pictures = torch.zeros(channels, channels, size, size, dtype=torch.float64)
    pictures[torch.arange(channels), torch.arange(channels), y, x] = 1
    return pictures


def layer_of(weight: Tensor, bias: Tensor, spec: ConvSpec) -> nn.Conv2d:
    """Return the dense float64 convolution with this weight and bias and the geometry of `spec`."""
    layer = nn.Conv2d(
        spec.in_channels, spec.out_channels, spec.kernel_size, spec.stride, spec.padding,  # type: ignore[arg-type]
        spec.dilation, padding_mode=spec.padding_mode, dtype=torch.float64,  # type: ignore[arg-type]
    )  # fmt: skip
    layer.weight.copy_(weight)
    if layer.bias is not None:
        layer.bias.copy_(bias)
    return layer


def structure_error(block: Map, layer: Map, spec: ConvSpec) -> float:
    """Return max|block - layer| / max|layer| over zero and every single pixel of the grid.

    Two affine maps that agree there agree for every input of that size, and the grid holds all that a larger
    picture adds.
    """
    errors, sizes = [], []
    for pictures in _every_pixel(spec.in_channels, Grid.of(spec).size):
        wanted = layer(pictures)
        errors.append((block(pictures) - wanted).abs().max().item())
        sizes.append(wanted.abs().max().item())
    return relative(worst(errors), worst(sizes))


def worst(errors: list[float]) -> float:
    """Return the largest; infinity if one is no number, which `max` would pass over."""
    return float("inf") if any(math.isnan(error) for error in errors) else max(errors)


def relative(error: float, size: float) -> float:
    """Return error / size; the error itself where all is 0."""
    return error / size if size else error


def _every_pixel(channels: int, size: int) -> Iterator[Tensor]:
    yield torch.zeros(1, channels, size, size, dtype=torch.float64)
    for y in range(size):
        for x in range(size):
            yield _pixels(channels, size, y, x)


def affinity_error(block: Map, spec: ConvSpec) -> float:
    """Return how far f(a + s b) - f(0) is from (f(a) - f(0)) + s (f(b) - f(0)), relative, at s = +-1e-3, +-1, +-1e3."""
    size = Grid.of(spec).size
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 4, spec.in_channels, size, size, generator=generator, dtype=torch.float64)
    zero = block(torch.zeros_like(a))
    errors = []
    for scale in (sign * s for s in SCALES for sign in (1, -1)):
        wanted = (block(a) - zero) + scale * (block(b) - zero)
        error = (block(a + scale * b) - zero - wanted).abs().max().item()
        errors.append(relative(error, wanted.abs().max().item() + zero.abs().max().item()))
    return worst(errors)


def unmergeable(chain: nn.Sequential) -> list[str]:
    """Return, for each layer that is no fixed affine map in its present state, its name and what is wrong."""
    found = []
    for name, layer in chain.named_children():
        if isinstance(layer, SlopedActivation):
            if layer.slope.item() != 1.0:
                found.append(f"{name} has slope {layer.slope.item():g}")
        elif isinstance(layer, nn.BatchNorm2d):
            if layer.training or layer.running_mean is None:
                found.append(f"{name} normalises with the statistics of the batch")
        elif not isinstance(layer, nn.Conv2d):
            found.append(f"{name} is a {type(layer).__name__}")
    return found


def absolute(chain: nn.Sequential) -> nn.Sequential:
    """Return the running bound of a chain, |A3| (|a2| (|A1| |x| + |b1|) + |b2|) + |b3|, as float64 modules.

    Rounding errors of the chain are at most a small multiple of u times this (Higham, Accuracy and Stability, 3.1).
    """
    layers: list[nn.Module] = []
    for layer in chain:
        if isinstance(layer, nn.Conv2d):
            layers.append(_absolute_conv(layer))
        elif isinstance(layer, nn.BatchNorm2d):
            layers.append(absolute_norm(layer))
    return nn.Sequential(*layers)


def _absolute_conv(conv: nn.Conv2d) -> nn.Conv2d:
    bound = ConvSpec.of(conv).build(conv.weight.double())
    bound.weight.copy_(conv.weight.abs())
    if bound.bias is not None and conv.bias is not None:
        bound.bias.copy_(conv.bias.abs())
    return bound


def absolute_norm(norm: nn.BatchNorm2d) -> nn.Conv2d:
    """Return x -> |s| x + |beta| + |mean s| as a 1x1 depthwise convolution in float64."""
    channels = norm.num_features
    mean, var = norm.get_buffer("running_mean").double(), norm.get_buffer("running_var").double()
    gamma = torch.ones_like(mean) if norm.weight is None else norm.weight.double()
    beta = torch.zeros_like(mean) if norm.bias is None else norm.bias.double()
    scale = gamma / torch.sqrt(var + norm.eps)
    bound = nn.Conv2d(channels, channels, 1, groups=channels, dtype=torch.float64)
    bound.weight.copy_(scale.abs()[:, None, None, None])
    if bound.bias is not None:
        bound.bias.copy_(beta.abs() + (mean * scale).abs())
    return bound
