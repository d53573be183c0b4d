"""A single-shot detector of a few thousand parameters: the tiny MobileNetV2, and a light head over its last map."""

import math

import torch
from torch import Tensor, nn

from nbedge.samples.layers import ConvNormActivation
from nbedge.samples.mobilenets import last_channels, mobilenet_v2_tiny

#: share of cells that a detector takes for a centre before it has learned anything (RetinaNet, arXiv 1708.02002)
PRIOR = 0.02
#: cells that its boxes reach to each side then
REACH = 2.0


class CentreDetector(nn.Module):
    """Scores and boxes for every cell of 8 x 8 pixels; `nbedge.detection.decoding` says what they mean.

    Args:
        num_classes: of objects.
        in_channels: 1 for grey, 3 for colour.
        resolution: the smaller of height and width of the input in pixels, 32 or more.
        width_mult: factor on every number of channels of the backbone.
        tf_same: pad strided convolutions like TensorFlow, see `Conv2dSame`.
        blocks: depthwise-separable blocks of the head, each of which sees one cell further.
    """

    def __init__(
        self, num_classes: int = 3, in_channels: int = 3, resolution: int = 120, width_mult: float = 1.0,
        tf_same: bool = True, blocks: int = 2,
    ) -> None:  # fmt: skip
        super().__init__()
        # the same layers as the classifier's, under the same names: what was learned by one is taken over by the other
        self.features = mobilenet_v2_tiny(2, in_channels, resolution, width_mult, tf_same).features
        channels = last_channels(width_mult)
        self.head = nn.Sequential(*(_separable(channels) for _ in range(blocks)))
        self.scores = nn.Conv2d(channels, num_classes, 1)
        self.boxes = nn.Conv2d(channels, 4, 1)
        self.head.apply(_initialise)
        _initialise_exit(self.scores, -math.log(1 / PRIOR - 1))
        _initialise_exit(self.boxes, REACH)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(n, in_channels, height, width) -> scores (n, num_classes, h, w), boxes (n, 4, h, w); h is height / 8."""
        x = self.head(self.features(x))
        return {"scores": self.scores(x), "boxes": self.boxes(x)}


def _separable(channels: int) -> nn.Sequential:
    return nn.Sequential(
        ConvNormActivation(channels, channels, groups=channels), ConvNormActivation(channels, channels, kernel_size=1)
    )


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        torch.nn.init.kaiming_normal_(module.weight, mode="fan_out")


def _initialise_exit(layer: nn.Conv2d, start: float) -> None:
    assert layer.bias is not None
    nn.init.normal_(layer.weight, 0, 0.01)
    nn.init.constant_(layer.bias, start)


def detector_tiny(
    num_classes: int = 3, in_channels: int = 3, resolution: int = 120, width_mult: float = 1.0, tf_same: bool = True
) -> CentreDetector:
    """Build the detector on the tiny MobileNetV2."""
    return CentreDetector(num_classes, in_channels, resolution, width_mult, tf_same)
