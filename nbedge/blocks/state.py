"""Is a block a fixed affine map in its present state? If not: which layer, why, and what cures it."""

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from nbedge.errors import ContractionError
from nbedge.layers import is_norm
from nbedge.slopes import LearnedSlope, SlopedActivation


def refuse_unfit(module: nn.Module, name: str) -> None:
    """Raise unless every part of `module` is a fixed affine map now.

    Raises:
        ContractionError: a slope is not exactly 1, a BatchNorm or dropout is in training mode, a BatchNorm keeps no
            running statistics, or a number is not finite; the message names the part and the cure.
    """
    for path, part in module.named_modules(prefix=name):
        found = _unfit(part)
        if found:
            raise ContractionError(f"{path} {found}")


def _unfit(part: nn.Module) -> str | None:
    if isinstance(part, SlopedActivation):
        return _unfit_slope(part)
    if is_norm(part):
        if part.training:
            return "is in training mode; call giant.eval() before contracting"
        if part.running_mean is None:
            return "keeps no running statistics, so it is no fixed map and cannot be merged"
    if isinstance(part, _DropoutNd) and part.training and part.p:
        return "is active dropout; call giant.eval() before contracting"
    for key, value in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)):
        if value.is_floating_point() and not value.isfinite().all():
            return f"holds a value that is not finite ({key}); the training has diverged: lower the learning rate"
    return None


def _unfit_slope(part: SlopedActivation) -> str | None:
    value = (part.effective() if isinstance(part, LearnedSlope) else part.slope).item()
    return None if value == 1.0 else f"has slope {value:g}, not exactly 1; finish PLT before contracting"
