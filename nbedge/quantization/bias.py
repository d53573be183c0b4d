"""Bias correction: the mean error that rounding gives each channel is taken out of the layer's bias."""

from torch import Tensor, fx

from nbedge.quantization.folding import Layer, copied
from nbedge.quantization.grid import Grid
from nbedge.quantization.walk import treat_layers_


def corrected(module: fx.GraphModule, x: Tensor, grid: Grid) -> fx.GraphModule:
    """Return a folded network whose rounded layers have the means of the exact ones, channel by channel.

    Empirical bias correction: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction,
    ICCV 2019, appendix D; here with rounded activations too.

    Args:
        module: a folded network; it is left as it is.
        x: (n, ...) inputs, of which the first 128 are used.
        grid: of the file.
    """
    found = copied(module)

    def correct(layer: Layer, given: Tensor, wanted: Tensor) -> None:
        error = layer(given, grid.weight(layer.weight), layer.bias) - wanted
        layer.bias.sub_(error.movedim(layer.channel, 0).flatten(1).mean(1))

    treat_layers_(found, x, grid, correct)
    return found
