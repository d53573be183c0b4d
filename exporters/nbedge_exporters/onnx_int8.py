"""Integer ONNX by ONNX Runtime's quantizer: 8-bit weights per channel, activations of 8 or 16 bits.

Which types are right depends on the device. On x64 activations are unsigned, for signed ones are 1.5-2 times slower;
without VNNI instructions the products of two neighbours saturate at 16 bits, so that weights get 7 bits there; on ARM
both are signed. Weights are per channel, for one scale a tensor can ruin a depthwise net (all measured, or ONNX
Runtime's documentation of quantization). The outer steps can be left out, so that input and output are integers.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge.artifact import QUANTIZATION
from nbedge.errors import ExportError, needs
from nbedge.exporter import Job
from nbedge.runtime import Runner, import_onnxruntime, open_file

#: method -> ONNX Runtime's name of it
METHODS = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}
#: target -> (type of 8-bit activations, whether weights get 7 bits)
TARGETS = {"x86-vnni": ("QUInt8", False), "x86-avx2": ("QUInt8", True), "arm": ("QInt8", False)}


#: what both ways can be told; the values that are used if none is set come first
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "method": tuple(METHODS), "target": tuple(TARGETS), "input": ("float32", "uint8"), "exempt": ("", "float"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class OnnxInt8Exporter:
    """Writes integer ONNX from float32 ONNX; ONNX has operators of their own for 8 bits only."""

    consumes: str = "onnx"
    produces: str = "onnx"
    source: str = "fp32"
    schemes: frozenset[str] = frozenset({"int8", "int8-float-io"})
    backend: str = "onnxruntime"
    options: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {**OPTIONS, "operators": ("qdq", "qoperator")}
    )
    needs: Mapping[str, str] = field(default_factory=lambda: {"input": "float32"})
    extra: str = "onnx"
    packages: tuple[str, ...] = ("onnx", "onnxruntime")
    imports: tuple[str, ...] = ("onnxruntime.quantization",)

    def convert(self, job: Job) -> None:
        """Quantize `job.source` with the ranges seen on all of `job.calibration`."""
        import_onnxruntime()  # with its telemetry off
        if "int8x16" in job.targets:
            _static(job, "int8x16", "QInt16", "qdq")
        else:
            activations, _ = TARGETS[job.settings.get("target", "x86-vnni")]
            _static(job, "int8", activations, job.settings.get("operators", "qdq"))

    def open(self, path: Path) -> Runner:
        """Run a file in its usual kernels."""
        return open_file(path)


exporter = OnnxInt8Exporter()
exporter_of_16_bits = OnnxInt8Exporter(schemes=frozenset({"int8x16"}), options=OPTIONS)


@dataclass(frozen=True, slots=True)
class _Pictures:
    """Gives the calibration pictures one by one, as ONNX Runtime asks for them."""

    name: str
    rest: Iterator[NDArray[np.float32]]

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        picture = next(self.rest, None)
        return None if picture is None else {self.name: picture[None]}


def _static(job: Job, scheme: str, activations: str, operators: str) -> None:
    """Write `scheme`, and with int8 the form of float32 input and output if it is asked for."""
    kept, pixels = job.targets.get(f"{scheme}-float-io"), job.settings.get("input") == "uint8"
    float_io = job.workdir / f"{scheme}-float-io.onnx"
    _quantize(job, float_io, activations, operators)
    if scheme in job.targets:
        _write_integer_io(float_io, job.targets[scheme], pixels)
    if kept is not None:
        kept.write_bytes(float_io.read_bytes())
        if pixels:
            _write_integer_io(float_io, kept, pixels, ends=("input",))


def _quantize(job: Job, target: Path, activations: str, operators: str) -> None:
    with needs("onnx"):
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    (entry,) = open_file(job.source).inputs
    extra: dict[str, Any] = {}
    if job.settings.get("input") == "uint8":  # a pixel is its own integer
        dtype = np.dtype({"QUInt8": np.uint8, "QInt8": np.int8, "QInt16": np.int16}[activations])
        black = np.array(-128 if activations == "QInt8" else 0, dtype)
        extra["TensorQuantOverrides"] = {entry.name: [{"scale": np.array(1, np.float32), "zero_point": black}]}
    _, reduced = TARGETS[job.settings.get("target", "x86-vnni")]
    quantize_static(
        job.source,
        target,
        _Pictures(entry.name, iter(np.load(job.calibration))),
        quant_format=QuantFormat.QDQ if operators == "qdq" else QuantFormat.QOperator,
        per_channel=True,
        reduce_range=reduced,
        activation_type=QuantType[activations],
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod[METHODS[job.settings.get("method", "minmax")]],
        nodes_to_exclude=_exempt(job),
        extra_options=extra,
    )


def _exempt(job: Job) -> list[str]:
    """Return the names of the nodes that stay in floating point."""
    import onnx

    nodes = onnx.load(job.source, load_external_data=False).graph.node if job.exempt else ()
    return [node.name for node in nodes if set(node.output) & set(job.exempt)]


def _write_integer_io(
    float_io: Path, target: Path, pixels: bool, ends: tuple[str, ...] = ("input", "output")
) -> None:  # fmt: skip
    """Write `float_io` without quantizing its input and dequantizing its outputs."""
    import onnx

    model = onnx.load(float_io)
    (entry,) = model.graph.input
    if "input" in ends:
        readers = [node for node in model.graph.node if entry.name in node.input]
        step = _only(readers, "QuantizeLinear", entry.name)
        if pixels and _type_of(model, step.input[2]) != onnx.TensorProto.UINT8:
            _dequantize_pixels_(model, entry, step)
        else:
            _drop(model, entry, step)
    for exit_ in model.graph.output if "output" in ends else ():
        writers = [node for node in model.graph.node if exit_.name in node.output]
        _drop(model, exit_, _only(writers, "DequantizeLinear", exit_.name))
    # they name and type the tensors as they were; every reader infers them anew
    model.graph.ClearField("value_info")
    onnx.checker.check_model(model, full_check=True)
    target.write_bytes(model.SerializeToString(deterministic=True))


def _only(nodes: list[Any], op_type: str, tensor: str) -> Any:
    found = [node.op_type for node in nodes]
    if found != [op_type]:
        raise ExportError(f"{tensor!r} meets {found} and not one {op_type}; use the scheme 'int8-float-io'")
    return nodes[0]


def _type_of(model: Any, constant: str) -> int:
    return next(int(tensor.data_type) for tensor in model.graph.initializer if tensor.name == constant)


def _dequantize_pixels_(model: Any, entry: Any, step: Any) -> None:
    """Let the input be uint8 where the integers inside are of another type: no operator turns one into the other."""
    from onnx import TensorProto, helper, numpy_helper

    constants = {"pixel_scale": np.array(1, np.float32), "pixel_zero_point": np.array(0, np.uint8)}
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    inner = f"{entry.name}_float"
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", [entry.name, *constants], [inner], name="pixels"))
    step.input[0] = inner
    entry.type.tensor_type.elem_type = TensorProto.UINT8
    _note_quantization(model, entry.name, *model.graph.initializer[-2:])


def _drop(model: Any, tensor: Any, step: Any) -> None:
    """Remove the node `step` between the outer `tensor` and an integer one, which becomes the outer tensor."""
    inner = next(name for name in (step.input[0], step.output[0]) if name != tensor.name)
    constants = {constant.name: constant for constant in model.graph.initializer}
    _note_quantization(model, tensor.name, constants[step.input[1]], constants[step.input[2]])
    tensor.type.tensor_type.elem_type = constants[step.input[2]].data_type
    model.graph.node.remove(step)
    for node in model.graph.node:
        node.input[:] = [tensor.name if name == inner else name for name in node.input]
        node.output[:] = [tensor.name if name == inner else name for name in node.output]


def _note_quantization(model: Any, tensor: str, scale: Any, zero_point: Any) -> None:
    """Keep in the model's metadata what the removed node knew."""
    from onnx import numpy_helper

    kept = {"scale": float(numpy_helper.to_array(scale)), "zero_point": int(numpy_helper.to_array(zero_point))}
    model.metadata_props.add(key=QUANTIZATION + tensor, value=json.dumps(kept))
