"""Read what ExecuTorch leaves to XNNPACK: a graph of its own inside the file (executorch/backends/xnnpack, schema.fbs).

XNNPACK lays out operators and weights as TFLite does, so that those that are judged go by TFLite's names.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nbedge.graph.flatbuffer import Table
from nbedge.graph.records import Operator, Tensor

#: names in the order of the union XNodeUnion
KINDS = (
    "", "Add", "FULLY_CONNECTED", "Softmax", "Sigmoid", "TRANSPOSE", "Clamp", "CONV_2D", "Div",
    "StaticResizeBilinear2D", "StaticConstantPad", "AvgPooling2d", "Minimum", "DEPTHWISE_CONV_2D", "MaxPooling2d",
    "Multiply", "Subtract", "Floor", "Convert", "GlobalAvgPooling2d", "StaticReshape", "ArgMaxPooling2d", "SquareRoot",
    "Ceiling", "Hardswish", "LeakyReLU", "Maximum", "Negate", "Square", "ELU", "Abs", "PReLU", "Concatenate2",
    "Concatenate3", "Concatenate4", "StaticSlice", "ScaledDotProductAttention", "BATCH_MATMUL", "Concatenate5",
    "TRANSPOSE_CONV", "ReciprocalSquareRoot", "Log", "Gelu", "Tanh", "Exp", "Sin", "Copy", "Cos",
)  # fmt: skip
_TWO, _ONE, _POOL, _CONV = ((0, 1), (2,)), ((0,), (1,)), ((10,), (11,)), ((15, 16, 17), (18,))
_AFTER_TWO, _AFTER_THREE, _AFTER_ONE = ((2,), (3,)), ((3,), (4,)), ((1,), (2,))
#: kind -> numbers of the fields that hold its inputs and its outputs; all others have one of each, in front
FIELDS = {
    **dict.fromkeys(
        ("Add", "Div", "Minimum", "Multiply", "Subtract", "Maximum", "PReLU", "BATCH_MATMUL"), _TWO
    ),
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"), _CONV),
    **dict.fromkeys(("AvgPooling2d", "MaxPooling2d"), _POOL),
    **dict.fromkeys(("TRANSPOSE", "StaticReshape", "StaticResizeBilinear2D"), _AFTER_TWO),
    **dict.fromkeys(("StaticConstantPad", "StaticSlice"), _AFTER_THREE),
    **dict.fromkeys(("ELU", "LeakyReLU"), _AFTER_ONE),
    "FULLY_CONNECTED": ((0, 1, 2), (3,)),
    "Concatenate2": ((1, 2), (5,)), "Concatenate3": ((1, 2, 3), (5,)), "Concatenate4": ((1, 2, 3, 4), (5,)),
    "Concatenate5": ((1, 2, 3, 4, 7), (5,)),
    "ArgMaxPooling2d": ((6,), (7, 8)), "ScaledDotProductAttention": ((0, 1, 2, 3, 4), (5,)),
}  # fmt: skip
#: numpy names in the order of the enumeration XNNDatatype; types of 4 bits are named alone
DTYPES = ("", "float32", "float16", "int8", "uint8", "int32", "int8", "int32", "int4", "int8", "int4", "int8", "int32",
          "float32", "bfloat16")  # fmt: skip
#: what stands for a value that is left out, or that no other graph knows
NO_VALUE = 0xFFFFFFFF
#: numbers in the unions XValueUnion and XNNQuantParams
QUANTIZED, PER_CHANNEL, PER_TENSOR = 2, 1, 2
MAGIC = b"XH00"


@dataclass(frozen=True, slots=True)
class Delegated:
    """A graph that XNNPACK runs.

    Attributes:
        operators: in order.
        tensors: by name; those that it shares with the graph around it go by the names there.
    """

    operators: tuple[Operator, ...]
    tensors: dict[str, Tensor]


def read_delegated(
    blob: bytes, name: str, shared: Sequence[str], elsewhere: Callable[[str], bytes]
) -> Delegated:  # fmt: skip
    """Read the graph that a delegate keeps.

    Args:
        blob: what it keeps.
        name: of the delegate, in front of the names of its own tensors.
        shared: names of the tensors that it is given, inputs and outputs, in order.
        elsewhere: key -> data that the file holds outside of it.

    Raises:
        ValueError: it is damaged, or written otherwise.
        struct.error: likewise.
    """
    if blob[4:8] != MAGIC:
        raise ValueError("XNNPACK's part has no header that is known")
    start, size, data = struct.unpack_from("<III", blob, 10)
    graph = Table.root(blob[start : start + size])
    constants = [_constant(entry, blob[data:], elsewhere) for entry in graph.tables(8)]
    names: dict[int, str] = {}
    tensors = {}
    for value in graph.tables(2):
        number, tensor = _tensor(value, name, shared, constants)
        names[number], tensors[tensor.name] = tensor.name, tensor
    return Delegated(tuple(_operator(node, names, tensors) for node in graph.tables(1)), tensors)


def _constant(entry: Table, data: bytes, elsewhere: Callable[[str], bytes]) -> bytes:
    key, offset, size = entry.text(2), entry.number(0, "<Q"), entry.number(1, "<Q")
    return elsewhere(key)[:size] if key else data[offset : offset + size]


def _tensor(value: Table, name: str, shared: Sequence[str], constants: list[bytes]) -> tuple[int, Tensor]:
    """Return the number by which operators know a tensor, and the tensor."""
    held = _set(value.table(1))
    plain = _set(held.table(0)) if value.number(0, "B") == QUANTIZED else held
    number, place, external = plain.number(6), plain.number(3), plain.number(4)
    dtype = DTYPES[plain.number(0, "<h")]
    called = shared[external] if external < len(shared) else f"{name}/{number}"
    found = Tensor(called, tuple(map(int, plain.numbers(2))), dtype)
    if place:
        found = replace(found, data=_data(constants[place], found))
    return number, _quantized(found, held, constants) if plain is not held else found


def _data(content: bytes, tensor: Tensor) -> NDArray[np.generic]:
    if tensor.dtype in ("int4", "bfloat16"):  # numpy has no such types
        return np.frombuffer(content, np.uint8)
    return np.frombuffer(content, np.dtype(tensor.dtype))[: tensor.size].reshape(tensor.shape)


def _quantized(tensor: Tensor, held: Table, constants: list[bytes]) -> Tensor:
    """Return a tensor with its scales and zero points; those that are made while running are left out."""
    kind, quantization = held.number(1, "B"), held.table(2)
    if quantization is None or kind not in (PER_CHANNEL, PER_TENSOR):
        return tensor
    if kind == PER_TENSOR:
        scales = np.array([quantization.number(0, "<f")], np.float32)
        return replace(tensor, scales=scales, zero_points=np.array([quantization.number(1, "<i")]))
    scales = quantization.numbers(0, "<f4")
    if not len(scales):
        scales = np.frombuffer(constants[quantization.number(2)], np.float32, quantization.number(3))
    return replace(
        tensor, scales=scales, zero_points=np.zeros(len(scales), np.int64), axis=quantization.number(1, "<i")
    )


def _operator(node: Table, names: dict[int, str], tensors: dict[str, Tensor]) -> Operator:
    kind, held = KINDS[node.number(0, "B")], _set(node.table(1))
    fields, exits = FIELDS.get(kind, _ONE)
    inputs, outputs = (tuple(_named(held.number(field), names) for field in some) for some in (fields, exits))
    if kind == "Convert":
        kind = "DEQUANTIZE" if tensors[outputs[0]].is_float else "QUANTIZE"
    return Operator(kind, 1, inputs, outputs, label=outputs[0])


def _named(number: int, names: dict[int, str]) -> str:
    return "" if number == NO_VALUE else names[number]


def _set(table: Table | None) -> Table:
    if table is None:
        raise ValueError("a table is not set")
    return table
