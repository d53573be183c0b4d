"""Activations with a slope: f at slope 0, the identity at slope 1, and all that sets, copies and reads slopes."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nbedge.errors import InputError

#: name in a plan -> class
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU, "relu6": nn.ReLU6, "hardswish": nn.Hardswish, "silu": nn.SiLU, "gelu": nn.GELU,
}  # fmt: skip


class SlopedActivation(nn.Module):
    """(1 - a) f(x) + a x: the activation f at slope a = 0, the identity at a = 1.

    For ReLU this is max(a x, x), the activation of Progressive Linearization Tuning (NetBooster, DAC 2023); for a
    clipped activation it is the only form that ends linear (leaving the ceiling of ReLU6 in is wrong by about 10 %).
    The slope is a buffer, so that it is saved, moved and broadcast with the model, and so that a compiled model is not
    compiled again when it changes.
    """

    slope: Tensor

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation
        self.register_buffer("slope", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Map x elementwise; any shape."""
        return torch.lerp(self.activation(x), x, self.slope.to(x.dtype))


class LearnedSlope(SlopedActivation):
    """The slope a + (1 - a) q, with q in [0, 1] learned: at a = 1, the deadline, it is exactly 1 whatever q is.

    q follows the loss and a penalty on what is not linear yet, as in Layer Folding (BMVC 2022, arXiv 2106.09309).
    """

    def __init__(self, activation: nn.Module) -> None:
        super().__init__(activation)
        self.learned = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Map x elementwise; any shape."""
        return torch.lerp(self.activation(x), x, self.effective().to(x.dtype))

    def effective(self) -> Tensor:
        """Return the slope in force, a scalar; exactly 1 at the deadline."""
        return torch.lerp(self.learned.clamp(0, 1), torch.ones_like(self.slope), self.slope)


def sloped_activations(model: nn.Module) -> list[tuple[str, SlopedActivation]]:
    """Return (path, activation) of every activation of `model` that PLT straightens."""
    return [(name, module) for name, module in model.named_modules() if isinstance(module, SlopedActivation)]


def set_slope_(model: nn.Module, value: float) -> None:
    """Set every slope of `model` in place; a model without any (all blocks linear) is left as it is.

    Raises:
        InputError: `value` lies outside [0, 1].
    """
    if not 0.0 <= value <= 1.0:
        raise InputError(f"slope {value} lies outside [0, 1]")
    for _, activation in sloped_activations(model):
        activation.slope.fill_(value)


def copy_slopes_(source: nn.Module, target: nn.Module) -> None:
    """Give `target`, a copy of `source` such as an average of its weights, the slopes of `source` as they are.

    An average of buffers lags behind: a slope that has just become 1 is still below 1 in it, and a network with slope
    0.999 is not linear.

    Raises:
        InputError: the two have different activations.
    """
    slopes = [activation.slope for _, activation in sloped_activations(source)]
    places = [activation.slope for _, activation in sloped_activations(target)]
    if len(slopes) != len(places):
        raise InputError(f"the copy has {len(places)} slopes, its source {len(slopes)}; copy the model once expanded")
    for place, slope in zip(places, slopes, strict=True):
        place.copy_(slope)


def learn_slopes_(giant: nn.Module) -> None:
    """Replace each activation of `giant` by one whose slope is learned; the optimizer must be made after this."""
    for name, activation in sloped_activations(giant):
        if not isinstance(activation, LearnedSlope):
            learned = LearnedSlope(activation.activation).to(activation.slope).train(activation.training)
            learned.slope.copy_(activation.slope)
            giant.set_submodule(name, learned)


def fix_slopes_(giant: nn.Module) -> None:
    """Replace each learned slope of `giant` by the slope in force: the giant has the keys of its plan again."""
    for name, activation in sloped_activations(giant):
        if isinstance(activation, LearnedSlope):
            fixed = SlopedActivation(activation.activation).to(activation.slope).train(activation.training)
            fixed.slope.copy_(activation.effective().detach())
            giant.set_submodule(name, fixed)


def penalty(giant: nn.Module) -> Tensor:
    """Return the mean over all learned slopes of 1 - a, a scalar: what is not linear yet.

    Not of 1 - a², as in Layer Folding: at slope 0, where a giant starts, that has no gradient.
    """
    slopes = [a.effective() for _, a in sloped_activations(giant) if isinstance(a, LearnedSlope)]
    if not slopes:
        return torch.zeros(())
    return (1 - torch.stack(slopes)).mean()


def clamp_learned_(giant: nn.Module) -> None:
    """Bring each learned slope back into [0, 1] after a step of the optimizer, where it still has a gradient."""
    for _, activation in sloped_activations(giant):
        if isinstance(activation, LearnedSlope):
            activation.learned.data.clamp_(0, 1)


def slopes_of(giant: nn.Module) -> Mapping[str, float]:
    """Return path -> slope in force of every activation."""
    found = {}
    for name, activation in sloped_activations(giant):
        value = activation.effective() if isinstance(activation, LearnedSlope) else activation.slope
        found[name] = value.item()
    return found
