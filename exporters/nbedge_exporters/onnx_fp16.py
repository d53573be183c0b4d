"""ONNX in float16, by ONNX Runtime's converter; input and output stay float32."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nbedge.errors import needs
from nbedge.exporter import Job
from nbedge.runtime import Runner, import_onnxruntime, open_file
from nbedge_exporters.onnx import take_bytes_


@dataclass(frozen=True, slots=True)
class OnnxFp16Exporter:
    """Writes float16 ONNX from float32 ONNX."""

    consumes: str = "onnx"
    produces: str = "onnx"
    source: str = "fp32"
    schemes: frozenset[str] = frozenset({"fp16"})
    backend: str = "onnxruntime"
    options: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"input": ("float32", "uint8")})
    needs: Mapping[str, str] = field(default_factory=lambda: {"input": "float32"})
    extra: str = "onnx"
    packages: tuple[str, ...] = ("onnx", "onnxruntime")
    imports: tuple[str, ...] = ("onnxruntime.transformers.float16",)

    def convert(self, job: Job) -> None:
        """Write `job.source` with float16 weights and operators."""
        import_onnxruntime()  # with its telemetry off
        with needs(self.extra):
            import onnx
            from onnxruntime.transformers.float16 import convert_float_to_float16
            from onnxruntime.transformers.onnx_model import OnnxModel
        model = convert_float_to_float16(onnx.load(job.source), keep_io_types=True)
        OnnxModel(model).topological_sort()  # the casts at both ends were put last
        if job.settings.get("input") == "uint8":
            take_bytes_(model)
        onnx.checker.check_model(model, full_check=True)
        job.targets["fp16"].write_bytes(model.SerializeToString(deterministic=True))

    def open(self, path: Path) -> Runner:
        """Run a file in its usual kernels."""
        return open_file(path)


exporter = OnnxFp16Exporter()
