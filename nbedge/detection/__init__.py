"""Finding objects: their boxes, what a detector's outputs say, how right that is, and what its training minimises."""

from nbedge.detection.boxes import Detections, overlaps, padded, rarest
from nbedge.detection.decoding import BOXES, SCORES, SHOWN, Decoding, decode
from nbedge.detection.matching import differing
from nbedge.detection.precision import Precision, average_precision

__all__ = [
    "BOXES", "SCORES", "SHOWN", "Decoding", "Detections", "Precision", "average_precision", "decode", "differing",
    "overlaps", "padded", "rarest",
]  # fmt: skip
