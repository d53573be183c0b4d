"""The networks of `sample_models/`, in the package so that a checkpoint of a sample opens anywhere: `sample:NAME`."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

#: rows of (expansion t, channels c, repeats n, first stride s), as in MobileNetV2 (arXiv 1801.04381), table 2
MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
#: the same shape at the size of a microcontroller's spare kilobytes
TINY = ((1, 8, 1, 1), (3, 12, 2, 2), (3, 16, 2, 1), (3, 24, 2, 2))


class Conv2dSame(nn.Conv2d):
    """Convolution that pads like TensorFlow's SAME: the odd pixel goes to the bottom and right.

    Converters then need no PAD operator, which saves a third of a microcontroller's arena.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c', ceil(h / stride), ceil(w / stride))."""
        top, bottom = _same(input.shape[2], self.kernel_size[0], self.stride[0])
        left, right = _same(input.shape[3], self.kernel_size[1], self.stride[1])
        return super().forward(functional.pad(input, (left, right, top, bottom)))


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
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
    """1x1 expansion, 3x3 depthwise, 1x1 projection; a shortcut where the shape stays."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, expand_ratio: int, tf_same: bool = False
    ) -> None:
        super().__init__()
        hidden = in_channels * expand_ratio
        expand = [ConvNormActivation(in_channels, hidden, kernel_size=1)] if expand_ratio > 1 else []
        self.use_res_connect = stride == 1 and in_channels == out_channels
        self.conv = nn.Sequential(
            *expand,
            ConvNormActivation(hidden, hidden, stride=stride, groups=hidden, tf_same=tf_same),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c', h', w')."""
        result: Tensor = self.conv(x)
        return x + result if self.use_res_connect else result


class MobileNetV2(nn.Module):
    """MobileNetV2 (arXiv 1801.04381) for small pictures.

    Args:
        num_classes: outputs.
        in_channels: 1 for grey, 3 for colour.
        resolution: height and width of the input in pixels. A stride that would leave less than 4 x 4 is taken as 1.
        width_mult: factor on every number of channels, rounded to a multiple of `divisor`.
        inverted_residual_setting: rows of (expansion, channels, repeats, first stride).
        last_channels: width of the last 1x1 convolution, before pooling.
        tf_same: pad strided convolutions like TensorFlow, see `Conv2dSame`.
        dropout: before the classifier.
        divisor: channels are multiples of this.
    """

    def __init__(
        self, num_classes: int = 10, in_channels: int = 3, resolution: int = 224, width_mult: float = 1.0,
        inverted_residual_setting: Sequence[Sequence[int]] = MOBILENET_V2, last_channels: int = 1280,
        stem_channels: int = 32, tf_same: bool = False, dropout: float = 0.0, divisor: int = 8,
    ) -> None:  # fmt: skip
        super().__init__()
        size = resolution
        channels = _divisible(stem_channels * width_mult, divisor)
        size, stride = _shrink(size, 2)
        features: list[nn.Module] = [ConvNormActivation(in_channels, channels, stride=stride, tf_same=tf_same)]
        for expand_ratio, c, repeats, first in inverted_residual_setting:
            out = _divisible(c * width_mult, divisor)
            for index in range(repeats):
                size, stride = _shrink(size, first if index == 0 else 1)
                features.append(InvertedResidual(channels, out, stride, expand_ratio, tf_same))
                channels = out
        last = _divisible(last_channels * max(1.0, width_mult), divisor)
        features.append(ConvNormActivation(channels, last, kernel_size=1))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, num_classes))
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_channels, resolution, resolution) -> logits (n, num_classes)."""
        x = self.features(x)
        x = functional.adaptive_avg_pool2d(x, (1, 1)).flatten(1)
        result: Tensor = self.classifier(x)
        return result


def mobilenet_v2(
    num_classes: int = 10, in_channels: int = 3, resolution: int = 224, **arguments: object
) -> MobileNetV2:
    """Build MobileNetV2 with the settings of the paper; `arguments` are those of the class."""
    return MobileNetV2(num_classes, in_channels, resolution, **arguments)  # type: ignore[arg-type]


def mobilenet_v2_tiny(
    num_classes: int = 10, in_channels: int = 1, resolution: int = 28, width_mult: float = 1.0, tf_same: bool = False
) -> MobileNetV2:
    """Build a MobileNetV2 of a few thousand parameters (8 inverted residuals, at most 24 channels wide)."""
    return MobileNetV2(
        num_classes, in_channels, resolution, width_mult, TINY, last_channels=64, stem_channels=8, tf_same=tf_same,
        divisor=4,
    )  # fmt: skip


def _shrink(size: int, stride: int) -> tuple[int, int]:
    """Return (size after, stride taken): a stride that would leave less than 4 pixels is taken as 1."""
    after = -(-size // stride)
    return (after, stride) if after >= 4 else (size, 1)


def _divisible(channels: float, divisor: int) -> int:
    """Round to a multiple of `divisor`, not below 90 % of the wish (the rule of the MobileNet papers)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0, 0.01)
        torch.nn.init.zeros_(module.bias)
