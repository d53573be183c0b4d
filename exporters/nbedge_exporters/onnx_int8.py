"""Quantized ONNX by ONNX Runtime's static quantization: 8-bit weights per channel, 8-bit activations.

Activations are unsigned, for signed ones are 1.5-2 times slower on x64; weights are per channel, for one scale
a tensor can ruin a depthwise net (both measured). The outer steps can be left out, so that input and output are bytes.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge.artifact import QUANTIZATION, Job, TensorSpec
from nbedge.errors import ExportError, needs
from nbedge_exporters.onnx import read_signature


@dataclass(frozen=True, slots=True)
class OnnxInt8Exporter:
    """Writes 8-bit ONNX from float32 ONNX."""

    consumes: str = "onnx"
    produces: str = "onnx"
    schemes: frozenset[str] = frozenset({"int8", "int8-float-io"})
    extra: str = "onnx"
    packages: tuple[str, ...] = ("onnx", "onnxruntime")

    def convert(self, job: Job) -> None:
        """Quantize `job.source` with the ranges seen on all of `job.calibration`."""
        # else the import makes an identifier of the machine in ~/.cache and reports to Microsoft
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        float_io = job.targets.get("int8-float-io", job.workdir / "float-io.onnx")
        _quantize(job.source, float_io, np.load(job.calibration))
        if "int8" in job.targets:
            _write_integer_io(float_io, job.targets["int8"])

    def signature(self, path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """Read the inputs and outputs; integer ones with their scale and zero point."""
        return read_signature(path)


exporter = OnnxInt8Exporter()


@dataclass(frozen=True, slots=True)
class _Pictures:
    """Gives the calibration pictures one by one, as ONNX Runtime asks for them."""

    name: str
    rest: Iterator[NDArray[np.float32]]

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        picture = next(self.rest, None)
        return None if picture is None else {self.name: picture[None]}


def _quantize(source: Path, target: Path, calibration: NDArray[np.float32]) -> None:
    with needs("onnx"):
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    (entry,), _ = read_signature(source)
    quantize_static(
        source,
        target,
        _Pictures(entry.name, iter(calibration)),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )


def _write_integer_io(float_io: Path, target: Path) -> None:
    """Write `float_io` without quantizing its input and dequantizing its output."""
    import onnx

    model = onnx.load(float_io)
    (entry,), (exit_,) = model.graph.input, model.graph.output
    readers = [node for node in model.graph.node if entry.name in node.input]
    writers = [node for node in model.graph.node if exit_.name in node.output]
    _drop(model, entry, _only(readers, "QuantizeLinear", entry.name))
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


def _drop(model: Any, tensor: Any, step: Any) -> None:
    """Remove the node `step` between the outer `tensor` and an integer one, which becomes the outer tensor."""
    from onnx import TensorProto

    inner = next(name for name in (step.input[0], step.output[0]) if name != tensor.name)
    _note_quantization(model, tensor.name, scale=step.input[1], zero_point=step.input[2])
    model.graph.node.remove(step)
    for node in model.graph.node:
        node.input[:] = [tensor.name if name == inner else name for name in node.input]
        node.output[:] = [tensor.name if name == inner else name for name in node.output]
    tensor.type.tensor_type.elem_type = TensorProto.UINT8


def _note_quantization(model: Any, tensor: str, scale: str, zero_point: str) -> None:
    """Keep in the model's metadata what the removed node knew."""
    from onnx import numpy_helper

    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.name in (scale, zero_point)}
    kept = {"scale": float(values[scale]), "zero_point": int(values[zero_point])}
    model.metadata_props.add(key=QUANTIZATION + tensor, value=json.dumps(kept))
