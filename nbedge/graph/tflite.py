"""Read and cut TFLite files: the flatbuffer, through the schema that comes with LiteRT."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge import files
from nbedge.errors import InputError, needs
from nbedge.graph.records import Graph, Operator, Tensor

#: number of a type in the schema -> numpy name
_TYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 5: "str", 6: "bool", 7: "int16",
          8: "complex64", 9: "int8", 10: "float64", 15: "uint32", 16: "uint16", 17: "int4", 18: "bfloat16"}  # fmt: skip
#: name under which a file holds its TFLite Metadata; the labels are an archive behind the flatbuffer
METADATA = b"TFLITE_METADATA"
#: of a packed type that numpy does not know, the type that its bytes are read as
_BYTES = {"int4": "uint8", "bfloat16": "uint16", "str": "uint8"}


def read_tflite(path: Path) -> Graph:
    """Read the first subgraph of a TFLite file.

    Raises:
        InputError: it is no TFLite file, or cut short.
    """
    model, content = _model(path)
    if not model.subgraphs:
        raise InputError(f"{path} holds no graph; export the file again")
    held, codes = model.subgraphs[0], _codes()
    names = _names(held.tensors)
    tensors = {name: _tensor(t, name, model, content) for name, t in zip(names, held.tensors, strict=True)}

    def named(indices: Any) -> tuple[str, ...]:
        return tuple(names[index] if index >= 0 else "" for index in (indices if indices is not None else ()))

    operators = []
    for held_operator in held.operators or ():
        code = model.operatorCodes[held_operator.opcodeIndex]
        builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
        custom = (code.customCode or b"").decode() if codes.get(builtin) == "CUSTOM" else ""
        outputs = named(held_operator.outputs)
        operators.append(
            Operator(
                f"CUSTOM {custom}" if custom else codes.get(builtin, f"BUILTIN {builtin}"), code.version,
                named(held_operator.inputs), outputs, vars(held_operator.builtinOptions or object.__new__(_Empty)),
                outputs[0] if outputs else "",
            )
        )  # fmt: skip
    notes = {entry.name.decode(): "" for entry in model.metadata or () if entry.name}
    return Graph(path, "tflite", tuple(operators), tensors, named(held.inputs), named(held.outputs), notes)


class _Empty:
    """Options of an operator that has none."""


def _model(path: Path) -> tuple[Any, bytes]:
    with needs("tflite"):
        from ai_edge_litert import schema_py_generated as schema
    content = files.existing(path, "the file").read_bytes()
    if content[4:8] != b"TFL3":
        raise InputError(f"{path} is no TFLite file, or damaged; export it again")
    try:
        return schema.ModelT.InitFromPackedBuf(content, 0), content
    except Exception as error:  # a damaged flatbuffer fails anywhere
        raise InputError(f"{path} is damaged ({type(error).__name__}: {error}); export it again") from error


def _codes() -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    return {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}


def _names(tensors: Any) -> list[str]:
    """Return a unique name of each tensor: its own, or with its number where that is missing or taken."""
    found: list[str] = []
    taken: set[str] = set()
    for index, tensor in enumerate(tensors):
        own = (tensor.name or b"").decode(errors="replace")
        found.append(own if own and own not in taken else f"{own or 'tensor'}#{index}")
        taken.add(found[-1])
    return found


def _tensor(held: Any, name: str, model: Any, content: bytes) -> Tensor:
    quantization, dtype = held.quantization, _TYPES.get(held.type, f"type {held.type}")
    scales = np.asarray(
        quantization.scale if quantization is not None and quantization.scale is not None else (), np.float32
    )
    points = np.asarray(quantization.zeroPoint if len(scales) and quantization.zeroPoint is not None else (), np.int64)
    axis = int(quantization.quantizedDimension) if len(scales) else 0
    shape = _shape(held)
    data, inline = _data(model.buffers[held.buffer], content)
    return Tensor(name, shape, dtype, scales, points, axis, _shaped(data, shape, dtype), inline)


def _shape(held: Any) -> tuple[int, ...]:
    """Return the sizes of a tensor, 0 for one that is open; an open batch is the one input of the file as it lies."""
    sizes = [int(size) for size in (held.shape if held.shape is not None else ())]
    signature = held.shapeSignature if held.shapeSignature is not None else sizes
    opened = [i > 0 and said < 0 for i, said in enumerate(signature)] if len(signature) == len(sizes) else []
    return tuple(0 if is_open else size for size, is_open in zip(sizes, opened or [False] * len(sizes), strict=True))


def _data(buffer: Any, content: bytes) -> tuple[NDArray[np.uint8] | None, bool]:
    """Return the bytes of a buffer, and whether they lie inside the flatbuffer; offsets 0 and 1 mean they do."""
    if buffer.offset > 1:
        outside = content[buffer.offset : buffer.offset + buffer.size]
        return np.frombuffer(outside, np.uint8), False
    if buffer.data is None or not len(buffer.data):
        return None, True
    return np.asarray(buffer.data, np.uint8), True


def _shaped(data: NDArray[np.uint8] | None, shape: tuple[int, ...], dtype: str) -> NDArray[Any] | None:
    if data is None:
        return None
    try:
        values: NDArray[Any] = data.view(np.dtype(_BYTES.get(dtype, dtype)))
    except (TypeError, ValueError):
        return data
    return values.reshape(shape) if values.size == np.prod(shape, dtype=int) else values


def cut_tflite(path: Path, inputs: Sequence[str], outputs: Sequence[str], out: Path) -> None:
    """Write the part of a TFLite file that computes the tensors `outputs` from the tensors `inputs`.

    Raises:
        InputError: the outputs need more than these inputs and constants, or a name is unknown.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    model, content = _model(path)
    held = model.subgraphs[0]
    names = _names(held.tensors)
    unknown = [name for name in (*inputs, *outputs) if name not in names]
    if unknown:
        raise InputError(f"{path} has no tensor {unknown[0]}")
    for tensor in held.tensors:
        data, inline = _data(model.buffers[tensor.buffer], content)
        if not inline:
            model.buffers[tensor.buffer].data = data
            model.buffers[tensor.buffer].offset = model.buffers[tensor.buffer].size = 0
    held.inputs, held.outputs = ([names.index(name) for name in part] for part in (inputs, outputs))
    held.operators = _needed(model, held, path, names)
    used = {int(i) for o in held.operators for part in (o.inputs, o.outputs) for i in part} | {
        *held.inputs,
        *held.outputs,
    }
    _keep_tensors(model, held, sorted(used - {-1}))
    model.signatureDefs = None
    with files.appearing(out) as part:
        flatbuffer_utils.write_model(model, str(part))


def without_metadata(path: Path) -> bytes:
    """Return a TFLite file without its TFLite Metadata and labels, which are for phones; others as they are.

    Raises:
        InputError: it is no TFLite file, or cut short.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    model, content = _model(path)
    described = [entry for entry in model.metadata or () if entry.name == METADATA]
    if not described:
        return content
    model = flatbuffer_utils.read_model(str(path))  # with the buffers that lie behind the flatbuffer
    for entry in described:
        model.buffers[entry.buffer].data = None
    model.metadata = [entry for entry in model.metadata if entry.name != METADATA]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _needed(model: Any, held: Any, path: Path, names: list[str]) -> list[Any]:
    """Return the operators between the graph's inputs and outputs, in order."""
    given = {int(index) for index in held.inputs}
    wanted, kept = {int(index) for index in held.outputs} - given, []
    for operator in reversed(held.operators):
        made = {int(index) for index in operator.outputs}
        if made & wanted:
            kept.append(operator)
            wanted = (wanted - made) | ({int(index) for index in operator.inputs} - {-1} - given)
    short = [i for i in sorted(wanted) if model.buffers[held.tensors[i].buffer].data is None]
    if short:
        raise InputError(f"{path}: the outputs need {names[short[0]]} too, which the inputs do not give")
    return kept[::-1]


def _keep_tensors(model: Any, held: Any, kept: list[int]) -> None:
    """Drop every other tensor and buffer, and number the rest anew; buffer 0 stays empty, as the format wants it."""
    new = {old: index for index, old in enumerate(kept)} | {-1: -1}
    held.tensors = [held.tensors[index] for index in kept]
    buffers = [model.buffers[0]]
    for tensor in held.tensors:
        if tensor.buffer:
            buffers.append(model.buffers[tensor.buffer])
            tensor.buffer = len(buffers) - 1
    model.buffers, model.metadata = buffers, None
    held.inputs, held.outputs = ([new[index] for index in part] for part in (held.inputs, held.outputs))
    for operator in held.operators:
        operator.inputs = [new[int(index)] for index in operator.inputs]
        operator.outputs = [new[int(index)] for index in operator.outputs]
