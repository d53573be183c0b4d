"""MobileNetV2 (arXiv 1801.04381), from the paper's size down to a few thousand parameters."""

from collections.abc import Sequence

from torch import nn

from nbedge.samples.layers import ConvNormActivation, InvertedResidual, PooledClassifier, divisible, shrink

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
TINY_LAST, TINY_DIVISOR = 64, 4
TINY = ((1, 8, 1, 1), (3, 12, 2, 2), (3, 16, 2, 1), (3, 24, 2, 2))


class MobileNetV2(PooledClassifier):
    """MobileNetV2 (arXiv 1801.04381), also for small pictures.

    Args:
        num_classes: outputs.
        in_channels: 1 for grey, 3 for colour.
        resolution: height and width of the input in pixels. A stride that would leave less than 4 x 4 is taken as 1.
        width_mult: factor on every number of channels, rounded to a multiple of `divisor`.
        inverted_residual_setting: rows of (expansion, channels, repeats, first stride).
        last_channels: width of the last 1x1 convolution, before pooling; a `width_mult` below 1 leaves it as it is.
        stem_channels: width of the first convolution.
        tf_same: pad strided convolutions like TensorFlow, see `Conv2dSame`.
        dropout: before the classifier.
        divisor: channels are multiples of this.
    """

    def __init__(
        self, num_classes: int = 10, in_channels: int = 3, resolution: int = 224, width_mult: float = 1.0,
        inverted_residual_setting: Sequence[Sequence[int]] = MOBILENET_V2, last_channels: int = 1280,
        stem_channels: int = 32, tf_same: bool = False, dropout: float = 0.0, divisor: int = 8,
    ) -> None:  # fmt: skip
        channels = divisible(stem_channels * width_mult, divisor)
        size, stride = shrink(resolution, 2)
        features: list[nn.Module] = [ConvNormActivation(in_channels, channels, stride=stride, tf_same=tf_same)]
        for expand_ratio, c, repeats, first in inverted_residual_setting:
            out = divisible(c * width_mult, divisor)
            for index in range(repeats):
                size, stride = shrink(size, first if index == 0 else 1)
                features.append(InvertedResidual(channels, out, stride, expand_ratio, tf_same))
                channels = out
        last = _last(last_channels, width_mult, divisor)
        features.append(ConvNormActivation(channels, last, kernel_size=1))
        super().__init__(features, last, num_classes, dropout)


def _last(channels: int, width_mult: float, divisor: int) -> int:
    """Return the width of the last convolution, which a `width_mult` below 1 leaves as it is."""
    return divisible(channels * max(1.0, width_mult), divisor)


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
        num_classes, in_channels, resolution, width_mult, TINY, last_channels=TINY_LAST, stem_channels=8,
        tf_same=tf_same, divisor=TINY_DIVISOR,
    )  # fmt: skip


def last_channels(width_mult: float) -> int:
    """Return the channels that come out of the features of the tiny MobileNetV2."""
    return _last(TINY_LAST, width_mult, TINY_DIVISOR)


def mobilenet_v2_tiny_r144(
    num_classes: int = 1000, in_channels: int = 3, resolution: int = 144, tf_same: bool = False
) -> MobileNetV2:
    """Build MobileNetV2-Tiny as NetAug (arXiv 2110.08890) defines it: width 0.35, the last convolution narrowed too.

    The last 1x1 convolution has 0.35 x 1280 = 448 channels instead of 1280. With 1000 classes at 144 x 144 pixels that
    is 0.75 M parameters and 23.5 M multiply-accumulates.
    """
    return MobileNetV2(num_classes, in_channels, resolution, 0.35, last_channels=448, tf_same=tf_same)
