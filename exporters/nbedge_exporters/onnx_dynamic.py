"""ONNX whose activations are quantized while it runs, by ONNX Runtime's quantizer: 8-bit weights per channel.

The activations are unsigned: without VNNI instructions their products with weights of 8 bits saturate, see `onnx_int8`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nbedge.errors import needs
from nbedge.exporter import Job
from nbedge.runtime import Runner, import_onnxruntime, open_file
from nbedge_exporters.onnx import take_bytes_
from nbedge_exporters.onnx_int8 import TARGETS


@dataclass(frozen=True, slots=True)
class OnnxDynamicExporter:
    """Writes ONNX with weights of 8 bits from float32 ONNX.

    Its source has a batch of 1: ranges are those of a whole batch, and answers would depend on the other inputs.
    """

    consumes: str = "onnx"
    produces: str = "onnx"
    source: str = "fp32"
    schemes: frozenset[str] = frozenset({"dynamic"})
    backend: str = "onnxruntime"
    options: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {"target": tuple(TARGETS), "input": ("float32", "uint8")}
    )
    needs: Mapping[str, str] = field(default_factory=lambda: {"input": "float32", "batch": "1"})
    extra: str = "onnx"
    packages: tuple[str, ...] = ("onnx", "onnxruntime")
    imports: tuple[str, ...] = ("onnxruntime.quantization",)

    def convert(self, job: Job) -> None:
        """Quantize the weights of `job.source`."""
        import_onnxruntime()  # with its telemetry off
        with needs("onnx"):
            import onnx
            from onnxruntime.quantization import QuantType, quantize_dynamic
        (target,) = job.targets.values()
        _, reduced = TARGETS[job.settings.get("target", "x86-vnni")]
        quantize_dynamic(
            job.source, target, weight_type=QuantType.QInt8, per_channel=True, reduce_range=reduced,
        )  # fmt: skip
        model = onnx.load(target)
        _scale_channels_(model, onnx.load(job.source), 63 if reduced else 127)
        if job.settings.get("input") == "uint8":
            take_bytes_(model)
        onnx.checker.check_model(model, full_check=True)
        target.write_bytes(model.SerializeToString(deterministic=True))

    def open(self, path: Path) -> Runner:
        """Run a file in its usual kernels."""
        return open_file(path)


exporter = OnnxDynamicExporter()


def _scale_channels_(model: Any, source: Any, largest: int) -> None:
    """Quantize the weights of integer convolutions channel by channel; ONNX Runtime gives them one scale."""
    from onnx import numpy_helper

    held = {tensor.name: tensor for tensor in model.graph.initializer}
    floats = {tensor.name: numpy_helper.to_array(tensor) for tensor in source.graph.initializer}
    for node in (node for node in model.graph.node if node.op_type == "ConvInteger"):
        name = node.input[1].removesuffix("_quantized")
        weight = floats[name]
        rows = np.abs(weight.reshape(len(weight), -1)).max(1)
        scales = (np.where(rows > 0, rows, 1) / largest).astype(np.float32)
        along = scales.reshape(-1, *(1,) * (weight.ndim - 1))
        steps = np.clip(np.rint(weight / along), -largest, largest).astype(np.int8)
        held[node.input[1]].CopyFrom(numpy_helper.from_array(steps, node.input[1]))
        # it multiplies answers (n, o, h, w)
        held[f"{name}_scale"].CopyFrom(numpy_helper.from_array(along[None, :, 0], f"{name}_scale"))
