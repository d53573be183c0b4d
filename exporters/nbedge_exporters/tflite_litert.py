"""TFLite in float32 by litert-torch, straight from torch: a second converter, independent of ONNX and TensorFlow."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbedge.errors import needs
from nbedge.evaluation import named
from nbedge.exporter import Job
from nbedge.runtime import Runner, open_file
from nbedge_exporters.tflite_file import TARGETS, finish


@dataclass(frozen=True, slots=True)
class LitertExporter:
    """Writes float32 TFLite from a `torch.export` program."""

    consumes: str = "torch"
    produces: str = "tflite"
    source: str = "fp32"
    schemes: frozenset[str] = frozenset({"fp32"})
    backend: str = "litert"
    options: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {"input": ("float32", "uint8"), "head": ("logits", "softmax"), "target": TARGETS}
    )
    needs: Mapping[str, str] = field(default_factory=dict)
    extra: str = "litert"
    packages: tuple[str, ...] = ("litert-torch", "ai-edge-litert")
    imports: tuple[str, ...] = ("litert_torch",)

    def convert(self, job: Job) -> None:
        """Write the program of `job.source` in NHWC."""
        with needs(self.extra):
            import litert_torch
            import torch
        program = torch.export.load(job.source)
        (example,) = program.example_inputs[0]
        with torch.inference_mode():
            found = named(program.module()(example))
        maps = [place for place, y in enumerate(found.values()) if y.ndim == example.ndim]
        module = program.module() if len(found) == 1 else _in_order(program.module())
        model = litert_torch.to_channel_last_io(module, args=[0], outputs=maps)
        model.training = False  # an exported program has no other mode, and no eval()
        written = job.workdir / "converted.tflite"
        litert_torch.convert(model, (example.permute(0, 2, 3, 1).contiguous(),)).export(str(written))
        job.targets["fp32"].write_bytes(finish(written.read_bytes(), "fp32", job, list(found)))

    def open(self, path: Path) -> Runner:
        """Run a file in its usual kernels."""
        return open_file(path)


exporter = LitertExporter()


def _in_order(program: Any) -> Any:
    """Return a module that gives the outputs of a program as a tuple, whose layouts litert-torch can change."""
    from torch import nn

    class InOrder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.program = program

        def forward(self, x: Any) -> tuple[Any, ...]:
            outputs = self.program(x)
            return tuple(outputs.values()) if isinstance(outputs, dict) else tuple(outputs)

    return InOrder()
