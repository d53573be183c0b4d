"""TFLite files of a few operators, for the tests of generated C: written with LiteRT's own schema."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int8": 9}


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor: its shape, type and quantization, its numbers if it is constant, and -1 for each size that is open."""

    shape: tuple[int, ...]
    dtype: str = "int8"
    scale: float | Sequence[float] = 1.0
    zero: int = 0
    data: NDArray[Any] | None = None
    axis: int = 0
    signature: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Op:
    """An operator: its name in the schema, numbers of its tensors, its table of options and what is in it."""

    kind: str
    inputs: Sequence[int]
    outputs: Sequence[int]
    table: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1


@dataclass(frozen=True, eq=False)
class Net:
    """A network: numbers stand for tensors."""

    tensors: Sequence[Tensor]
    ops: Sequence[Op]
    inputs: Sequence[int] = (0,)
    outputs: Sequence[int] = ()

    def write(self, path: Path) -> Path:
        """Write it as a TFLite file; without `outputs` the last operator makes them."""
        from ai_edge_litert import schema_py_generated as schema
        from ai_edge_litert.tools import flatbuffer_utils

        model, graph = schema.ModelT(), schema.SubGraphT()
        model.version, model.description, model.buffers = 3, "test", [schema.BufferT()]
        graph.tensors = [_tensor(schema, model, f"t{i}", tensor) for i, tensor in enumerate(self.tensors)]
        graph.inputs, graph.outputs = list(self.inputs), list(self.outputs or self.ops[-1].outputs)
        model.operatorCodes = [_code(schema, op) for op in self.ops]
        graph.operators = [_operator(schema, i, op) for i, op in enumerate(self.ops)]
        model.subgraphs = [graph]
        flatbuffer_utils.write_model(model, str(path))
        return path


def _tensor(schema: Any, model: Any, name: str, tensor: Tensor) -> Any:
    held = schema.TensorT()
    held.name, held.shape, held.type = name.encode(), list(tensor.shape), _TYPES[tensor.dtype]
    held.shapeSignature = list(tensor.signature) or None
    if tensor.dtype in ("int8", "uint8") or (tensor.dtype == "int32" and tensor.scale != 1.0):
        scales = np.atleast_1d(np.asarray(tensor.scale, np.float32))
        held.quantization = schema.QuantizationParametersT()
        held.quantization.scale, held.quantization.zeroPoint = scales.tolist(), [tensor.zero] * len(scales)
        held.quantization.quantizedDimension = tensor.axis
    held.buffer = 0
    if tensor.data is not None:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(tensor.data).tobytes(), np.uint8)
        model.buffers.append(buffer)
        held.buffer = len(model.buffers) - 1
    return held


def _code(schema: Any, op: Op) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, op.kind)
    code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), op.version
    return code


def _operator(schema: Any, index: int, op: Op) -> Any:
    held = schema.OperatorT()
    held.opcodeIndex, held.inputs, held.outputs = index, list(op.inputs), list(op.outputs)
    if op.table:
        held.builtinOptionsType = getattr(schema.BuiltinOptions, op.table)
        held.builtinOptions = getattr(schema, f"{op.table}T")()
        for key, value in op.options.items():
            setattr(held.builtinOptions, key, value)
    return held
