"""ONNX in float32, as `torch.onnx.export` writes it, without what it tells of the machine.

The exporter's own optimizer folds BatchNorm into the convolutions (measured: none is left, and nothing is gained
by a simplifier afterwards). Each node's record holds a stack trace with paths, so all such records are removed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge.errors import ExportError, first_line, needs
from nbedge.evaluation import joined, named
from nbedge.exporter import Job
from nbedge.runtime import Runner, import_onnxruntime, open_file

#: of operators; the first is used if none is set. Below 18 torch only logs that it cannot, and writes 18
OPSETS = ("20", "18", "19", "21", "22", "23", "24", "25")
#: name of a single output, by what it is
OUTPUTS = {"logits": "logits", "softmax": "probabilities"}
#: key of the metadata that says which of torch's exporters wrote the file
WRITER = "nbedge.exporter"
#: max|Δ| / RMS above which torch's other exporter is tried; correct files show 1e-6
WRONG = 1e-4


@dataclass(frozen=True, slots=True)
class OnnxExporter:
    """Writes float32 ONNX from a `torch.export` program."""

    consumes: str = "torch"
    produces: str = "onnx"
    source: str = "fp32"
    schemes: frozenset[str] = frozenset({"fp32"})
    backend: str = "torch"
    options: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {
            "opset": OPSETS, "batch": ("1", "dynamic"), "input": ("float32", "uint8"), "head": tuple(OUTPUTS),
        }
    )  # fmt: skip
    needs: Mapping[str, str] = field(default_factory=dict)
    extra: str = "onnx"
    packages: tuple[str, ...] = ("torch", "onnx", "onnxscript")
    # beyond the exporter itself what it would import at its first use, 0.6 + 0.1 + 0.1 + 0.4 s
    imports: tuple[str, ...] = (
        "torch.onnx", "torch._dynamo", "torch._inductor.decomposition", "networkx",
        "onnxscript.function_libs.torch_lib.ops",
    )  # fmt: skip

    def convert(self, job: Job) -> None:
        """Write the program of `job.source` as ONNX, with the program's own batch."""
        with needs(self.extra):
            import onnx
        model = _right_one(job)
        if job.settings.get("input") == "uint8":
            take_bytes_(model)
        onnx.checker.check_model(model, full_check=True)
        job.targets["fp32"].write_bytes(model.SerializeToString(deterministic=True))

    def open(self, path: Path) -> Runner:
        """Run a file in its usual kernels."""
        return open_file(path)


exporter = OnnxExporter()


def take_bytes_(model: Any) -> None:
    """Let the input be uint8, whose numbers are cast to the float ones that the graph computes with."""
    from onnx import TensorProto, helper

    (entry,) = model.graph.input
    inner = f"{entry.name}_float"
    for node in model.graph.node:
        node.input[:] = [inner if name == entry.name else name for name in node.input]
    kind = entry.type.tensor_type.elem_type
    model.graph.node.insert(0, helper.make_node("Cast", [entry.name], [inner], name="to_float", to=kind))
    entry.type.tensor_type.elem_type = TensorProto.UINT8


def _right_one(job: Job) -> Any:
    """Return the model as torch's exporter writes it; if that answers wrongly, as its older exporter does.

    Raises:
        ExportError: both answer wrongly, or the older one cannot write it.
    """
    with needs("onnx"):
        import torch
    program = torch.export.load(job.source)
    x = np.load(job.calibration)[:4]
    found: dict[str, float] = {}
    for name, dynamo in (("torch.export", True), ("torchscript", False)):
        try:
            model = _export(program, job, dynamo)
        except Exception as error:  # whatever torch raises
            if not found:
                raise
            raise ExportError(
                f"torch's ONNX exporter answers wrongly (max|Δ|/RMS {found['torch.export']:.2g}), and its older one "
                f"cannot write operator set {_opset(job)} ({first_line(error)}); choose another --opset"
            ) from error
        found[name] = _error(program, model, x)
        if found[name] <= WRONG:
            model.metadata_props.add(key=WRITER, value=name)
            return model
        print(f"{name}: max|Δ|/RMS {found[name]:.3g}")
    shown = ", ".join(f"{name} {error:.2g}" for name, error in found.items())
    raise ExportError(
        f"both of torch's ONNX exporters answer wrongly (max|Δ|/RMS: {shown}); choose another --opset"
    )  # fmt: skip


def _opset(job: Job) -> int:
    return int(job.settings.get("opset", OPSETS[0]))


def _export(program: Any, job: Job, dynamo: bool) -> Any:
    import onnx
    import torch

    opset = _opset(job)
    written = job.workdir / f"exported-{'new' if dynamo else 'old'}.onnx"
    outputs = _output_names(program, job)
    if dynamo:
        torch.onnx.export(
            program, f=written, input_names=["input"], output_names=outputs, opset_version=opset, dynamo=True,
            external_data=False, verbose=False,
        )  # fmt: skip
    else:
        (entry,) = program.example_inputs[0]
        module = program.module()
        module.train = lambda _mode: module  # an exported program has one mode and refuses to be asked for it
        torch.onnx.export(
            module, (entry,), f=written, input_names=["input"], output_names=outputs, opset_version=opset,
            dynamo=False,
            dynamic_axes={"input": {0: "batch"}} if job.settings.get("batch") == "dynamic" else None,
        )  # fmt: skip
    model = onnx.load(written)
    found = {entry.domain: entry.version for entry in model.opset_import}
    if found != {"": opset}:
        raise ExportError(f"torch wrote ONNX of the operator sets {found}, not {opset}; choose another --opset")
    _forget_machine(model)
    # the oldest form that has these operators, so that the runtimes of an older operator set read the file
    model.ir_version = onnx.helper.find_min_ir_version_for(list(model.opset_import))
    return model


def _output_names(program: Any, job: Job) -> list[str]:
    """Return the names of the outputs: those of a dict, else by what a single one is."""
    import torch

    (entry,) = program.example_inputs[0]
    with torch.inference_mode():
        found = named(program.module()(entry))
    return list(found) if len(found) > 1 else [OUTPUTS[job.settings.get("head", "logits")]]


def _error(program: Any, model: Any, x: NDArray[np.float32]) -> float:
    """Return the worst max|Δ| / RMS of what the file answers, in ONNX Runtime without its optimizer."""
    import torch

    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    run = program.module()
    with torch.inference_mode():
        wanted = joined([named(run(torch.from_numpy(row[None]))) for row in x])
    rows = [session.run(None, {"input": row[None]}) for row in x]
    return max(_apart(one, np.concatenate([row[number] for row in rows])) for number, one in enumerate(wanted.values()))


def _apart(wanted: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Return max|Δ| / RMS of one output."""
    if wanted.shape != found.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - wanted).max() / max(float(np.sqrt(np.square(wanted).mean())), 1e-30))


def _forget_machine(model: Any) -> None:
    """Remove the records of the model and all its parts: stack traces with paths, class names, torch's graph."""
    graph = model.graph
    tensors = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for part in (model, graph, *graph.node, *tensors):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
