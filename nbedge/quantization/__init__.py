"""Quantization: what can be done to a float network so that its integer files lose less."""

from nbedge.quantization.bias import corrected
from nbedge.quantization.constant import Settled, settled
from nbedge.quantization.equalization import Equalized, equalized
from nbedge.quantization.folding import Layer, folded, layers_of
from nbedge.quantization.grid import Grid
from nbedge.quantization.rounding import rounded
from nbedge.quantization.tuning import Schedule, tuned

__all__ = [
    "Equalized", "Grid", "Layer", "Schedule", "Settled", "corrected", "equalized", "folded", "layers_of", "rounded",
    "settled", "tuned",
]  # fmt: skip
