"""How often localization names the layer that was damaged: every layer of the samples' files, one at a time.

python benchmarks/localization.py
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from faults.files import FileFault, exported, first_bad, made
from nbedge.cli.subject import open_subject
from nbedge.data import load
from nbedge.graph import KINDS, read
from nbedge.localization import locate
from nbedge.verification import families, verify_edges

SAMPLES = Path(__file__).parent.parent / "sample_models"
DATA = {"fashion_mnist": "npz:{}/data.npz", "blood_cells": "folder:{}/data"}
PAIRS = (
    ("fp32.onnx", "fp32.onnx"), ("fp32.onnx", "fp32.tflite"), ("fp32.onnx", "int8.onnx"),
    ("fp32.tflite", "int8.tflite"), ("fp32.onnx", "int8.tflite"),
)  # fmt: skip
PICTURES = 60


def _halved(weight: Any) -> Any:
    """Return weights of which every second output channel is half as large."""
    weight = weight.copy()
    weight[::2] = weight[::2] // 2 if weight.dtype.kind in "iu" else weight[::2] / 2
    return weight


def _damage(candidate: str, name: str) -> Callable[[Any], None]:
    """Return what halves the weights called `name` in a model read from a file."""

    def onnx(model: Any) -> None:
        from onnx import numpy_helper

        held = next(value for value in model.graph.initializer if value.name == name)
        held.CopyFrom(numpy_helper.from_array(_halved(numpy_helper.to_array(held)), name))

    def tflite(model: Any) -> None:
        tensor = next(t for t in model.subgraphs[0].tensors if t.name.decode() == name)
        buffer = model.buffers[tensor.buffer]
        stored = np.asarray(buffer.data).view(np.float32 if tensor.type == 0 else np.int8).reshape(tensor.shape)
        # a depthwise layer has its channels last
        turned = np.moveaxis(stored, -1, 0) if tensor.shape[0] == 1 else stored
        damaged = _halved(turned)
        buffer.data = np.ascontiguousarray(
            np.moveaxis(damaged, 0, -1) if tensor.shape[0] == 1 else damaged
        ).view(np.uint8).reshape(-1)  # fmt: skip

    return onnx if candidate.endswith("onnx") else tflite


def faults(sample: str, reference: str, candidate: str) -> Iterator[FileFault]:
    """Yield one fault for each layer with weights of a file."""
    graph, counted = read(exported(sample, candidate)), dict.fromkeys(KINDS, 0)
    for operator in graph.operators:
        if operator.kind not in KINDS:
            continue
        stored = graph.stored(operator.inputs[1])
        if stored is not None:
            place = (operator.kind, counted[operator.kind])
            yield FileFault(stored.name, "", reference, candidate, _damage(candidate, stored.name), layer=place)
        counted[operator.kind] += 1


def main() -> None:
    """Print, for each pair of files, how many damaged layers failed, and how many of these were named."""
    for sample, data in DATA.items():
        known = open_subject(str(exported(sample, "fp32.onnx")))
        held = load(data.format(SAMPLES / sample), known.pictured()).validation
        given = families(known.shape, known.preprocessing, known.prepared()(held.spread(PICTURES).images[:]))
        for reference, candidate in PAIRS:
            failed = named = layers = 0
            for fault in faults(sample, reference, candidate):
                with tempfile.TemporaryDirectory() as folder:
                    before, after = made(fault, sample, Path(folder))
                    assert after.path is not None
                    layers += 1
                    edge = next((edge for edge in verify_edges(before, after, given) if not edge), None)
                    if edge is None:
                        continue
                    failed += 1
                    first = locate(edge, before, after, given).localization.first_bad
                    wanted = first_bad(fault, after.path)
                    right = first is not None and first.candidate == wanted
                    named += right
                    if not right:
                        print(f"  {fault.name}: {first.candidate if first else None} instead of {wanted}")
            print(f"{sample} {reference} -> {candidate}: {layers} layers, {failed} fail, {named} named", flush=True)


if __name__ == "__main__":
    main()
