"""The modules that a giant is made of."""

from collections import OrderedDict
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "relu6": nn.ReLU6}


class SlopedActivation(nn.Module):
    """(1 - a) f(x) + a x: the activation f at slope a = 0, the identity at a = 1.

    For ReLU this is max(a x, x), the activation of Progressive Linearization Tuning (NetBooster, DAC 2023); for a
    clipped activation it is the only form that ends linear (leaving the ceiling of ReLU6 in is wrong by about 10 %).
    The slope is a buffer, so that it is saved, moved and broadcast with the model.
    """

    slope: Tensor

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation
        self.register_buffer("slope", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Map x elementwise; any shape."""
        return torch.lerp(self.activation(x), x, self.slope)


@dataclass(frozen=True, slots=True)
class ConvSpec:
    """The arguments of the convolution that a block replaced, to build it again."""

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...] | str
    dilation: tuple[int, ...]
    groups: int
    bias: bool
    padding_mode: str

    @classmethod
    def of(cls, conv: nn.Conv2d) -> "ConvSpec":
        """Read the arguments of `conv`."""
        return cls(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding,
            conv.dilation, conv.groups, conv.bias is not None, conv.padding_mode,
        )  # fmt: skip

    def build(self, like: Tensor) -> nn.Conv2d:
        """Return a new convolution with these arguments, of the type and on the device of `like`."""
        arguments: dict[str, Any] = asdict(self)
        return nn.Conv2d(**arguments, device=like.device, dtype=like.dtype)


class Expanded(nn.Module):
    """A chain of layers that stands where one convolution stood, until it is contracted.

    Attributes:
        replaced: arguments of that convolution.
        norm: module path, in the giant, of the BatchNorm that consumes the output.
        chain: the layers; with every slope at 1 and in eval mode they are one affine map.
    """

    def __init__(self, replaced: ConvSpec, norm: str, chain: nn.Sequential) -> None:
        super().__init__()
        self.replaced = replaced
        self.norm = norm
        self.chain = chain

    def forward(self, x: Tensor) -> Tensor:
        """(n, c_in, h, w) -> (n, c_out, h', w')."""
        result: Tensor = self.chain(x)
        return result


def inverted_residual(conv: nn.Conv2d, ratio: int, activation: str, norm: nn.BatchNorm2d) -> nn.Sequential:
    """Build the block of NetBooster: 1x1, BatchNorm, act, depthwise 1x1, BatchNorm, act, 1x1; all kernels 1.

    Kernel 1 keeps the receptive field and the border as they were. There is no shortcut inside: the network's
    own block has one already, and an identity merged into the kernel costs int8 accuracy (8 to 10 dB, see
    docs/how-it-works.md).
    The BatchNorm that followed `conv` follows the block; its eps and momentum serve the inserted ones too.
    """
    hidden = conv.in_channels * ratio
    act = ACTIVATIONS[activation]
    return nn.Sequential(
        OrderedDict(
            expand=nn.Conv2d(conv.in_channels, hidden, 1, conv.stride[0], bias=False),
            expand_norm=nn.BatchNorm2d(hidden, norm.eps, norm.momentum),
            expand_act=SlopedActivation(act()),
            depthwise=nn.Conv2d(hidden, hidden, 1, groups=hidden, bias=False),
            depthwise_norm=nn.BatchNorm2d(hidden, norm.eps, norm.momentum),
            depthwise_act=SlopedActivation(act()),
            project=nn.Conv2d(hidden, conv.out_channels, 1, bias=conv.bias is not None),
        )
    )


def expanded_blocks(model: nn.Module) -> list[tuple[str, Expanded]]:
    """Return (path, block) of every expanded block of `model`."""
    return [(name, module) for name, module in model.named_modules() if isinstance(module, Expanded)]


def sloped_activations(model: nn.Module) -> list[tuple[str, SlopedActivation]]:
    """Return (path, activation) of every activation of `model` that PLT straightens."""
    return [(name, module) for name, module in model.named_modules() if isinstance(module, SlopedActivation)]
