"""How each kind of block is built for a site. All padding stands in front, all other kernels are 1: so it merges."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from nbedge.affine import centre
from nbedge.layers import NORMS, Branches, Geometry, Layer, Padding, channels, convolution, dims
from nbedge.plan import Site
from nbedge.slopes import ACTIVATIONS, SlopedActivation

Steps = OrderedDict[str, nn.Module]


@dataclass(frozen=True, slots=True, eq=False)
class Workpiece:
    """The layer that a block is built for.

    Attributes:
        layer: that layer.
        site: of the plan.
        norm: the BatchNorm behind the layer, whose eps and momentum serve the inserted ones too; None: torch's own.
        bias: whether the block's last layer has a bias.
    """

    layer: Layer
    site: Site
    norm: _BatchNorm | None
    bias: bool

    @property
    def geometry(self) -> Geometry:
        """How the layer's kernel slides."""
        return Geometry.of(self.layer)

    @property
    def groups(self) -> int:
        """Groups of the layer."""
        return channels(self.layer)[2]

    def pointwise(self, inputs: int, outputs: int, bias: bool = False, strided: bool = False) -> nn.Module:
        """Return a layer of kernel 1 with the groups of the site; `strided` gives it the site's stride."""
        ones = (1,) * len(self.geometry.kernel)
        stride = self.geometry.stride if strided else ones
        slides = Geometry(ones, stride, ones, tuple((0, 0) for _ in ones))
        return convolution(self.layer, inputs, outputs, self.groups, bias, slides)

    def depthwise(self, hidden: int) -> nn.Module:
        """Return one kernel a hidden channel: of the site's size, or a factor where that size is 1."""
        geometry = self.geometry
        if geometry.is_pointwise:  # the first layer has strided already
            geometry = replace(geometry, stride=geometry.kernel)
        return convolution(self.layer, hidden, hidden, hidden, False, _unpadded(geometry))

    def spatial(self, inputs: int, outputs: int, groups: int, padded: bool = False) -> nn.Module:
        """Return a layer with the kernel of the site; `padded` if it is the first of its chain."""
        geometry = self.geometry if padded else _unpadded(self.geometry)
        return convolution(self.layer, inputs, outputs, groups, False, geometry)

    def bn(self, features: int) -> nn.Module:
        """Return a BatchNorm like the one behind the layer."""
        norm = NORMS[dims(self.layer)](features, device=self.layer.weight.device, dtype=self.layer.weight.dtype)
        if self.norm is not None:
            norm.eps, norm.momentum = self.norm.eps, self.norm.momentum
        return norm

    def act(self) -> nn.Module:
        """Return the site's activation with a slope."""
        return SlopedActivation(ACTIVATIONS[self.site.activation]()).to(self.layer.weight.device)

    def front(self) -> Steps:
        """Return the padding of the layer as a first step, if it pads."""
        return Steps(pad=Padding(self.geometry)) if self.geometry.pads else Steps()


def _unpadded(geometry: Geometry) -> Geometry:
    return replace(geometry, padding=tuple((0, 0) for _ in geometry.kernel), mode="zeros")


def hidden_channels(layer: Layer, ratio: float) -> int:
    """Return the channels inside a block: `ratio` per input channel, at least one a group."""
    inputs, _, groups = channels(layer)
    return groups * max(1, round(ratio * inputs / groups))


def _inverted_residual(work: Workpiece, hidden: int) -> Steps:
    """Return the block of NetBooster: 1x1, depthwise, 1x1; for a depthwise layer a channel multiplier."""
    return _between_pointwise(work, hidden, "depthwise", lambda: work.depthwise(hidden))


def _bottleneck(work: Workpiece, hidden: int) -> Steps:
    """Return the bottleneck of ResNet: 1x1, the layer's own kernel, 1x1."""
    if work.geometry.is_pointwise:
        return _between_pointwise(work, hidden, "spatial", lambda: work.pointwise(hidden, hidden))
    return _between_pointwise(work, hidden, "spatial", lambda: work.spatial(hidden, hidden, work.groups))


def _between_pointwise(work: Workpiece, hidden: int, name: str, middle: Callable[[], nn.Module]) -> Steps:
    """Return 1x1, `middle`, 1x1 with BatchNorm and activation in between; `middle` is called `name`."""
    inputs, outputs, _ = channels(work.layer)
    steps = work.front()
    steps["expand"] = work.pointwise(inputs, hidden, strided=work.geometry.is_pointwise)
    steps |= Steps(expand_norm=work.bn(hidden), expand_act=work.act())
    steps[name] = middle()
    steps |= {f"{name}_norm": work.bn(hidden), f"{name}_act": work.act()}
    steps["project"] = work.pointwise(hidden, outputs, work.bias)
    return steps


def _basic(work: Workpiece, hidden: int) -> Steps:
    """Return the basic block of ResNet: the layer's own kernel, then 1x1."""
    inputs, outputs, groups = channels(work.layer)
    padded = work.geometry.is_symmetric
    return Steps(
        **({} if padded else work.front()),
        spatial=work.spatial(inputs, hidden, groups, padded),
        spatial_norm=work.bn(hidden),
        spatial_act=work.act(),
        project=work.pointwise(hidden, outputs, work.bias),
    )


def _linear(work: Workpiece, hidden: int) -> Steps:
    """Return the linear chain of ExpandNets (NeurIPS 2020): 1x1, the layer's own kernel, 1x1, nothing between."""
    point = work.geometry.is_pointwise
    inputs, outputs, groups = channels(work.layer)
    middle = Steps() if point else Steps(spatial=work.spatial(hidden, hidden, groups))
    expand = work.pointwise(inputs, hidden, strided=point)
    return Steps(**work.front(), expand=expand, **middle, project=work.pointwise(hidden, outputs, work.bias))


def _branches(work: Workpiece, number: int) -> Branches:
    """Return the branches of RepVGG (CVPR 2021) and MobileOne (CVPR 2023), each with a BatchNorm of its own.

    `number` copies of the layer, a 1x1 beside a larger kernel, and the identity where shape and stride stay.
    """
    inputs, outputs, groups = channels(work.layer)
    padded = work.geometry.is_symmetric
    ways: dict[str, nn.Module] = {}
    for index in range(number):
        front = {} if padded else work.front()
        conv = work.spatial(inputs, outputs, groups, padded)
        ways[f"conv{index}"] = nn.Sequential(Steps(**front, conv=conv, norm=work.bn(outputs)))
    if not work.geometry.is_pointwise and centre(work.geometry) is not None:
        point = work.pointwise(inputs, outputs, strided=True)
        ways["point"] = nn.Sequential(Steps(conv=point, norm=work.bn(outputs)))
    if _keeps_shape(work.layer) and centre(work.geometry) is not None:
        ways["skip"] = nn.Sequential(Steps(norm=work.bn(outputs)))
    return Branches(ways)


def _keeps_shape(layer: Layer) -> bool:
    inputs, outputs, _ = channels(layer)
    return inputs == outputs and all(stride == 1 for stride in Geometry.of(layer).stride)


_CHAINS: dict[str, Callable[[Workpiece, int], Steps]] = {
    "inverted_residual": _inverted_residual, "basic": _basic, "bottleneck": _bottleneck, "linear": _linear,
}  # fmt: skip


def structure(layer: Layer, site: Site, norm: _BatchNorm | None, bias: bool) -> nn.Module:
    """Return the modules of the block for `site`, with torch's own fresh weights.

    Args:
        layer: that the block takes the place of.
        site: kind of block, ratio, activation, shortcut.
        norm: the BatchNorm behind the layer, if there is one.
        bias: whether the block's last layer has a bias.
    """
    work = Workpiece(layer, site, norm, bias)
    if site.block == "branches":
        return _branches(work, int(site.ratio))
    chain = nn.Sequential(_CHAINS[site.block](work, hidden_channels(layer, site.ratio)))
    return Branches({"chain": chain, "skip": nn.Sequential(nn.Identity())}) if site.shortcut else chain


def refusal(layer: Layer, site: Site, home: bool) -> str | None:
    """Return why the site's block cannot take the place of `layer`, or None.

    Args:
        layer: of a known class.
        site: the block that is wanted.
        home: the layer or a BatchNorm behind it can hold a bias.
    """
    geometry = Geometry.of(layer)
    if site.block != "linear" and not home:
        return (
            "no BatchNorm with running statistics reads its output alone, and it has no bias of its own: a merged "
            "bias has nowhere to go; the block 'linear' has none"
        )
    if dims(layer) == 0 and site.block in ("inverted_residual", "bottleneck", "branches"):
        return f"a fully connected layer takes the blocks basic and linear, not {site.block}"
    if site.shortcut and not (_keeps_shape(layer) and geometry.is_pointwise and not geometry.pads):
        return "a shortcut needs a kernel of 1 without padding, as many outputs as inputs, and stride 1"
    return None
