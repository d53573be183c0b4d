"""Normalization as a part of the network: pixels in, the preprocessed input inside."""

import torch
from torch import Tensor, nn

from nbedge.preprocessing import Preprocessing


class Normalized(nn.Module):
    """A network of pictures that takes their pixels, 0 to 255.

    Folding the normalization into the first convolution would be wrong at its border, where padding is the
    preprocessed 0 and not black: so it is one 1x1 convolution a channel in front, which every converter keeps, and
    whose result has a border of its own.
    """

    def __init__(self, model: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        scale, shift = preprocessing.scale_shift()
        self.normalize = nn.Conv2d(len(scale), len(scale), 1, groups=len(scale))
        self.normalize.weight = nn.Parameter(torch.from_numpy(scale).reshape(-1, 1, 1, 1), requires_grad=False)
        self.normalize.bias = nn.Parameter(torch.from_numpy(shift), requires_grad=False)
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        """(n, c, h, w) pixels -> what the network answers."""
        answer: Tensor = self.model(self.normalize(pixels))
        return answer
