"""The networks of `sample_models/`, in the package so that a checkpoint of a sample opens anywhere: `sample:NAME`."""

from nbedge.samples.detectors import CentreDetector, detector_tiny
from nbedge.samples.layers import Conv2dSame, ConvNormActivation, InvertedResidual
from nbedge.samples.mcunets import MCUNET, MCUNet, mcunet
from nbedge.samples.mobilenets import (
    MOBILENET_V2,
    TINY,
    MobileNetV2,
    mobilenet_v2,
    mobilenet_v2_tiny,
    mobilenet_v2_tiny_r144,
)

__all__ = [
    "MCUNET",
    "MOBILENET_V2",
    "TINY",
    "CentreDetector",
    "Conv2dSame",
    "ConvNormActivation",
    "InvertedResidual",
    "MCUNet",
    "MobileNetV2",
    "detector_tiny",
    "mcunet",
    "mobilenet_v2",
    "mobilenet_v2_tiny",
    "mobilenet_v2_tiny_r144",
]
