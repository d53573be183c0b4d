"""Graphs: what is read off a file, and the parts that are cut from it."""

from pathlib import Path

import numpy as np
import pytest

from nbedge import graph
from nbedge.errors import InputError
from nbedge.runtime import answers, open_file

pytest.importorskip("ai_edge_litert")
EXPORTS = Path(__file__).parent.parent / "sample_models" / "fashion_mnist" / "exports"
FILES = [f"fashion_mnist.{scheme}.{format}" for scheme in ("fp32", "int8") for format in ("onnx", "tflite")]
X = np.random.default_rng(0).normal(size=(3, 1, 28, 28)).astype(np.float32)


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_with_its_ends_and_its_cost(name: str) -> None:
    found = graph.read(EXPORTS / name)
    assert sum(graph.macs(found, operator) for operator in found.operators) == 174_260  # what nbedge inspect says
    assert len(found.inputs) == len(found.outputs) == 1
    assert found.tensors[found.outputs[0]].size == 10
    assert all(tensor.inline for tensor in found.constants())


@pytest.mark.parametrize("name", FILES)
def test_every_operator_reads_what_is_there(name: str) -> None:
    found = graph.read(EXPORTS / name)
    ready = set(found.inputs) | {tensor.name for tensor in found.constants()}
    for operator in found.operators:
        assert set(operator.inputs) - {""} <= ready
        ready |= set(operator.outputs)
    assert set(found.outputs) <= ready


def test_both_formats_hold_the_same_weights() -> None:
    onnx, tflite = (graph.read(EXPORTS / f"fashion_mnist.fp32.{format}") for format in ("onnx", "tflite"))
    wanted = onnx.tensors["classifier.1.weight"].real()
    assert any(t.shape == wanted.shape and np.array_equal(t.real(), wanted) for t in tflite.constants())


def test_an_integer_constant_has_real_values() -> None:
    whole, floats = (graph.read(EXPORTS / f"fashion_mnist.{scheme}.tflite") for scheme in ("int8", "fp32"))
    held = [t for t in whole.constants() if t.dtype == "int8" and len(t.scales) > 1 and len(t.shape) == 4]
    assert held
    for tensor in held:
        near = min(np.abs(f.real() - tensor.real()).max() for f in floats.constants() if f.shape == tensor.shape)
        assert near <= tensor.scales.max() * 0.51


@pytest.mark.parametrize("name", FILES)
def test_a_part_computes_what_the_whole_does(name: str, tmp_path: Path) -> None:
    whole = graph.read(EXPORTS / name)
    out = tmp_path / f"part{Path(name).suffix}"
    graph.cut(whole.path, whole.inputs, whole.outputs, out)
    wanted, found = (next(iter(answers(open_file(path), X).values())) for path in (whole.path, out))
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize("name", FILES)
def test_two_parts_make_the_whole(name: str, tmp_path: Path) -> None:
    whole, suffix = graph.read(EXPORTS / name), Path(name).suffix
    heavy = [o for o in whole.operators if graph.macs(whole, o)]
    middle = whole.operators[whole.operators.index(heavy[0]) + (1 if suffix == ".onnx" else 0)].outputs[0]
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    graph.cut(whole.path, whole.inputs, [middle], first)
    graph.cut(whole.path, [middle], whole.outputs, second)
    assert len(graph.read(first).operators) + len(graph.read(second).operators) <= len(whole.operators)
    between = next(iter(answers(open_file(first), X).values()))
    found = next(iter(answers(open_file(second), between).values()))
    wanted = next(iter(answers(open_file(whole.path), X).values()))
    step = whole.tensors[whole.outputs[0]].scales
    assert np.abs(found - wanted).max() <= (2 * step.max() if len(step) else 1e-4)


@pytest.mark.parametrize("name", FILES[:2])
def test_a_part_without_what_it_needs_is_refused(name: str, tmp_path: Path) -> None:
    whole = graph.read(EXPORTS / name)
    heavy = [o for o in whole.operators if graph.macs(whole, o)]
    with pytest.raises(InputError):
        graph.cut(whole.path, [heavy[-1].outputs[0]], [heavy[2].outputs[0]], tmp_path / f"part{Path(name).suffix}")
    with pytest.raises(InputError):
        graph.cut(whole.path, whole.inputs, ["lunch"], tmp_path / f"part{Path(name).suffix}")
    assert not list(tmp_path.iterdir())


def test_other_files_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.pt2").write_bytes(b"")
    with pytest.raises(InputError, match=r"the graph of \.pt2 files is not read"):
        graph.read(tmp_path / "a.pt2")
    (tmp_path / "a.tflite").write_bytes(b"no flatbuffer at all")
    with pytest.raises(InputError, match="no TFLite file, or damaged"):
        graph.read(tmp_path / "a.tflite")
    (tmp_path / "a.onnx").write_bytes(b"no protobuf at all")
    with pytest.raises(InputError, match="no ONNX file, or damaged"):
        graph.read(tmp_path / "a.onnx")
