"""Block: what stands in a giant where one layer of the tiny model stood, until it is contracted."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nbedge.affine import AffineMap, Frame, Mergeable, map_of
from nbedge.blocks.state import refuse_unfit
from nbedge.errors import ContractionError
from nbedge.layers import Geometry, Layer, Padding, channels, dims, is_norm
from nbedge.plan import Site
from nbedge.tracing import evaluating


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """The layer that a block replaced, without its weights: of its class and with all its options.

    Attributes:
        layer: on torch's meta device, which holds shapes and no numbers.
    """

    layer: Layer

    @classmethod
    def of(cls, layer: Layer) -> "Template":
        """Take the template of `layer`."""
        return cls(copy.deepcopy(layer).to("meta"))

    @property
    def geometry(self) -> Geometry:
        """How the layer's kernel slides."""
        return Geometry.of(self.layer)

    @property
    def frame(self) -> Frame:
        """The groups and dimensions that the layer's map is expressed in."""
        return Frame(channels(self.layer)[2], dims(self.layer))

    def build(self, weight: Tensor, bias: Tensor | None, like: Tensor) -> Layer:
        """Return a layer of this kind that holds `weight` and `bias` rounded to the type of `like`."""
        built = copy.deepcopy(self.layer).to(like.dtype).to_empty(device=like.device)
        with torch.no_grad():
            built.weight.copy_(weight)
            if built.bias is not None and bias is not None:
                built.bias.copy_(bias)
        return built

    def fits(self, layer: nn.Module) -> bool:
        """Return whether `layer` is of the class and shape of the one replaced."""
        if type(layer) is not type(self.layer):
            return False
        same = Geometry.of(layer) == self.geometry and channels(layer) == channels(self.layer)
        return same and (layer.bias is None) == (self.layer.bias is None)


class Block(Mergeable):
    """A module that takes a layer's place and can become that layer again.

    Attributes:
        site: of the plan: where it stands and what it is.
        replaced: the layer that stood there.
        chain: the layers; at slope 1 and in eval mode they are one affine map.
    """

    def __init__(self, site: Site, replaced: Template, chain: nn.Module, giant: nn.Module) -> None:
        super().__init__()
        self.site = site
        self.replaced = replaced
        self.chain = chain
        self._giant = (giant,)  # in a tuple, so that the giant is no part of its own part

    @property
    def norm(self) -> nn.Module | None:
        """The BatchNorm that reads the block's answer; None where the layer has none, or keeps the bias itself."""
        return self._giant[0].get_submodule(self.site.norm) if self.site.norm else None

    def affine(self, name: str) -> AffineMap:
        """Return the map that the chain has become, in the type of its weights."""
        found = map_of(self.chain, self.replaced.frame, f"{name}.chain")
        if found.geometry != self.replaced.geometry:
            raise ContractionError(
                f"{name} has become a convolution of {found.geometry}, the layer was one of {self.replaced.geometry}; "
                "rebuild the giant with nbedge.expand"
            )
        return found

    def fuse(self) -> Layer:
        """Return the layer that the block has become; a bias it cannot hold goes into the mean of the BatchNorm.

        This is the protocol of `timm.utils.reparameterize_model`, which contracts a giant too. The merge is computed
        in float64 and rounded once.

        Raises:
            ContractionError: the block is not one affine map in its present state, or its bias has nowhere to go.
        """
        name = self.site.layer
        refuse_unfit(self.chain, f"{name}.chain")
        norm = self.norm
        if norm is not None:
            refuse_unfit(norm, self.site.norm or "")
        with torch.no_grad():
            weight, bias = Block.affine(_double(self), name).for_layer()
            layer = self.replaced.build(weight, bias, next(self.chain.parameters())).train(self.training)
            if layer.bias is None:
                _hand_over_(norm, bias, name)
        return layer


def _double(block: Block) -> Block:
    """Return the block in float64, without the giant that it stands in."""
    return Expanded(block.site, block.replaced, copy.deepcopy(block.chain).double(), nn.Module())


def _hand_over_(norm: nn.Module | None, bias: Tensor, name: str) -> None:
    """Put `bias` into the BatchNorm that follows: mean' = mean - b."""
    if norm is not None and is_norm(norm) and isinstance(norm.running_mean, Tensor):
        norm.running_mean.copy_(norm.running_mean.double() - bias)
    elif bias.any():
        raise ContractionError(
            f"{name} has become a layer with a bias, and neither the layer nor a BatchNorm with running statistics "
            "behind it can hold one; rebuild the giant with nbedge.expand"
        )


class Expanded(Block):
    """A block that runs as what it is: the chain."""

    def forward(self, input: Tensor) -> Tensor:
        """(n, c_in, *size) -> (n, c_out, *size')."""
        result: Tensor = self.chain(input)
        return result


class Squeezed(Block):
    """A block at slope 1 that runs as the one layer it has become, while its factors are trained on.

    W = merge(factors) at every step; gradients reach the factors, the inner BatchNorms keep their running statistics.
    A step costs about what it costs the tiny model, as with OREPA (CVPR 2022).
    """

    def __init__(self, site: Site, replaced: Template, chain: nn.Module, giant: nn.Module) -> None:
        super().__init__(site, replaced, chain, giant)
        self._padding = Padding(replaced.geometry) if replaced.geometry.pads else nn.Identity()
        self.train(chain.training)

    def train(self, mode: bool = True) -> "Squeezed":
        """Set the mode; the chain stays in eval mode."""
        super().train(mode)
        self.chain.eval()
        return self

    def forward(self, input: Tensor) -> Tensor:
        """(n, c_in, *size) -> (n, c_out, *size')."""
        with torch.autocast(input.device.type, enabled=False):  # a merge in half precision would cost digits
            weight, bias = self.affine(self.site.layer).for_layer()
        return _applied(self.replaced.layer, self._padding(input), weight, bias)


def _applied(layer: Layer, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if isinstance(layer, nn.Linear):
        return nn.functional.linear(x, weight, bias)
    convolve = {nn.Conv1d: nn.functional.conv1d, nn.Conv2d: nn.functional.conv2d, nn.Conv3d: nn.functional.conv3d}
    run = next(function for kind, function in convolve.items() if isinstance(layer, kind))
    return run(x, weight, bias, layer.stride, 0, layer.dilation, layer.groups)


def expanded_blocks(model: nn.Module) -> list[tuple[str, Block]]:
    """Return (path, block) of every block of `model` that stands in no other block, squeezed ones too."""
    found: list[tuple[str, Block]] = []
    for name, module in model.named_modules():
        if isinstance(module, Block) and not any(name.startswith(f"{outer}.") for outer, _ in found):
            found.append((name, module))
    return found


def squeeze_(giant: nn.Module) -> None:
    """Let every block of `giant`, at slope 1, run as the one layer it has become; its parameters stay the same objects.

    Raises:
        ContractionError: a block is not one affine map yet; the message names the layer.
    """
    plain = [(name, block) for name, block in expanded_blocks(giant) if not isinstance(block, Squeezed)]
    for name, block in plain:
        with evaluating(block.chain):
            refuse_unfit(block.chain, f"{name}.chain")
    for name, block in plain:
        squeezed = Squeezed(block.site, block.replaced, block.chain, block._giant[0])
        giant.set_submodule(name, squeezed.train(block.training))


def unsqueeze_(giant: nn.Module) -> None:
    """Let every squeezed block of `giant` run as its chain again."""
    for name, block in expanded_blocks(giant):
        if isinstance(block, Squeezed):
            training = block.training
            plain = Expanded(block.site, block.replaced, block.chain, block._giant[0])
            giant.set_submodule(name, plain.train(training))
