"""TFLite files of single operators, for the tests of the C exporter: written with LiteRT's own schema."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from numpy.typing import NDArray

_TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int8": 9}


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor: its shape, type and quantization, and its numbers if it is constant."""

    shape: tuple[int, ...]
    dtype: str = "int8"
    scale: float | Sequence[float] = 1.0
    zero: int = 0
    data: NDArray[Any] | None = None
    axis: int = 0


@dataclass(frozen=True, eq=False)
class Op:
    """An operator: its name in the schema, numbers of its tensors, and its options."""

    kind: str
    inputs: Sequence[int]
    outputs: Sequence[int]
    options: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1


def write(
    path: Path, tensors: Sequence[Tensor], ops: Sequence[Op], inputs: Sequence[int], outputs: Sequence[int]
) -> Path:
    """Write a file of these tensors and operators."""
    model = schema.ModelT()
    model.version, model.description = 3, "test"
    model.buffers = [schema.BufferT()]
    graph = schema.SubGraphT()
    graph.tensors = [_tensor(model, f"t{i}", tensor) for i, tensor in enumerate(tensors)]
    graph.inputs, graph.outputs = list(inputs), list(outputs)
    model.operatorCodes = [_code(op) for op in ops]
    graph.operators = [_operator(i, op) for i, op in enumerate(ops)]
    model.subgraphs = [graph]
    flatbuffer_utils.write_model(model, str(path))
    return path


def _tensor(model: Any, name: str, tensor: Tensor) -> Any:
    held = schema.TensorT()
    held.name, held.shape, held.type = name.encode(), list(tensor.shape), _TYPES[tensor.dtype]
    if tensor.dtype in ("int8", "uint8") or (tensor.dtype == "int32" and tensor.scale != 1.0):
        held.quantization = schema.QuantizationParametersT()
        scales = np.atleast_1d(np.asarray(tensor.scale, np.float32))
        held.quantization.scale = scales.tolist()
        held.quantization.zeroPoint = [tensor.zero] * len(scales)
        held.quantization.quantizedDimension = tensor.axis
    if tensor.data is not None:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(tensor.data).tobytes(), np.uint8)
        model.buffers.append(buffer)
        held.buffer = len(model.buffers) - 1
    else:
        held.buffer = 0
    return held


def _code(op: Op) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, op.kind)
    code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), op.version
    return code


def _operator(index: int, op: Op) -> Any:
    held = schema.OperatorT()
    held.opcodeIndex, held.inputs, held.outputs = index, list(op.inputs), list(op.outputs)
    name = op.options.get("type")
    if name:
        held.builtinOptionsType = getattr(schema.BuiltinOptions, name)
        held.builtinOptions = getattr(schema, f"{name}T")()
        for key, value in op.options.items():
            if key != "type":
                setattr(held.builtinOptions, key, value)
    return held
