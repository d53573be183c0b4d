"""What every TFLite file of nbedge gets, whatever wrote it: weights inside, an input of bytes if wished, metadata."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nbedge.errors import ExportError, needs
from nbedge.exporter import Job
from nbedge.graph import read
from nbedge.runtime import natural
from nbedge_exporters import tflite_metadata

#: targets that read no metadata: bytes of flash for nothing
PLAIN = ("tflm", "ethos-u")
TARGETS = ("litert", *PLAIN)
#: operators that change nothing but the type
CASTS = ("QUANTIZE", "DEQUANTIZE")


def finish(content: bytes, scheme: str, job: Job, outputs: Sequence[str] = ()) -> bytes:
    """Return the file with its weights inside the flatbuffer, and what `job` asks for.

    Quantizers write large weights behind the flatbuffer, where TFLite Micro takes activations for them.

    Args:
        content: of the file.
        scheme: of it.
        job: what is asked for.
        outputs: names of several outputs, in the order in which the model gives them; converters number them.
    """
    with needs("tflite"):
        from ai_edge_litert.tools import flatbuffer_utils

    written = job.workdir / "unfinished.tflite"
    written.write_bytes(content)
    model = flatbuffer_utils.read_model(str(written))
    if len(outputs) > 1:
        name_outputs_(model, outputs)
    if job.settings.get("input") == "uint8":
        take_bytes_(model)
    if job.settings.get("target") not in PLAIN and job.preprocessing is not None:
        tflite_metadata.add_(model, job.preprocessing, job.classes)
    flatbuffer_utils.write_model(model, str(written))
    found = written.read_bytes()
    return found if job.settings.get("target") in PLAIN else tflite_metadata.with_labels(found, job.classes)


def name_outputs_(model: Any, names: Sequence[str]) -> None:
    """Give the outputs of the signature their names; they are numbered in the order in which the model gives them.

    Raises:
        ExportError: they are not as many.
    """
    (signature,) = model.signatureDefs
    numbered = sorted(signature.outputs, key=lambda entry: natural(entry.name.decode()))
    if len(numbered) != len(names):
        raise ExportError(f"the converter wrote {len(numbered)} outputs, the model gives {', '.join(names)}")
    for entry, name in zip(numbered, names, strict=True):
        entry.name = name.encode()


def take_bytes_(model: Any) -> None:
    """Let the input be uint8 pixels: an operator in front casts them, or quantizes them to what was the input."""
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    (place,) = graph.inputs
    old = graph.tensors[place]
    readers = [operator for operator in graph.operators if place in operator.inputs]
    codes = {model.operatorCodes[operator.opcodeIndex].builtinCode for operator in readers}
    if codes == {schema.BuiltinOperator.QUANTIZE}:  # a file with integers inside: it quantizes pixels as well
        old.type, old.quantization = schema.TensorType.UINT8, _of_pixels()
        return
    new = schema.TensorT()
    new.name, old.name = old.name, old.name + b"_inside"
    new.shape, new.shapeSignature, new.type = old.shape, old.shapeSignature, schema.TensorType.UINT8
    if old.type != schema.TensorType.FLOAT32:
        new.quantization = _of_pixels()
    graph.tensors.append(new)
    model.buffers.append(schema.BufferT())
    new.buffer, outer = len(model.buffers) - 1, len(graph.tensors) - 1
    graph.operators.insert(0, _operator(model, outer, place))
    graph.inputs = [outer]
    for signature in model.signatureDefs or ():
        for entry in signature.inputs:
            entry.tensorIndex = outer if entry.tensorIndex == place else entry.tensorIndex


def _of_pixels() -> Any:
    """Return the quantization of a tensor in which a pixel is its own integer."""
    from ai_edge_litert import schema_py_generated as schema

    found = schema.QuantizationParametersT()
    found.scale, found.zeroPoint = [np.float32(1)], [0]
    return found


def _operator(model: Any, source: int, target: int) -> Any:
    """Return the operator that makes what was the input of pixels."""
    from ai_edge_litert import schema_py_generated as schema

    operator = schema.OperatorT()
    if model.subgraphs[0].tensors[target].type == schema.TensorType.FLOAT32:
        code, options = schema.BuiltinOperator.CAST, schema.CastOptionsT()
        options.inDataType, options.outDataType = schema.TensorType.UINT8, schema.TensorType.FLOAT32
        operator.builtinOptionsType = schema.BuiltinOptions.CastOptions
    else:
        code, options = schema.BuiltinOperator.QUANTIZE, schema.QuantizeOptionsT()
        operator.builtinOptionsType = schema.BuiltinOptions.QuantizeOptions
    operator.opcodeIndex, operator.builtinOptions = _code(model, code), options
    operator.inputs, operator.outputs = [source], [target]
    return operator


def _code(model: Any, code: int) -> int:
    """Return the place of an operator's code, which is added if it is not there."""
    from ai_edge_litert import schema_py_generated as schema

    for place, held in enumerate(model.operatorCodes):
        if held.builtinCode == code:
            return place
    new = schema.OperatorCodeT()
    new.builtinCode = new.deprecatedBuiltinCode = code
    new.version = 2 if code == schema.BuiltinOperator.QUANTIZE else 1
    model.operatorCodes.append(new)
    return len(model.operatorCodes) - 1


def interpreter_of(content: bytes) -> Any:
    """Return LiteRT's interpreter of a file."""
    with needs("tflite"):
        from ai_edge_litert.interpreter import Interpreter
    return Interpreter(model_content=content)


def all_integer(content: bytes, scheme: str, workdir: Path) -> bytes:
    """Return the file if it holds the integers of its scheme only, those that every microcontroller kernel takes.

    Raises:
        ExportError: something was left in floating point, or of another type.
    """
    written = workdir / "integer.tflite"
    written.write_bytes(content)
    graph = read(written)
    allowed = {"int8", "int32", *(("int16", "int64") if scheme == "int8x16" else ())}
    ends = {*graph.inputs, *graph.outputs} if scheme.endswith("float-io") else set()
    strange = {name: t.dtype for name, t in graph.tensors.items() if name not in ends and t.dtype not in allowed}
    makers = [o.kind for o in graph.operators if strange.keys() & {*o.inputs, *o.outputs} and o.kind not in CASTS]
    if strange:
        kinds = f" ({', '.join(sorted(set(makers)))})" if makers else ""
        shown = ", ".join(sorted(set(strange.values())))
        raise ExportError(f"the {scheme} file would hold {shown} tensors; replace the operators that need them{kinds}")
    return content
