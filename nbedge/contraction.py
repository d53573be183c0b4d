"""contract(): merge each `Expanded` block into the one layer it has become, in float64, or refuse."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nbedge.blocks import Expanded, SlopedActivation, expanded_blocks
from nbedge.errors import ContractionError


@dataclass(frozen=True, slots=True)
class AffineMap:
    """y = weight * x + bias, the convolution of no padding: weight (o, i, kh, kw), bias (o,), both float64."""

    weight: Tensor
    bias: Tensor


def of_conv(conv: nn.Conv2d) -> AffineMap:
    """Return `conv` as a dense map: groups become blocks on the diagonal."""
    groups, (out, each, kh, kw) = conv.groups, conv.weight.shape
    weight = torch.zeros(out, each * groups, kh, kw, dtype=torch.float64)
    rows = out // groups
    for g in range(groups):
        weight[g * rows : (g + 1) * rows, g * each : (g + 1) * each] = conv.weight[g * rows : (g + 1) * rows].double()
    return AffineMap(weight, torch.zeros(out, dtype=torch.float64) if conv.bias is None else conv.bias.double())


def then_norm(first: AffineMap, norm: nn.BatchNorm2d) -> AffineMap:
    """Return `first` followed by a BatchNorm in eval mode: s = gamma / sqrt(var + eps), t = beta - mean s."""
    scale, shift = scale_shift(norm)
    return AffineMap(first.weight * scale[:, None, None, None], first.bias * scale + shift)


def scale_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return (s, t), each (c,) in float64, of a BatchNorm in eval mode: y = s x + t."""
    if norm.running_mean is None or norm.running_var is None:
        raise ContractionError("a BatchNorm without running statistics is no fixed map and cannot be merged")
    mean, var = norm.running_mean.double(), norm.running_var.double()
    gamma = torch.ones_like(mean) if norm.weight is None else norm.weight.double()
    beta = torch.zeros_like(mean) if norm.bias is None else norm.bias.double()
    scale = gamma / torch.sqrt(var + norm.eps)
    return scale, beta - mean * scale


def compose(first: AffineMap, second: AffineMap) -> AffineMap:
    """Return `first` followed by `second`, of which at least one has kernel 1.

    W[o,i,h,w] = sum over m of second[o,m] first[m,i] (the kernel of the other one is kept);
    b = sum over m and kernel of second[o,m] b_first[m] + b_second. Exact everywhere because nothing pads in between.

    Raises:
        ContractionError: both kernels are larger than 1.
    """
    if second.weight.shape[2:] == (1, 1):
        weight = torch.einsum("om,mihw->oihw", second.weight[:, :, 0, 0], first.weight)
    elif first.weight.shape[2:] == (1, 1):
        weight = torch.einsum("omhw,mi->oihw", second.weight, first.weight[:, :, 0, 0])
    else:
        raise ContractionError("two kernels larger than 1 in one block cannot be merged")
    return AffineMap(weight, second.weight.sum((2, 3)) @ first.bias + second.bias)


def merge(block: Expanded, name: str = "block") -> AffineMap:
    """Return the one affine map that `block` has become.

    Raises:
        ContractionError: a slope is not exactly 1, or a layer is in training mode, not finite, or not mergeable.
    """
    result: AffineMap | None = None
    for child, layer in block.chain.named_children():
        _refuse_unfit(layer, f"{name}.chain.{child}")
        if isinstance(layer, nn.Conv2d):
            result = of_conv(layer) if result is None else compose(result, of_conv(layer))
        elif isinstance(layer, nn.BatchNorm2d) and result is not None:
            if layer.running_mean is None:
                raise ContractionError(f"{name}.chain.{child} keeps no running statistics, so it cannot be merged")
            result = then_norm(result, layer)
    if result is None:
        raise ContractionError(f"{name} holds no convolution; rebuild the giant with nbedge.expand")
    return result


def contract(giant: nn.Module) -> nn.Module:
    """Return the tiny model that `giant` has become: same class, keys and shapes as before expansion.

    The merge is computed in float64 and rounded once. A convolution with a bias of its own keeps the merged bias
    there; otherwise the bias b goes into the BatchNorm that follows (mean' = mean - b).

    Args:
        giant: in eval mode, every slope exactly 1; it is left as it is.

    Raises:
        ContractionError: the model has no expanded block, or a block is in a state that cannot be merged exactly;
            the message names the layer and the cure.
    """
    tiny = copy.deepcopy(giant)
    blocks = expanded_blocks(tiny)
    if not blocks:
        raise ContractionError("the model has no expanded block; contract() takes a giant made by nbedge.expand")
    # a new layer draws random weights before it gets the merged ones: the caller's random state stays
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for name, block in blocks:
            norm = tiny.get_submodule(block.norm)
            _refuse_unfit(norm, block.norm)
            tiny.set_submodule(name, _merged_layer(block, name, norm))
    return tiny


def _merged_layer(block: Expanded, name: str, norm: nn.Module) -> nn.Conv2d:
    merged = merge(block, name)
    conv = block.replaced.build(next(block.parameters())).train(block.training)
    conv.weight.copy_(merged.weight)
    if conv.bias is not None:
        conv.bias.copy_(merged.bias)
    elif isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None:
        norm.running_mean.copy_(norm.running_mean.double() - merged.bias)
    else:
        raise ContractionError(f"{block.norm} after {name} is no BatchNorm2d with running statistics to hold its bias")
    return conv


def _refuse_unfit(layer: nn.Module, name: str) -> None:
    """Raise unless `layer` is a fixed affine map in its present state."""
    if isinstance(layer, SlopedActivation):
        if layer.slope.item() != 1.0:
            raise ContractionError(
                f"{name} has slope {layer.slope.item():g}, not exactly 1; finish PLT before contracting"
            )
        return
    if not isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
        raise ContractionError(f"{name} is a {type(layer).__name__}, which cannot be merged exactly")
    if isinstance(layer, nn.BatchNorm2d) and layer.training:
        raise ContractionError(f"{name} is in training mode; call giant.eval() before contracting")
    for key, value in layer.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ContractionError(f"{name}.{key} holds a value that is not finite; the training has diverged")
