"""Narrowing: a model whose layers have fewer channels than its class gives them, written down as sizes alone."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nbedge.errors import CheckpointError

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, slots=True)
class Width:
    """How wide one layer is.

    Attributes:
        layer: path of a convolution, a linear layer or a BatchNorm.
        inputs: channels in; of a BatchNorm those that it normalizes.
        outputs: channels out; of a BatchNorm the same.
        groups: of a convolution, else 1.
    """

    layer: str
    inputs: int
    outputs: int
    groups: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"layer": self.layer, "inputs": self.inputs, "outputs": self.outputs, "groups": self.groups}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Width":
        """Read what `to_dict` wrote.

        Raises:
            TypeError: a size is no whole number.
        """
        sizes = (values["inputs"], values["outputs"], values["groups"])
        if not isinstance(values["layer"], str) or any(type(size) is not int for size in sizes):
            raise TypeError(f"the width of {values['layer']!r} is {sizes}, not three whole numbers")
        return cls(values["layer"], *sizes)


def widths(model: nn.Module, narrow: nn.Module) -> tuple[Width, ...]:
    """Return the width of each layer of `narrow` that is not as wide as in `model`, which has the same layers."""
    before, after = _widths(model), _widths(narrow)
    return tuple(width for name, width in after.items() if width != before.get(name))


def _widths(model: nn.Module) -> dict[str, Width]:
    return {name: width for name, module in model.named_modules() if (width := _width(name, module))}


def _width(name: str, module: nn.Module) -> Width | None:
    if isinstance(module, nn.Linear):
        return Width(name, module.in_features, module.out_features)
    if isinstance(module, _CONVOLUTIONS):
        return Width(name, module.in_channels, module.out_channels, module.groups)
    if isinstance(module, _BatchNorm):
        return Width(name, module.num_features, module.num_features)
    return None


def narrowed(model: nn.Module, sizes: Iterable[Width]) -> nn.Module:
    """Return a copy of `model` with layers as wide as `sizes` say; each keeps its first channels.

    The weights are there to be loaded over: which channels were worth keeping is in them, not in the sizes.

    Raises:
        CheckpointError: there is no such layer, or it is not that wide.
    """
    result = copy.deepcopy(model)
    present = _widths(result)
    for wanted in sizes:
        _refuse_wider(wanted, present.get(wanted.layer))
        module = result.get_submodule(wanted.layer)
        _resize_(module, wanted)
        shapes = _shapes(module, wanted)
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            if tensor.ndim:  # the counter of a BatchNorm is one number
                _replace_(module, name, tensor, shapes.get(name, (wanted.outputs,)))
    return result


def _refuse_wider(wanted: Width, present: Width | None) -> None:
    if present is None:
        raise CheckpointError(f"the model has no convolution, linear layer or BatchNorm {wanted.layer!r} to narrow")
    pairs = ((wanted.inputs, present.inputs), (wanted.outputs, present.outputs), (wanted.groups, present.groups))
    whole = all(1 <= size <= limit for size, limit in pairs)
    if not whole or wanted.inputs % wanted.groups or wanted.outputs % wanted.groups:
        raise CheckpointError(
            f"{wanted.layer} is {present.inputs} to {present.outputs} channels in {present.groups} groups; it cannot "
            f"be narrowed to {wanted.inputs} to {wanted.outputs} in {wanted.groups}"
        )


def _resize_(module: nn.Module, wanted: Width) -> None:
    if isinstance(module, nn.Linear):
        module.in_features, module.out_features = wanted.inputs, wanted.outputs
    elif isinstance(module, _CONVOLUTIONS):
        module.in_channels, module.out_channels, module.groups = wanted.inputs, wanted.outputs, wanted.groups
    elif isinstance(module, _BatchNorm):
        module.num_features = wanted.outputs


def _shapes(module: nn.Module, wanted: Width) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors that hold more than a number a channel."""
    if isinstance(module, nn.Linear):
        return {"weight": (wanted.outputs, wanted.inputs)}
    if isinstance(module, _CONVOLUTIONS):
        return {"weight": (wanted.outputs, wanted.inputs // wanted.groups, *module.kernel_size)}
    return {}


def _replace_(module: nn.Module, name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    kept = tensor.detach()[tuple(slice(size) for size in shape)].clone()
    is_parameter = isinstance(tensor, nn.Parameter)
    setattr(module, name, nn.Parameter(kept, tensor.requires_grad) if is_parameter else kept)
