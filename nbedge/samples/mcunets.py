"""MCUNet (arXiv 2007.10319): the network that a search found for 320 kB of SRAM and 1 MB of flash."""

from torch import nn

from nbedge.samples.layers import ConvNormActivation, InvertedResidual, PooledClassifier, shrink

#: rows of (expansion, channels, kernel, stride), one an inverted residual: the network that mit-han-lab/mcunet calls
#: mcunet-in3 (also mcunet-320kb-1mb_imagenet) and mit-han-lab/tinyml/netaug calls mcunet
MCUNET = (
    (1, 8, 3, 1),
    (3, 16, 7, 2),
    (5, 16, 3, 1),
    (5, 16, 7, 1),
    (4, 16, 5, 1),
    (5, 24, 5, 2),
    (5, 24, 5, 1),
    (5, 24, 5, 1),
    (5, 40, 3, 2),
    (6, 40, 7, 1),
    (4, 40, 5, 1),
    (5, 48, 5, 1),
    (5, 48, 7, 1),
    (5, 48, 3, 1),
    (6, 96, 3, 2),
    (5, 96, 7, 1),
    (4, 96, 3, 1),
    (5, 160, 7, 1),
)
STEM_CHANNELS = 16


class MCUNet(PooledClassifier):
    """MCUNet for 320 kB of SRAM: a 3x3 stem, inverted residuals with kernels of 3 to 7, no convolution before pooling.

    Args:
        num_classes: outputs.
        in_channels: 1 for grey, 3 for colour.
        resolution: height and width of the input in pixels. A stride that would leave less than 4 x 4 is taken as 1.
        tf_same: pad strided convolutions like TensorFlow, see `Conv2dSame`.
        dropout: before the classifier.
    """

    def __init__(
        self, num_classes: int = 1000, in_channels: int = 3, resolution: int = 176, tf_same: bool = False,
        dropout: float = 0.0,
    ) -> None:  # fmt: skip
        channels = STEM_CHANNELS
        size, stride = shrink(resolution, 2)
        features: list[nn.Module] = [ConvNormActivation(in_channels, channels, stride=stride, tf_same=tf_same)]
        for expand_ratio, out, kernel_size, wanted in MCUNET:
            size, stride = shrink(size, wanted)
            features.append(InvertedResidual(channels, out, stride, expand_ratio, tf_same, kernel_size))
            channels = out
        super().__init__(features, channels, num_classes, dropout)


def mcunet(
    num_classes: int = 1000, in_channels: int = 3, resolution: int = 176, tf_same: bool = False, dropout: float = 0.0
) -> MCUNet:
    """Build MCUNet; with 1000 classes at 176 x 176 pixels 0.74 M parameters and 81.8 M multiply-accumulates."""
    return MCUNet(num_classes, in_channels, resolution, tf_same, dropout)
