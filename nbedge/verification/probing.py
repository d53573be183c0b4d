"""What a block computes, found by running it: is it affine, and which convolution is it, for every input?"""

import copy
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from nbedge.blocks import Block, Template
from nbedge.layers import Branches, Geometry, Padding, channels, is_known, is_norm
from nbedge.slopes import SlopedActivation, slopes_of

Map = Callable[[Tensor], Tensor]
SCALES = (1e-3, 1.0, 1e3)
#: value of the pixel that a weight is read with: a bias 10^4 times the weight then costs it no digits
BRIGHT = 2.0**20
#: numbers that are held at once while pixels are tried, 1 GB in float64
HELD = 2**27


@dataclass(frozen=True, slots=True)
class Grid:
    """A small input that holds every border class and stride phase of a convolution.

    Attributes:
        size: of each spatial dimension in pixels.
        at: output position whose inputs all lie inside.
    """

    size: tuple[int, ...]
    at: tuple[int, ...]

    @classmethod
    def all_of(cls, geometry: Geometry) -> "list[Grid]":
        """Return the grids of a geometry: one, or one a stride phase where the padding depends on the size."""
        reach = [d * (k - 1) + 1 for k, d in zip(geometry.kernel, geometry.dilation, strict=True)]
        pads = reach if isinstance(geometry.padding, str) else [first for first, _ in geometry.padding]
        at = tuple(-(-pad // stride) + 1 for pad, stride in zip(pads, geometry.stride, strict=True))
        smallest = [(a + 1) * s + r for a, s, r in zip(at, geometry.stride, reach, strict=True)]
        phases = max(geometry.stride, default=1) if isinstance(geometry.padding, str) else 1
        return [cls(tuple(size + phase for size in smallest), at) for phase in range(phases)]

    def reads(self, geometry: Geometry, tap: tuple[int, ...]) -> tuple[int, ...]:
        """Return the input position that the place `tap` of the kernel reads for the output at `at`."""
        before = geometry.before(self.size)
        each = zip(self.at, geometry.stride, before, geometry.dilation, tap, strict=True)
        return tuple(a * s - b + d * t for a, s, b, d, t in each)


def kernel_of(block: Map, template: Template) -> tuple[Tensor, Tensor]:
    """Read weight (o, i / groups, *kernel) and bias (o,) of an affine map off its answers to zero and single pixels.

    `block` takes and gives float64 (n, c, *size). The result describes it only if `structure_error` is small.
    """
    geometry, (inputs, outputs, groups) = template.geometry, channels(template.layer)
    grid, each = Grid.all_of(geometry)[0], inputs // groups
    here: Any = (slice(None), slice(None), *grid.at)
    bias = block(torch.zeros(1, inputs, *grid.size, dtype=torch.float64))[here][0]
    lit = torch.eye(each, dtype=torch.float64).repeat(1, groups)  # picture i lights input i of every group
    taps = [grid.reads(geometry, tap) for tap in itertools.product(*(range(size) for size in geometry.kernel))]
    answers = torch.cat([block(BRIGHT * pixels)[here] for pixels in _pixels(lit, grid, taps)])
    weight = ((answers - bias) / BRIGHT).reshape(len(taps), each, outputs).permute(2, 1, 0)
    return weight.reshape(outputs, each, *geometry.kernel), bias


def _pixels(lit: Tensor, grid: Grid, places: list[tuple[int, ...]]) -> Iterator[Tensor]:
    """Yield pictures (n, c, *size) whose only pixel that is not 0 is at one of `places`, of one of the values `lit`."""
    number = max(1, HELD // (lit.shape[1] * math.prod(grid.size) * 64))
    at = torch.tensor(places, dtype=torch.int64).reshape(len(places), len(grid.size))
    for which in torch.split(torch.arange(len(places) * len(lit)), number):
        pictures = torch.zeros(len(which), lit.shape[1], *grid.size, dtype=torch.float64)
        here: Any = (torch.arange(len(which)), slice(None), *at[which // len(lit)].unbind(1))
        pictures[here] = lit[which % len(lit)]
        yield pictures


def structure_error(block: Map, layer: Map, template: Template) -> float:
    """Return max|block - layer| / max|layer| over zero and every single pixel of the grids.

    Two affine maps that agree there agree for every input of that size, and the grids hold all that a larger
    picture adds. Pixels of different groups are lit together, each with a brightness of its own: a leak from one group
    into another would have to cancel among random numbers.
    """
    inputs, _, groups = channels(template.layer)
    generator = torch.Generator().manual_seed(0)
    lit = torch.eye(inputs // groups, dtype=torch.float64).repeat(1, groups)
    lit = lit * (0.5 + torch.rand(inputs, generator=generator, dtype=torch.float64))
    errors, sizes = [], []
    for grid in Grid.all_of(template.geometry):
        dark = torch.zeros(1, inputs, *grid.size, dtype=torch.float64)
        places = list(itertools.product(*(range(size) for size in grid.size)))
        for pictures in itertools.chain([dark], _pixels(lit, grid, places)):
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


def affinity_error(block: Map, template: Template) -> float:
    """Return how far f(a + s b) - f(0) is from (f(a) - f(0)) + s (f(b) - f(0)), relative, at s = +-1e-3, +-1, +-1e3."""
    size = Grid.all_of(template.geometry)[0].size
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 4, channels(template.layer)[0], *size, generator=generator, dtype=torch.float64)
    scales = [sign * scale for scale in SCALES for sign in (1, -1)]
    given = torch.cat([torch.zeros_like(a), a, b, *(a + scale * b for scale in scales)])
    zero, at_a, at_b, *found = torch.split(block(given), len(a))  # in one call, which is the costly part
    errors = []
    for scale, answer in zip(scales, found, strict=True):
        wanted = (at_a - zero) + scale * (at_b - zero)
        error = (answer - zero - wanted).abs().max().item()
        errors.append(relative(error, wanted.abs().max().item() + zero.abs().max().item()))
    return worst(errors)


#: containers, and modules that change nothing or only pad
_NEUTRAL = (nn.Sequential, Branches, Padding, nn.Identity, Block)


def unmergeable(chain: nn.Module) -> list[str]:
    """Return, for each part that is no fixed affine map in its present state, its name and what is wrong."""
    found = []
    slopes = slopes_of(chain)
    inside_slopes = tuple(f"{name}." for name in slopes)
    for name, part in chain.named_modules():
        if isinstance(part, SlopedActivation):
            if slopes[name] != 1.0:
                found.append(f"{name} has slope {slopes[name]:g}")
        elif is_norm(part):
            if part.training or part.running_mean is None:
                found.append(f"{name} normalises with the statistics of the batch")
        elif isinstance(part, _DropoutNd):
            if part.training and part.p:
                found.append(f"{name} drops at random")
        elif not (is_known(part) or isinstance(part, _NEUTRAL) or name.startswith(inside_slopes)):
            found.append(f"{name} is a {type(part).__name__}")
    return found


class _AbsoluteNorm(nn.Module):
    """x -> |s| x + |beta| + |mean s|, in float64: the running bound of a BatchNorm."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        mean, variance = (norm.get_buffer(name).double() for name in ("running_mean", "running_var"))
        gamma, beta = (getattr(norm, name) for name in ("weight", "bias"))
        self.scale = 1 / torch.sqrt(variance + norm.eps)  # type: ignore[operator]
        if gamma is not None:
            self.scale = (gamma.double() * self.scale).abs()
        self.shift = (mean * self.scale).abs()
        if beta is not None:
            self.shift = self.shift + beta.double().abs()

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, *size) -> the same shape."""
        shape = (1, -1, *(1,) * (x.ndim - 2))
        return x * self.scale.reshape(shape) + self.shift.reshape(shape)


def absolute(module: nn.Module) -> nn.Module:
    """Return the running bound of a block, |A3| (|a2| (|A1| |x| + |b1|) + |b2|) + |b3|, as float64 modules.

    Rounding errors of the block are at most a small multiple of u times this (Higham, Accuracy and Stability, 3.1).
    """
    if isinstance(module, SlopedActivation | _DropoutNd):
        return nn.Identity()
    if is_norm(module):
        return _AbsoluteNorm(module)
    if isinstance(module, Block):
        return absolute(module.chain)
    if isinstance(module, nn.Sequential):
        return nn.Sequential(*(absolute(part) for part in module))
    if isinstance(module, Branches):
        return Branches({name: absolute(part) for name, part in module.items()})
    bound = copy.deepcopy(module).double()
    for parameter in bound.parameters():
        parameter.data = parameter.data.abs()
    return bound
