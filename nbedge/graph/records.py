"""Graph: the operators and tensors of an exported file, whatever its format."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NONE = np.empty(0, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """One tensor of a file.

    Attributes:
        name: unique in the graph.
        shape: sizes in the file's own layout; 0 where a size is open.
        dtype: numpy name of the type.
        scales: (k,) real value of one integer step, one or one a channel; empty for what is not quantized.
        zero_points: (k,).
        axis: dimension of the channels that the scales belong to.
        data: of a constant, in the type of the file; None for what is computed.
        inline: whether the data lie inside the flatbuffer; TFLite Micro computes garbage from any other.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scales: NDArray[np.float32] = field(default_factory=lambda: _NONE)
    zero_points: NDArray[np.int64] = field(default_factory=lambda: _NONE.astype(np.int64))
    axis: int = 0
    data: NDArray[Any] | None = None
    inline: bool = True

    @property
    def size(self) -> int:
        """Number of elements of one input's share; an open size counts as 1."""
        return math.prod(size or 1 for size in self.shape)

    @property
    def is_float(self) -> bool:
        """Whether it holds floating-point numbers."""
        return self.dtype.startswith(("float", "bfloat"))

    def real(self) -> NDArray[np.float64]:
        """Return the real values of a constant."""
        if self.data is None:
            raise ValueError(f"{self.name} is computed, not constant")
        values = self.data.astype(np.float64)
        if not len(self.scales):
            return values
        along = [1] * values.ndim
        if len(self.scales) > 1:
            along[self.axis] = -1
        zero_points = self.zero_points if len(self.zero_points) else np.zeros(len(self.scales), np.int64)
        return (values - zero_points.reshape(along)) * self.scales.astype(np.float64).reshape(along)


@dataclass(frozen=True, slots=True, eq=False)
class Operator:
    """One operator of a file.

    Attributes:
        kind: name of the operator ("CONV_2D", "Conv").
        version: of the operator (TFLite), or of its operator set (ONNX).
        inputs: names of tensors; "" for one that is left out.
        outputs: likewise.
        options: of the operator, in the format's own words.
        label: where it comes from: name of the node, or path of the torch module where the file says it.
    """

    kind: str
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """What an exported file holds.

    Attributes:
        path: of the file.
        format: "tflite", "onnx" or "pte".
        operators: in the order in which they run.
        tensors: by name, those without a known shape left out.
        inputs: names.
        outputs: names.
        metadata: name -> value, as far as it is text.
    """

    path: Path
    format: str
    operators: tuple[Operator, ...]
    tensors: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)

    def producer(self, tensor: str) -> Operator | None:
        """Return the operator that computes a tensor; None for inputs and constants."""
        return next((o for o in self.operators if tensor in o.outputs), None)

    def stored(self, tensor: str) -> Tensor | None:
        """Return what holds the numbers of a tensor: itself, or what DequantizeLinear or DEQUANTIZE makes it of."""
        made = self.producer(tensor)
        dequantized = made is not None and made.kind in ("DequantizeLinear", "DEQUANTIZE")
        return self.tensors.get(made.inputs[0] if made is not None and dequantized else tensor)

    def rounded(self, tensor: str) -> str:
        """Return the name of what others read of a tensor: what DequantizeLinear makes of it where it is quantized."""
        name = tensor
        for kind in ("QuantizeLinear", "DequantizeLinear"):
            reader = next((o for o in self.operators if o.kind == kind and o.inputs[0] == name), None)
            if reader is None:
                return tensor
            name = reader.outputs[0]
        return name

    def constants(self) -> list[Tensor]:
        """Return the tensors that hold data, in order."""
        return [tensor for tensor in self.tensors.values() if tensor.data is not None]
