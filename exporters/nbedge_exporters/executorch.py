"""ExecuTorch (.pte) in float32 and int8, by torch's own quantizer, delegated to XNNPACK; straight from torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nbedge.artifact import TensorSpec
from nbedge.errors import ExportError, needs
from nbedge.exporter import Job
from nbedge.runtime import Arrays, Runner, layout, of_program, open_where_installed, unreadable

EXTRA = "executorch"
#: the method of a program that is written and run
FORWARD = "forward"
#: a method that gives the names of several outputs, as JSON: a program numbers them
NAMES = "output_names"
#: operators that multiply and accumulate, as ExecuTorch calls them: all must be XNNPACK's
COMPUTING = ("aten.convolution", "aten.linear", "aten.addmm", "aten.mm", "aten.bmm", "aten.matmul")
#: torch's number of a type -> numpy name
DTYPES = {0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 6: "float32", 7: "float64", 11: "bool"}


@dataclass(frozen=True, slots=True)
class ExecuTorchExporter:
    """Writes ExecuTorch files from a `torch.export` program."""

    consumes: str = "torch"
    produces: str = "pte"
    source: str = "fp32"
    schemes: frozenset[str] = frozenset({"fp32", "int8-float-io"})
    backend: str = "executorch"
    options: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {"method": ("minmax",), "input": ("float32",), "head": ("logits", "softmax")}
    )
    needs: Mapping[str, str] = field(default_factory=dict)
    extra: str = EXTRA
    packages: tuple[str, ...] = ("torch", "executorch", "torchao")
    imports: tuple[str, ...] = ("torch", "executorch.exir", "torchao")

    def convert(self, job: Job) -> None:
        """Write the program of `job.source`; the ranges of an integer file are those of all of `job.calibration`."""
        with needs(EXTRA):
            import torch

            from nbedge_exporters.executorch_quantizer import quantized
        program, names = torch.export.load(job.source), [spec.name for spec in of_program(job.source).outputs]
        for scheme, target in job.targets.items():
            made = program if scheme == "fp32" else quantized(program, np.load(job.calibration))
            target.write_bytes(_delegated(made, names))

    def open(self, path: Path) -> Runner:
        """Run a file in ExecuTorch, in its own environment if it is not installed here."""
        return open_where_installed(f"{__name__}:run_file", path, self.packages, self.extra)


exporter = ExecuTorchExporter()


def _delegated(program: Any, names: Sequence[str]) -> bytes:
    """Return the file of a program with these outputs, all that XNNPACK can compute left to it.

    Raises:
        ExportError: it cannot compute an operator that multiplies and accumulates.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    told = {NAMES: json.dumps(names)} if len(names) > 1 else {}
    edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()], constant_methods=told)
    called = (node.target.__name__ for node in edge.exported_program().graph.nodes if node.op == "call_function")
    left = sorted({name for name in called if name.startswith(COMPUTING)})
    if left:
        raise ExportError(f"XNNPACK cannot compute {', '.join(left)} as this network uses it; change these layers")
    return bytes(edge.to_executorch().buffer)


def run_file(path: Path) -> Runner:
    """Run an ExecuTorch file in the interpreter that has ExecuTorch; tensors have the names of a module's.

    Raises:
        InputError: ExecuTorch cannot load it.
        MissingDependencyError: it is not installed.
    """
    with needs(EXTRA):
        import torch
        from executorch.runtime import Runtime
    try:
        program = Runtime.get().load_program(path.read_bytes())
        method = program.load_method(FORWARD)
        names = json.loads(program.load_method(NAMES).execute([])[0]) if NAMES in program.method_names else []
    except (RuntimeError, KeyError, OSError, ValueError, TypeError) as error:
        raise unreadable(path, "ExecuTorch", error) from error
    about = method.metadata
    inputs = _specs("input", [about.input_tensor_meta(i) for i in range(about.num_inputs())])
    outputs = _specs("output", [about.output_tensor_meta(i) for i in range(about.num_outputs())], names)

    def run(arrays: Arrays) -> Arrays:
        given = [torch.from_numpy(arrays[spec.name]) for spec in inputs]
        answers = program.load_method(FORWARD).execute(given)  # the program is held, or its memory would go
        return {spec.name: y.numpy().copy() for spec, y in zip(outputs, answers, strict=True)}

    return Runner(inputs, outputs, "executorch", run)


def _specs(name: str, tensors: list[Any], given: Sequence[str] = ()) -> tuple[TensorSpec, ...]:
    numbered = [name] if len(tensors) == 1 else [f"{name}{place}" for place in range(len(tensors))]
    names = given if len(given) == len(tensors) else numbered
    return tuple(
        TensorSpec(called, tuple(t.sizes()), DTYPES[t.dtype()], layout(tuple(t.sizes()), "NCHW"))
        for called, t in zip(names, tensors, strict=True)
    )
