"""Runners of torch: modules, and programs of `torch.export`."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge.artifact import TensorSpec
from nbedge.errors import InputError, first_line, needs
from nbedge.evaluation import named
from nbedge.runtime.runner import Arrays, Runner, layout

#: name of the input of a module
INPUT = "input"


def of_module(model: Any, shape: tuple[int, ...], dtype: str = "float32") -> Runner:
    """Run a torch module in eval mode, at full precision: "input" (n, *shape) float32 -> its outputs by name.

    One tensor is called "output", those of a tuple "output0", "output1", ...; a dict keeps its keys.

    Raises:
        InputError: the module gives anything else.
    """
    import torch

    from nbedge.tracing import evaluating

    like = next(model.parameters(), torch.empty(0))

    def run(arrays: Arrays) -> Arrays:
        with evaluating(model), torch.inference_mode():
            return named(model(torch.from_numpy(arrays[INPUT]).to(like)))

    found = run({INPUT: np.zeros((1, *shape), np.float32)})
    outputs = tuple(_spec(name, value) for name, value in found.items())
    return Runner((TensorSpec(INPUT, (0, *shape), dtype, layout((0, *shape), "NCHW")),), outputs, "torch", run)


def _spec(name: str, value: NDArray[Any]) -> TensorSpec:
    shape = (0, *value.shape[1:])
    return TensorSpec(name, shape, "float32", "NCHW" if len(shape) == 4 else layout(shape, "NCHW"))


def of_program(path: Path) -> Runner:
    """Run a program that `torch.export.save` wrote (.pt2).

    Raises:
        InputError: it cannot be read.
    """
    with needs("train"):
        import torch
    try:
        program = torch.export.load(path)
        module = program.module()
    except Exception as error:  # a bad archive raises whatever its parts raise
        reason = first_line(error)
        raise InputError(f"torch.export cannot load {path}: {reason}; write it again with torch.export.save") from error
    users = {spec.arg.name for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"}
    entries = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in users]
    names = [INPUT] if len(entries) == 1 else [f"{INPUT}{index}" for index in range(len(entries))]
    inputs = tuple(_program_spec(name, value) for name, value in zip(names, entries, strict=True))

    def run(arrays: Arrays) -> Arrays:
        with torch.inference_mode():
            given = (torch.from_numpy(arrays[name]).to(value.dtype) for name, value in zip(names, entries, strict=True))
            return named(module(*given))

    sample = run({spec.name: np.zeros([size or 2 for size in spec.shape], spec.dtype) for spec in inputs})
    fixed = inputs[0].shape[0] if inputs else 1
    outputs = tuple(
        TensorSpec(s.name, (fixed, *s.shape[1:]), s.dtype, s.layout) for s in map(_spec, sample, sample.values())
    )
    return Runner(inputs, outputs, "torch", run)


def _program_spec(name: str, value: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else 0 for size in value.shape)
    return TensorSpec(name, shape, str(value.dtype).removeprefix("torch."), layout(shape, "NCHW"))
