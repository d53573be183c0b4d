"""The algebra of contraction: what a block has become, as one grouped convolution y = W x + b.

Everything here is differentiable, so that training can go on through the merged weight. The formulas and the cases in
which they are exact: docs/how-it-works.md.
"""

import itertools
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from nbedge.errors import ContractionError
from nbedge.layers import Branches, Geometry, Padding, channels, is_known, is_norm, scale_shift
from nbedge.slopes import SlopedActivation

#: modules that change nothing in eval mode at slope 1
_IDENTITIES = (SlopedActivation, nn.Identity, _DropoutNd)


@dataclass(frozen=True, slots=True)
class AffineMap:
    """A convolution of g groups; weight and bias have the type of the layers that they come from.

    Attributes:
        weight: (g, o, i, k): outputs and inputs of one group, the kernel flattened.
        bias: (g, o).
        geometry: how the kernel slides.
    """

    weight: Tensor
    bias: Tensor
    geometry: Geometry

    def for_layer(self) -> tuple[Tensor, Tensor]:
        """Return (weight, bias) in the shapes of torch's layers: (g o, i, *kernel) and (g o,)."""
        groups, outputs, inputs, _ = self.weight.shape
        return self.weight.reshape(groups * outputs, inputs, *self.geometry.kernel), self.bias.reshape(-1)


class Mergeable(nn.Module, ABC):
    """A module of several layers that knows which one map it has become."""

    @abstractmethod
    def affine(self, name: str) -> AffineMap:
        """Return the map; `name` is the module's path, for messages."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What the map of a block is expressed in: groups and spatial dimensions of the layer whose place it takes."""

    groups: int
    dims: int


def map_of(module: nn.Module, frame: Frame, name: str = "block") -> AffineMap:
    """Return the one map that a block computes in eval mode at slope 1.

    Args:
        module: a layer, a chain (`nn.Sequential`) or branches of chains; each layer has a multiple of `frame.groups`.
        frame: of the result.
        name: for messages.

    Raises:
        ContractionError: the block is not one convolution.
    """
    found = _then(None, module, frame, name)
    if found is None:
        raise ContractionError(f"{name} holds no convolution; rebuild the giant with nbedge.expand")
    return found


def _then(before: AffineMap | None, module: nn.Module, frame: Frame, name: str) -> AffineMap | None:
    """Return `before` followed by `module`; None stands for the identity."""
    if isinstance(module, nn.Sequential):
        return _chain(before, list(module.named_children()), frame, name)
    if isinstance(module, _IDENTITIES):
        return before
    if is_norm(module):
        return _then_norm(before, module, frame)
    if is_known(module):
        return _then_map(before, _of_layer(module), frame, name)
    if isinstance(module, Branches):
        maps = {f"{name}.{key}": _then(None, branch, frame, f"{name}.{key}") for key, branch in module.items()}
        return _then_map(before, _sum(maps, name), frame, name)
    if isinstance(module, Mergeable):
        return _then_map(before, module.affine(name), frame, name)
    raise ContractionError(f"{name} is a {type(module).__name__}, which cannot be merged exactly; rebuild the giant")


def _chain(
    before: AffineMap | None, steps: list[tuple[str, nn.Module]], frame: Frame, name: str
) -> AffineMap | None:  # fmt: skip
    if steps and isinstance(steps[0][1], Padding):
        _refuse_padding(before, name)
        return _padded(_chain(None, steps[1:], frame, name), steps[0][1].geometry, name)
    for key, layer in steps:
        before = _then(before, layer, frame, f"{name}.{key}")
    return before


def _padded(found: AffineMap | None, front: Geometry, name: str) -> AffineMap:
    if found is None or found.geometry.pads:
        raise ContractionError(f"{name} pads twice, or pads for no convolution; rebuild the giant with nbedge.expand")
    return replace(found, geometry=replace(found.geometry, padding=front.padding, mode=front.mode))


def _refuse_padding(before: AffineMap | None, name: str) -> None:
    """Refuse to pad behind another layer: padding puts 0 where that layer's answer to 0 would have to stand."""
    if before is not None:
        raise ContractionError(
            f"{name} pads in the middle of its block, which no single convolution reproduces at the border; "
            "move the padding to the front of the block"
        )


def _of_layer(layer: nn.Module) -> AffineMap:
    """Return one layer as a map of its own groups."""
    assert isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
    _, outputs, groups = channels(layer)
    bias = layer.weight.new_zeros(outputs) if layer.bias is None else layer.bias
    weight = layer.weight.reshape(groups, outputs // groups, layer.weight.shape[1], -1)
    return AffineMap(weight, bias.reshape(groups, -1), Geometry.of(layer))


def _regrouped(found: AffineMap, groups: int) -> AffineMap:
    """Return the same map in fewer groups: its own become blocks on the diagonal."""
    own, outputs, inputs, size = found.weight.shape
    if own == groups:
        return found
    inner = own // groups
    eye = torch.eye(inner, dtype=found.weight.dtype, device=found.weight.device)
    blocks = torch.einsum("gsoik,st->gsotik", found.weight.reshape(groups, inner, outputs, inputs, size), eye)
    weight = blocks.reshape(groups, inner * outputs, inner * inputs, size)
    return replace(found, weight=weight, bias=found.bias.reshape(groups, -1))


def _identity(like: Tensor, groups: int, dims: int) -> AffineMap:
    each = len(like) // groups
    eye = torch.eye(each, dtype=like.dtype, device=like.device)
    ones = (1,) * dims
    geometry = Geometry(ones, ones, ones, ((0, 0),) * dims)
    return AffineMap(eye.expand(groups, each, each)[..., None], like.new_zeros(groups, each), geometry)


def _then_norm(before: AffineMap | None, norm: nn.Module, frame: Frame) -> AffineMap:
    scale, shift = scale_shift(norm)
    before = before or _identity(scale, frame.groups, frame.dims)
    scale, shift = scale.reshape(before.bias.shape), shift.reshape(before.bias.shape)
    return replace(before, weight=before.weight * scale[..., None, None], bias=before.bias * scale + shift)


def _then_map(first: AffineMap | None, second: AffineMap, frame: Frame, name: str) -> AffineMap:
    """Return `first` followed by `second`; in each dimension one of the two kernels must be 1.

    W[o, i, (q, p)] = sum over m of second[o, m, q] first[m, i, p]; b = sum over m, q of second[o, m, q] b_first[m] +
    b_second. Exact everywhere, because nothing pads in between.
    """
    groups = len(second.bias)
    if groups % frame.groups:
        raise ContractionError(f"{name} has {groups} groups in a block of {frame.groups}, whose channels it would mix")
    if first is None:
        return _regrouped(second, frame.groups)
    if second.geometry.pads:
        _refuse_padding(first, name)
    _, _, inputs, size = first.weight.shape
    # a depthwise layer stays in its own groups: as one dense matrix it would need gigabytes
    before = first.weight.reshape(groups, -1, inputs, size)
    weight = torch.einsum("gomq,gmip->goiqp", second.weight, before)
    bias = torch.einsum("gomq,gm->go", second.weight, first.bias.reshape(groups, -1)) + second.bias
    weight = _interleaved(weight.reshape(frame.groups, -1, *weight.shape[2:]), first.geometry, second.geometry)
    return AffineMap(weight, bias.reshape(frame.groups, -1), _composed(first.geometry, second.geometry, name))


def _interleaved(weight: Tensor, first: Geometry, second: Geometry) -> Tensor:
    """Return (g, o, i, q, p) with both flattened kernels as (g, o, i, k), k the flattened kernel of the composition."""
    lead, number = weight.shape[:3], len(first.kernel)
    order = itertools.chain.from_iterable((3 + d, 3 + number + d) for d in range(number))
    return weight.reshape(*lead, *second.kernel, *first.kernel).permute(0, 1, 2, *order).reshape(*lead, -1)


def _composed(first: Geometry, second: Geometry, name: str) -> Geometry:
    kernel, stride, dilation = [], [], []
    sizes: Any = zip(
        first.kernel, second.kernel, first.stride, second.stride, first.dilation, second.dilation, strict=True
    )
    for k1, k2, s1, s2, d1, d2 in sizes:
        if k1 > 1 and k2 > 1:
            raise ContractionError(f"{name} is a second kernel larger than 1 in one block, which cannot be merged")
        kernel.append(max(k1, k2))
        stride.append(s1 * s2)
        dilation.append(s1 * d2 if k2 > 1 else d1)
    return Geometry(tuple(kernel), tuple(stride), tuple(dilation), first.padding, first.mode)


def _sum(maps: dict[str, AffineMap | None], name: str) -> AffineMap:
    """Return the sum of branches; a kernel of 1 goes to where the largest kernel reads the same pixel."""
    widest = max((found for found in maps.values() if found), key=lambda found: found.weight.shape[-1], default=None)
    if widest is None:
        raise ContractionError(f"{name} holds no convolution; rebuild the giant with nbedge.expand")
    identity = _identity(widest.bias.flatten(), len(widest.bias), len(widest.geometry.kernel))
    added = [_embedded(found or identity, widest.geometry, path) for path, found in maps.items()]
    weight, bias = (torch.stack(parts).sum(0) for parts in zip(*((m.weight, m.bias) for m in added), strict=True))
    return AffineMap(weight, bias, widest.geometry)


def _embedded(found: AffineMap, target: Geometry, name: str) -> AffineMap:
    if found.geometry == target:
        return found
    tap = centre(target)
    if not found.geometry.is_pointwise or found.geometry.pads or found.geometry.stride != target.stride or tap is None:
        raise ContractionError(
            f"{name} slides over the input in another way than the branches beside it; rebuild the giant"
        )
    weight = found.weight.new_zeros(*found.weight.shape[:3], *target.kernel)
    place: Any = (..., *tap)
    weight[place] = found.weight[..., 0]
    return replace(found, weight=weight.reshape(*found.weight.shape[:3], -1), geometry=target)


def centre(geometry: Geometry) -> tuple[int, ...] | None:
    """Return the place in the kernel that reads what an unpadded kernel of 1 reads; None if there is none."""
    if isinstance(geometry.padding, str):
        return None
    taps = []
    for size, dilation, (before, after) in zip(geometry.kernel, geometry.dilation, geometry.padding, strict=True):
        tap, rest = divmod(before, dilation)
        if rest or tap >= size or before + after != dilation * (size - 1):
            return None
        taps.append(tap)
    return tuple(taps)
