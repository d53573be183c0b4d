"""ONNX in float32, as `torch.onnx.export` writes it, without what it tells of the machine.

The exporter's own optimizer folds BatchNorm into the convolutions (measured: none is left, and nothing is gained
by a simplifier afterwards). Each node's record holds a stack trace with paths, so all such records are removed.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbedge.artifact import QUANTIZATION, Job, TensorSpec
from nbedge.errors import ExportError, needs
from nbedge.runtime import layout

OPSET = 20


@dataclass(frozen=True, slots=True)
class OnnxExporter:
    """Writes float32 ONNX from a `torch.export` program."""

    consumes: str = "torch"
    produces: str = "onnx"
    schemes: frozenset[str] = frozenset({"fp32"})
    extra: str = "onnx"
    packages: tuple[str, ...] = ("torch", "onnx", "onnxscript")

    def convert(self, job: Job) -> None:
        """Write the program of `job.source` as ONNX of opset 20 with the program's own static batch."""
        # importing torch.onnx makes this folder, by default in /tmp
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(job.workdir / "inductor"))
        with needs(self.extra):
            import onnx
        model = _export(job.source, job.workdir / "exported.onnx")
        _check_opset(model)
        _forget_machine(model)
        onnx.checker.check_model(model, full_check=True)
        job.targets["fp32"].write_bytes(model.SerializeToString(deterministic=True))

    def signature(self, path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """Read the inputs and outputs of a float32 file."""
        return read_signature(path)


exporter = OnnxExporter()


def read_signature(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Read the inputs and outputs of any ONNX file of nbedge.

    Raises:
        ExportError: an input or output is neither a batch of pictures nor of vectors.
    """
    with needs("onnx"):
        import onnx
    model = onnx.load(path, load_external_data=False)
    quantization = {p.key: json.loads(p.value) for p in model.metadata_props if p.key.startswith(QUANTIZATION)}
    return (
        tuple(_spec(tensor, quantization) for tensor in model.graph.input),
        tuple(_spec(tensor, quantization) for tensor in model.graph.output),
    )


def _spec(tensor: Any, quantization: dict[str, dict[str, Any]]) -> TensorSpec:
    from onnx import helper

    kind = tensor.type.tensor_type
    shape = tuple(size.dim_value for size in kind.shape.dim)
    if len(shape) not in (2, 4) or 0 in shape:
        raise ExportError(f"{tensor.name!r} has the shape {shape}; export a program with static NCHW or NC shapes")
    dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    return TensorSpec(
        tensor.name, shape, dtype, layout(shape, "NCHW"), **quantization.get(QUANTIZATION + tensor.name, {})
    )


def _export(source: Path, written: Path) -> Any:
    with needs("onnx"):
        import onnx
        import torch
    torch.onnx.export(
        torch.export.load(source),
        f=written,
        input_names=["input"],
        output_names=["logits"],
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    return onnx.load(written)


def _check_opset(model: Any) -> None:
    # below 18 the exporter only logs that it cannot, and writes 18
    found = {entry.domain: entry.version for entry in model.opset_import}
    if found != {"": OPSET}:
        raise ExportError(f"torch wrote ONNX of the operator sets {found}, not {OPSET}; check torch and onnxscript")


def _forget_machine(model: Any) -> None:
    """Remove the records of the model and all its parts: stack traces with paths, class names, torch's graph."""
    graph = model.graph
    tensors = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for part in (model, graph, *graph.node, *tensors):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
