"""What the sample networks are built of: convolutions with BatchNorm, inverted residuals, a classifier."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional


class Conv2dSame(nn.Conv2d):
    """Convolution that pads like TensorFlow's SAME: the odd pixel goes to the bottom and right.

    Converters then need no PAD operator, which saves a third of a microcontroller's arena.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c', ceil(h / stride), ceil(w / stride))."""
        top, bottom = _same(input.shape[2], self.kernel_size[0], self.stride[0], self.dilation[0])
        left, right = _same(input.shape[3], self.kernel_size[1], self.stride[1], self.dilation[1])
        return super().forward(functional.pad(input, (left, right, top, bottom)))


def _same(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
    return total // 2, total - total // 2


class ConvNormActivation(nn.Sequential):
    """Convolution without bias, BatchNorm, ReLU6."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, groups: int = 1,
        tf_same: bool = False,
    ) -> None:  # fmt: skip
        same = tf_same and stride > 1  # at stride 1 both paddings are the same one
        conv = Conv2dSame if same else nn.Conv2d
        padding = 0 if same else (kernel_size - 1) // 2
        super().__init__(
            conv(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU6(inplace=True),
        )


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise, 1x1 projection; a shortcut where the shape stays."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, expand_ratio: int, tf_same: bool = False,
        kernel_size: int = 3,
    ) -> None:  # fmt: skip
        super().__init__()
        hidden = in_channels * expand_ratio
        expand = [ConvNormActivation(in_channels, hidden, kernel_size=1)] if expand_ratio > 1 else []
        self.use_res_connect = stride == 1 and in_channels == out_channels
        self.conv = nn.Sequential(
            *expand,
            ConvNormActivation(hidden, hidden, kernel_size, stride, groups=hidden, tf_same=tf_same),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c', h', w')."""
        result: Tensor = self.conv(x)
        return x + result if self.use_res_connect else result


class PooledClassifier(nn.Module):
    """Layers of features, the mean over the picture, dropout, one linear layer.

    Args:
        features: layers, run in this order.
        channels: that come out of them.
        num_classes: outputs.
        dropout: before the linear layer.
    """

    def __init__(self, features: Iterable[nn.Module], channels: int, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(channels, num_classes))
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_channels, resolution, resolution) -> logits (n, num_classes)."""
        x = self.features(x)
        x = functional.adaptive_avg_pool2d(x, (1, 1)).flatten(1)
        result: Tensor = self.classifier(x)
        return result


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0, 0.01)
        torch.nn.init.zeros_(module.bias)


def shrink(size: int, stride: int) -> tuple[int, int]:
    """Return (size after, stride taken): a stride that would leave less than 4 pixels is taken as 1."""
    after = -(-size // stride)
    return (after, stride) if after >= 4 else (size, 1)


def divisible(channels: float, divisor: int) -> int:
    """Round to a multiple of `divisor`, not below 90 % of the wish (the rule of the MobileNet papers)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
