"""The layers that nbedge knows: which classes, how their kernels slide over the input, and their BatchNorms."""

import itertools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from nbedge.errors import ContractionError
from nbedge.samples import Conv2dSame

#: number of spatial dimensions -> the class of a convolution; 0 is a fully connected layer
CONVOLUTIONS: dict[int, type[nn.Module]] = {0: nn.Linear, 1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
#: likewise of the BatchNorm behind it
NORMS: dict[int, type[_BatchNorm]] = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
#: subclasses whose forward is known to be the convolution behind TensorFlow's padding; by name, so that timm need not
#: be installed
_SAME = ("timm.layers.conv2d_same.Conv2dSame",)
#: subclasses whose forward is that of the class itself
_UNCHANGED = ("timm.layers.linear.Linear",)
#: subclasses of BatchNorm whose forward is known to be a BatchNorm, with or without an activation behind it
_NORM_SUBCLASSES = ("timm.layers.norm_act.BatchNormAct2d", "timm.layers.norm_act.SyncBatchNormAct")
#: padding that depends on the size of the input, like TensorFlow's SAME
TF_SAME = "tf_same"

#: any layer of `CONVOLUTIONS`
Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


def is_known(module: nn.Module) -> bool:
    """Return whether `module` is a layer whose forward is known exactly; a subclass may do anything."""
    return type(module) in CONVOLUTIONS.values() or _pads_like_tf(module) or _qualified(module) in _UNCHANGED


def _pads_like_tf(module: nn.Module) -> bool:
    ours = type(module) is Conv2dSame and not any(module.padding)  # else it pads twice
    return ours or _qualified(module) in _SAME


def is_norm(module: object) -> bool:
    """Return whether `module` is a BatchNorm whose forward is known."""
    if not isinstance(module, _BatchNorm):
        return False
    return type(module) in (*NORMS.values(), nn.SyncBatchNorm) or _qualified(module) in _NORM_SUBCLASSES


def _qualified(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def uninitialized(model: nn.Module) -> tuple[str, ...]:
    """Return the paths of the lazy layers, which have no weights and shapes yet."""
    return tuple(sorted(name for name, module in model.named_modules() if any(map(is_lazy, _own(module)))))


def _own(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(recurse=False), *module.buffers(recurse=False)]


def dims(layer: nn.Module) -> int:
    """Return the number of spatial dimensions of a layer's input: 0 for a fully connected one."""
    return next(number for number, kind in CONVOLUTIONS.items() if isinstance(layer, kind))


def channels(layer: Layer) -> tuple[int, int, int]:
    """Return (inputs, outputs, groups) of a layer."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features, 1
    return layer.in_channels, layer.out_channels, layer.groups


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a kernel slides over its input; one entry a spatial dimension, none for a fully connected layer.

    Attributes:
        kernel: size in pixels.
        stride: in pixels.
        dilation: in pixels; 1 where the kernel is 1, since it means nothing there.
        padding: pixels (before, after) each dimension, or `TF_SAME`.
        mode: of the padding: zeros, reflect, replicate or circular.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...] | str
    mode: str = "zeros"

    @classmethod
    def of(cls, layer: Layer) -> "Geometry":
        """Read the geometry of a layer."""
        if isinstance(layer, nn.Linear):
            return cls((), (), (), ())
        dilation = tuple(1 if k == 1 else d for k, d in zip(layer.kernel_size, layer.dilation, strict=True))
        padding = TF_SAME if _pads_like_tf(layer) else _padding(layer)
        mode = layer.padding_mode if _pads(padding) else "zeros"
        return cls(layer.kernel_size, layer.stride, dilation, padding, mode)

    @property
    def is_pointwise(self) -> bool:
        """Whether the kernel is 1 in every dimension."""
        return all(size == 1 for size in self.kernel)

    @property
    def pads(self) -> bool:
        """Whether the input is padded."""
        return _pads(self.padding)

    @property
    def is_symmetric(self) -> bool:
        """Whether as much is padded before as behind, which is all that a layer of torch can do by itself."""
        return not isinstance(self.padding, str) and all(first == last for first, last in self.padding)

    def before(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Return the padding in pixels before each dimension of an input of `size`."""
        return tuple(first for first, _ in self.pixels(size))

    def pixels(self, size: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """Return the padding (before, after) of an input of `size`."""
        if isinstance(self.padding, str):
            return tuple(_same(n, *each) for n, each in zip(size, self._each(), strict=True))
        return self.padding

    def _each(self) -> list[tuple[int, int, int]]:
        return list(zip(self.kernel, self.stride, self.dilation, strict=True))


def _padding(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> tuple[tuple[int, int], ...]:
    if layer.padding == "valid":
        return tuple((0, 0) for _ in layer.kernel_size)
    if layer.padding == "same":
        totals = [d * (k - 1) for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    return tuple((int(p), int(p)) for p in layer.padding)


def _pads(padding: tuple[tuple[int, int], ...] | str) -> bool:
    return isinstance(padding, str) or any(any(pair) for pair in padding)


def _same(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
    return total // 2, total - total // 2


class Padding(nn.Module):
    """The padding of a layer as a step of its own, so that all that follows it may run without."""

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.geometry = geometry

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, *size) -> (n, c, *padded size)."""
        sizes = self.geometry.pixels(tuple(x.shape[2:]))
        amounts = list(itertools.chain.from_iterable(reversed(sizes)))  # torch counts from the last dimension
        mode = "constant" if self.geometry.mode == "zeros" else self.geometry.mode
        return functional.pad(x, amounts, mode)

    def extra_repr(self) -> str:
        """Return what print() shows."""
        return f"{self.geometry.padding}, {self.geometry.mode}"


class Branches(nn.ModuleDict):
    """Several ways from the same input to one output: the sum of what its modules answer."""

    def forward(self, x: Tensor) -> Tensor:
        """Map x through each branch and add the answers."""
        first, *others = (branch(x) for branch in self.values())
        result: Tensor = first
        for other in others:
            result = result + other
        return result


def convolution(layer: Layer, inputs: int, outputs: int, groups: int, bias: bool, geometry: Geometry) -> nn.Module:
    """Return a new layer of the same number of dimensions, on the device and of the type of `layer`."""
    options: dict[str, Any] = {"bias": bias, "device": layer.weight.device, "dtype": layer.weight.dtype}
    if isinstance(layer, nn.Linear):
        return nn.Linear(inputs, outputs, **options)
    assert not isinstance(geometry.padding, str)
    assert geometry.is_symmetric
    padding = tuple(first for first, _ in geometry.padding)
    return CONVOLUTIONS[dims(layer)](
        inputs, outputs, geometry.kernel, geometry.stride, padding, geometry.dilation, groups,
        padding_mode=geometry.mode, **options,
    )  # fmt: skip


def scale_shift(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return (s, t), each (c,), of a BatchNorm in eval mode: y = s x + t.

    Raises:
        ContractionError: it keeps no running statistics, so it is no fixed map.
    """
    assert isinstance(norm, _BatchNorm)
    if norm.running_mean is None or norm.running_var is None:
        raise ContractionError("a BatchNorm without running statistics is no fixed map and cannot be merged")
    deviation = torch.sqrt(norm.running_var + norm.eps)
    scale = 1 / deviation if norm.weight is None else norm.weight / deviation
    shift = norm.running_mean * scale
    return scale, -shift if norm.bias is None else norm.bias - shift


def normalized(norm: nn.Module, x: Tensor) -> Tensor:
    """Return `x` behind the running statistics of a BatchNorm, without the activation that a subclass adds."""
    assert isinstance(norm, _BatchNorm)
    return functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)
