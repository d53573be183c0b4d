"""Asked: the network as its files must compute it, with the inputs that it then takes."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from nbedge.errors import InputError
from nbedge.normalization import Normalized
from nbedge.preprocessing import Preprocessing


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What is exported.

    Attributes:
        model: the module.
        preprocessing: how a picture becomes its input; None where inputs are no pictures.
        calibration: (n, c, h, w) inputs for quantizers.
        held: (n, c, h, w) inputs that files are judged on.
        head: what it gives, "logits" or "softmax".
        pixels: whether inputs are pixels, 0 to 255.
    """

    model: nn.Module
    preprocessing: Preprocessing | None
    calibration: NDArray[np.float32]
    held: NDArray[np.float32]
    head: str = "logits"
    pixels: bool = False

    @property
    def shown(self) -> NDArray[np.float32]:
        """What quantizers are given: pixels in their whole range, so that integer files take them as they are."""
        if not self.pixels:
            return self.calibration
        found = self.calibration.copy()
        found[0, :, 0, 0], found[0, :, 0, 1] = 0, 255
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input."""
        return self.calibration.shape[1:]

    def with_head(self, head: str) -> "Asked":
        """Return it with probabilities as output if `head` is "softmax"."""
        if head == "logits":
            return self
        return replace(self, model=nn.Sequential(self.model, nn.Softmax(1)), head=head)

    def with_input(self, kind: str) -> "Asked":
        """Return it with the pixels of a picture as input if `kind` is "uint8-image"."""
        if kind == "float":
            return self
        if self.preprocessing is None:
            raise InputError("the input type uint8-image is that of pictures, and the inputs are none; leave it out")
        calibration, held = (self.preprocessing.pixels(x) for x in (self.calibration, self.held))
        model = Normalized(self.model, self.preprocessing)
        return replace(
            self, model=model, preprocessing=self.preprocessing.of_pixels(), calibration=calibration, held=held,
            pixels=True,
        )  # fmt: skip
