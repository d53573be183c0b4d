"""Where two models part: the layer that was damaged is the one that is named, and a bundle repeats it."""

import copy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from nbedge.cli.subject import open_subject
from nbedge.data import load
from nbedge.localization import localize, locate, write_bundle
from nbedge.localization.matching import matched
from nbedge.localization.values import Value
from nbedge.subject import Subject
from nbedge.verification import Verdict, verify_edges

pytest.importorskip("ai_edge_litert")
SAMPLES = Path(__file__).parent.parent / "sample_models"
FASHION = SAMPLES / "fashion_mnist"
DATA = {"fashion_mnist": f"npz:{FASHION / 'data.npz'}", "blood_cells": f"folder:{SAMPLES / 'blood_cells' / 'data'}"}


def subject(sample: str, name: str) -> Subject:
    return open_subject(str(SAMPLES / sample / name))


def pictures(sample: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    about = subject(sample, "contracted.safetensors")
    return about.prepared()(load(DATA[sample], about.pictured()).validation.images[:8])


X = pictures("fashion_mnist")


@pytest.mark.parametrize("sample", sorted(DATA))
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("linearized.safetensors", "contracted.safetensors"),
        ("chosen.safetensors", "fp32.onnx"),
        ("fp32.onnx", "fp32.tflite"),
        ("fp32.onnx", "int8.onnx"),
        ("fp32.tflite", "int8.tflite"),
        ("chosen.safetensors", "int8.tflite"),
    ],
)
def test_nothing_is_wrong_with_the_shipped_files(sample: str, before: str, after: str) -> None:
    names = [n if n.endswith("safetensors") else f"exports/{sample}.{n}" for n in (before, after)]
    said = localize(subject(sample, names[0]), subject(sample, names[1]), pictures(sample))
    assert said.first_bad is None
    assert len(said.layers) > 20


def changed(tmp_path: Path, name: str, change: Callable[[Any], str]) -> tuple[Subject, str]:
    """Return a copy of a file after `change(model)`, and the name of the tensor that goes wrong first."""
    source = FASHION / "exports" / f"fashion_mnist.{name}"
    path = tmp_path / f"changed{source.suffix}"
    if source.suffix == ".onnx":
        import onnx

        model = onnx.load(source)
        wrong = change(model)
        onnx.save(model, path)
    else:
        from ai_edge_litert.tools import flatbuffer_utils

        model = flatbuffer_utils.read_model(str(source))
        wrong = change(model)
        flatbuffer_utils.write_model(model, str(path))
    scheme = name.split(".")[0]
    return replace(open_subject(str(path)), scheme=scheme, path=path), wrong


def onnx_convolution(model: Any, number: int) -> tuple[Any, Any]:
    node = [node for node in model.graph.node if node.op_type == "Conv"][number]
    return node, next(value for value in model.graph.initializer if value.name == node.input[1])


def scaled_onnx(model: Any) -> str:
    from onnx import numpy_helper

    node, weight = onnx_convolution(model, 9)
    array = numpy_helper.to_array(weight).copy()
    array[1] *= 1.5
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    return str(node.output[0])


def without_bias_onnx(model: Any) -> str:
    from onnx import numpy_helper

    node, _ = onnx_convolution(model, 5)
    bias = next(value for value in model.graph.initializer if value.name == node.input[2])
    bias.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(bias)), bias.name))
    return str(node.output[0])


def tflite_convolution(model: Any, number: int) -> Any:
    held = model.subgraphs[0]
    return [o for o in held.operators if model.operatorCodes[o.opcodeIndex].builtinCode == 3][number]


def swapped_tflite(model: Any) -> str:
    operator, held = tflite_convolution(model, 6), model.subgraphs[0]
    weight = held.tensors[operator.inputs[1]]
    rows = model.buffers[weight.buffer].data.reshape(weight.shape[0], -1)
    rows[[0, 1]] = rows[[1, 0]]
    return str(held.tensors[operator.outputs[0]].name.decode())


def scale_tflite(model: Any) -> str:
    operator, held = tflite_convolution(model, 7), model.subgraphs[0]
    tensor = held.tensors[operator.outputs[0]]
    tensor.quantization.scale = tensor.quantization.scale * np.float32(32)
    return str(tensor.name.decode())


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        ("fp32.onnx", "fp32.onnx", scaled_onnx),
        ("fp32.onnx", "fp32.onnx", without_bias_onnx),
        ("fp32.onnx", "fp32.tflite", swapped_tflite),
        ("fp32.tflite", "int8.tflite", swapped_tflite),
        ("fp32.onnx", "int8.tflite", swapped_tflite),
        ("fp32.tflite", "int8.tflite", scale_tflite),
    ],
)
def test_the_damaged_layer_is_named(tmp_path: Path, before: str, after: str, change: Callable[[Any], str]) -> None:
    candidate, wrong = changed(tmp_path, after, change)
    said = localize(subject("fashion_mnist", f"exports/fashion_mnist.{before}"), candidate, X)
    assert said.first_bad is not None
    assert said.first_bad.candidate == wrong
    assert said.worst(3)[0].sqnr_db <= said.first_bad.sqnr_db


@pytest.mark.parametrize("layer", ["features.0.0", "features.3.conv.1.0", "classifier.1"])
def test_the_damaged_module_is_named(layer: str) -> None:
    before = subject("fashion_mnist", "contracted.safetensors")
    assert isinstance(before.model, nn.Module)
    other = copy.deepcopy(before.model)
    other.get_submodule(layer).get_parameter("weight").data *= 1.1
    said = localize(before, replace(before, model=other), X)
    assert said.first_bad is not None
    assert said.first_bad.label == layer


def test_the_damaged_site_of_a_merge_is_named() -> None:
    giant, tiny = (subject("fashion_mnist", f"{name}.safetensors") for name in ("linearized", "contracted"))
    assert isinstance(tiny.model, nn.Module)
    tiny.model.get_submodule("features.4.conv.0.0").get_parameter("weight").data[0] += 0.1
    said = localize(giant, tiny, X)
    assert said.first_bad is not None
    assert said.first_bad.label == "features.4.conv.0.1"  # the BatchNorm that reads the site


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        ("fp32.onnx", "fp32.onnx", scaled_onnx),
        ("fp32.onnx", "fp32.tflite", swapped_tflite),
        ("fp32.tflite", "int8.tflite", swapped_tflite),
    ],
)
def test_a_bundle_repeats_the_failure(tmp_path: Path, before: str, after: str, change: Callable[[Any], str]) -> None:
    reference = subject("fashion_mnist", f"exports/fashion_mnist.{before}")
    candidate, wrong = changed(tmp_path, after, change)
    edge = next(iter(verify_edges(reference, candidate, {"real": X}, limits=None)))
    folder = write_bundle(tmp_path / "bundle", locate(edge, reference, candidate, {"real": X}))
    text = (folder / "README.txt").read_text()
    assert wrong in text
    command = text.strip().splitlines()[-1].split()
    assert command[:3] == ["nbedge", "verify", "expected.npz"]
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert str(Verdict.FAIL) in done.stdout
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000


def test_a_fault_that_only_extreme_inputs_show_is_named(tmp_path: Path) -> None:
    def scaled_ceiling(model: Any) -> str:
        from onnx import numpy_helper

        node = next(node for node in model.graph.node if node.op_type == "Clip")
        model.graph.initializer.append(numpy_helper.from_array(np.float32(30), "higher"))
        node.input[2] = "higher"
        return str(node.output[0])

    reference = subject("fashion_mnist", "exports/fashion_mnist.fp32.onnx")
    candidate, wrong = changed(tmp_path, "fp32.onnx", scaled_ceiling)
    given = {"real": X * 0.1, "extreme": X * 10}
    edge = next(iter(verify_edges(reference, candidate, given)))
    assert not edge
    assert localize(reference, candidate, given["real"]).first_bad is None
    first = locate(edge, reference, candidate, given).localization.first_bad
    assert first is not None
    assert first.candidate == wrong


def value(name: str, real: Any, *inputs: str) -> Value:
    return Value(name, name, "Relu", inputs, np.asarray(real, np.float32))


def test_values_are_aligned_by_likeness_and_order() -> None:
    rng = np.random.default_rng(0)
    a, b, c = (rng.normal(size=(4, 3, 5, 5)) for _ in range(3))
    pairs = matched([value("a", a), value("b", b), value("c", c)], [value("1", a), value("2", b + 3), value("3", -c)])
    assert [(p.reference.name, p.candidate.name) for p in pairs] == [("a", "1"), ("b", "2"), ("c", "3")]


def test_branches_in_another_order_are_told_by_their_numbers() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(4, 3, 5, 5)) for _ in range(2))
    pairs = matched([value("a", a), value("b", b)], [value("1", b), value("2", a)])
    assert [(p.reference.name, p.candidate.name) for p in pairs] == [("b", "1"), ("a", "2")]
