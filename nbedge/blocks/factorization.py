"""With which weights a block starts: fresh ones, or such that the giant computes what the tiny model computed."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nbedge.blocks.structures import structure
from nbedge.errors import PlanError
from nbedge.layers import Branches, Geometry, Layer, channels, is_known
from nbedge.plan import Site
from nbedge.slopes import set_slope_

#: what is left of a weight that its factors do not reach, relative; a weight of full rank leaves 0.1 and more
RESIDUAL = 1e-9


def started(layer: Layer, site: Site, norm: _BatchNorm | None) -> nn.Module:
    """Return the chain of the block for `site`, with the weights that `site.start` asks for.

    * random: Kaiming normal, fan out; the layer's own weights are given up.
    * zero: the layer itself, and beside it a fresh chain whose answer is 0 in either mode.
    * factorized: slope 1, and weights whose product is the layer's; in eval mode the answer is the layer's.

    Raises:
        PlanError: the block is too narrow for the product of its weights to be the layer's.
    """
    own = layer.bias is not None
    if site.start == "zero":
        added = _silenced(_fresh(structure(layer, site, norm, bias=False)))
        return Branches({"kept": copy.deepcopy(layer), "added": added})
    chain = _fresh(structure(layer, site, norm, own))
    if site.start == "factorized":
        _factorize_(chain, layer, site)
    return chain


def _fresh(chain: nn.Module) -> nn.Module:
    for part in chain.modules():
        if is_known(part):
            nn.init.kaiming_normal_(part.get_parameter("weight"), mode="fan_out")
            if part.bias is not None:
                nn.init.zeros_(part.get_parameter("bias"))
    return chain


def _silenced(added: nn.Module) -> nn.Module:
    """Set the last layer of each way through `added` to 0; a BatchNorm of zero gamma answers 0 in training too."""
    ways = added.values() if isinstance(added, Branches) else [added]
    for way in ways:
        last = list(way.children())[-1]
        nn.init.zeros_(last.get_parameter("weight"))
    return added


def _factorize_(chain: nn.Module, layer: Layer, site: Site) -> None:
    """Choose orthogonal first (and last) factors and solve for the one that makes the product the layer's weight."""
    parts = dict(chain.named_children())
    inputs, outputs, groups = channels(layer)
    wanted = layer.weight.detach().double().reshape(groups, outputs // groups, inputs // groups, -1)
    for part in parts.values():  # a fresh BatchNorm in eval mode divides by the root of 1 + eps
        wanted = wanted * (1 + part.eps) ** 0.5 if isinstance(part, _BatchNorm) else wanted
    if Geometry.of(layer).is_pointwise:
        left = _solve_project_(parts, wanted, groups)
    else:
        left = _solve_spatial_(parts, wanted, groups)
    if left > RESIDUAL:
        raise PlanError(
            f"site {site.layer}: at ratio {site.ratio:g} the {site.block} is too narrow to start as the layer it "
            f"replaces ({100 * left:.0f} % of the weight is out of reach); raise the ratio, or start it at zero"
        )
    with torch.no_grad():
        if layer.bias is not None:
            parts["project"].get_parameter("bias").copy_(layer.bias)
    set_slope_(chain, 1.0)


def _solve_project_(parts: dict[str, nn.Module], wanted: Tensor, groups: int) -> float:
    """Solve W3 A = W for the last factor (A is what stands in front of it); return the share out of reach."""
    names = [name for name in ("expand", "spatial", "depthwise") if name in parts]
    before = _orthogonal_(parts[names[0]], groups)
    for name in names[1:]:
        if name == "depthwise":
            nn.init.ones_(parts[name].get_parameter("weight"))
        else:
            before = _orthogonal_(parts[name], groups) @ before
    solved = wanted[..., 0] @ torch.linalg.pinv(before)  # (g, o, i) (g, i, h)
    _store_(parts["project"], solved)
    return _left(solved @ before, wanted[..., 0])


def _solve_spatial_(parts: dict[str, nn.Module], wanted: Tensor, groups: int) -> float:
    """Solve W3 K A = W for the middle factor K, for each place of the kernel; return the share out of reach."""
    last = _orthogonal_(parts["project"], groups)  # (g, o, h)
    if "depthwise" in parts:
        first = _orthogonal_(parts["expand"], groups)  # (g, h, i)
        pairs = torch.einsum("goh,ghi->goih", last, first).flatten(1, 2)
        solved = torch.linalg.pinv(pairs) @ wanted.flatten(1, 2)  # (g, h, k)
        _store_(parts["depthwise"], solved)
        return _left(pairs @ solved, wanted.flatten(1, 2))
    eye = torch.eye(wanted.shape[2]).to(wanted).expand(groups, -1, -1)
    first = _orthogonal_(parts["expand"], groups) if "expand" in parts else eye  # (g, h, i)
    solved = torch.einsum("gho,goik,gij->ghjk", torch.linalg.pinv(last), wanted, torch.linalg.pinv(first))
    product = torch.einsum("goh,ghjk,gji->goik", last, solved, first)
    _store_(parts["spatial"], solved)
    return _left(product, wanted)


def _orthogonal_(layer: nn.Module, groups: int) -> Tensor:
    """Fill a layer of kernel 1 with an orthogonal matrix a group; return them (g, o, i) as stored, in float64."""
    weight = layer.get_parameter("weight")
    rows = len(weight) // groups
    with torch.no_grad():
        for group in range(groups):
            part = torch.empty(rows, weight.shape[1], dtype=torch.float64)
            weight[group * rows : (group + 1) * rows] = nn.init.orthogonal_(part).reshape(rows, *weight.shape[1:])
    return weight.detach().double().reshape(groups, rows, -1)


def _store_(layer: nn.Module, solved: Tensor) -> None:
    weight = layer.get_parameter("weight")
    with torch.no_grad():
        weight.copy_(solved.reshape(weight.shape))


def _left(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm().clamp_min(1e-300))
