"""Equalization: channels of one tensor are brought to like sizes, at no change of what the network computes.

A factor moves through every operator that does not mind: out of the layers that make a channel, into those that read
it. An activation with a ceiling, such as ReLU6, minds; its channels are left alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx

from nbedge.quantization.folding import ATEN, Layer, copied, layers_of
from nbedge.quantization.grid import operator_name

#: operators that give s f(x) for s x, channel by channel, s > 0; sums do where all their terms have the factor
COMMUTING = ("relu", "leaky_relu", "_prelu_kernel", "add", "sub", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d",
             "mean", "view", "reshape", "flatten", "squeeze", "clone", "alias", "dropout", "constant_pad_nd", "pad",
             "upsample_nearest2d")  # fmt: skip
#: a channel is scaled by at most this, all rounds together, and by at least its inverse
BOUND = 100.0
ROUNDS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Equalized:
    """A folded network with equalized channels.

    Attributes:
        module: the network.
        tensors: how many were equalized.
        skipped: how many could not be, for something reads or makes them that minds factors.
    """

    module: fx.GraphModule
    tensors: int
    skipped: int


@dataclass(slots=True, eq=False)
class _Shared:
    """Values whose channels must have the same factors: what makes them, what reads them, the factors up to now."""

    makers: list[Layer] = field(default_factory=list)
    readers: list[Layer] = field(default_factory=list)
    nodes: list[fx.Node] = field(default_factory=list)
    fixed: bool = False
    returned: bool = False
    scaled: Tensor | float = 1.0


def equalized(module: fx.GraphModule, x: Tensor) -> Equalized:
    """Return a folded network that computes the same, whose channels are of like sizes.

    Cross-layer equalization (Nagel et al., ICCV 2019) with the sizes of activations for those of the weights that make
    them, which have a scale a channel anyway: a channel of size a that is read by weights of size w gets the factor
    sqrt(w / a) (Xiao et al., SmoothQuant, ICML 2023); 1 / a if only depthwise layers read it, whose weights have a
    scale a channel too.

    Args:
        module: a folded network; it is left as it is.
        x: (n, ...) inputs, on which the sizes of channels are measured.
    """
    found = copied(module)
    groups = [group for group in _groups(found) if group.makers and not group.returned]
    free = [group for group in groups if group.readers and not group.fixed]
    with torch.no_grad():
        for _ in range(ROUNDS):
            sizes = _sizes(found, x, [node for group in free for node in group.nodes])
            for group in free:
                _scale_(group, sizes)
    return Equalized(found, len(free), len(groups) - len(free))


def _groups(module: fx.GraphModule) -> list[_Shared]:
    """Return the values of a network, in groups of those that share their factors."""
    place: dict[fx.Node, _Shared] = {}
    layers = {layer.node: layer for layer in layers_of(module)}

    def joined(nodes: Sequence[fx.Node]) -> _Shared:
        whole = _Shared()
        for group in {id(g): g for g in (place.setdefault(node, _Shared(nodes=[node])) for node in nodes)}.values():
            for name in ("makers", "readers", "nodes"):
                getattr(whole, name).extend(getattr(group, name))
            whole.fixed |= group.fixed
            whole.returned |= group.returned
        place.update(dict.fromkeys(whole.nodes, whole))
        return whole

    for node in module.graph.nodes:
        read = [n for n in node.all_input_nodes if isinstance(n.meta.get("val"), Tensor) and n.op != "get_attr"]
        if node in layers:
            layer = layers[node]
            joined([node]).makers.append(layer)
            into = joined(read)
            into.readers.append(layer)
            into.fixed |= layer.groups > 1 and not layer.depthwise
        elif _commutes(node, read):
            joined([node, *read])
        else:
            for value in (node, *read):
                group = joined([value])
                group.fixed, group.returned = True, group.returned or node.op == "output"
    return list({id(group): group for group in place.values()}.values())


def _commutes(node: fx.Node, read: Sequence[fx.Node]) -> bool:
    """Return whether factors of channels pass through an operator: it keeps them apart and in their places."""
    if node.op != "call_function" or operator_name(node) not in COMMUTING or not read:
        return False
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or value.ndim < 2 or any(r.meta["val"].ndim < 2 for r in read):
        return False
    if node.target in (ATEN.add.Tensor, ATEN.sub.Tensor) and len(read) < 2:
        return False  # a constant would need the factor too
    if node.target is ATEN.mean.dim and 1 in [axis % read[0].meta["val"].ndim for axis in node.args[1]]:  # type: ignore[union-attr]
        return False
    padded = operator_name(node) in ("constant_pad_nd", "pad") and len(node.args) > 2 and node.args[2]
    return not padded and all(r.meta["val"].shape[1] == value.shape[1] for r in read)


def _sizes(module: fx.GraphModule, x: Tensor, nodes: Sequence[fx.Node]) -> dict[fx.Node, Tensor]:
    """Return (channels,) the largest magnitude of each channel of each value."""
    wanted, found = set(nodes), {}

    class Watch(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            value = super().run_node(n)
            if n in wanted:
                found[n] = value.abs().movedim(1, 0).flatten(1).amax(1)
            return value

    Watch(module).run(x)
    return found


def _scale_(group: _Shared, sizes: dict[fx.Node, Tensor]) -> None:
    """Multiply the factors of a group into its layers."""
    size = torch.stack([sizes[node] for node in group.nodes]).amax(0)
    read = [layer for layer in group.readers if not layer.depthwise]
    if read:
        width = torch.stack([layer.weight.abs().movedim(1, 0).flatten(1).amax(1) for layer in read]).amax(0)
        raw = torch.sqrt(width / size.clamp_min(1e-30))
    else:
        width, raw = torch.ones_like(size), 1 / size.clamp_min(1e-30)
    alive = (size > 0) & (width > 0)
    if not alive.any():
        return
    wanted = torch.where(alive, raw / raw[alive].log().mean().exp(), 1) * group.scaled
    factors = wanted.clamp(1 / BOUND, BOUND) / group.scaled
    group.scaled = group.scaled * factors
    for layer in group.makers:
        layer.weight.mul_(factors.reshape(-1, *(1,) * (layer.weight.ndim - 1)))
        layer.bias.mul_(factors)
    for layer in group.readers:
        along = factors.repeat_interleave(len(layer.weight) // len(factors)) if layer.depthwise else factors
        shape = (-1, *(1,) * (layer.weight.ndim - 1)) if layer.depthwise else (1, -1, *(1,) * (layer.weight.ndim - 2))
        layer.weight.div_(along.reshape(shape))
