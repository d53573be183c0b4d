"""Anything against anything: `nbedge verify` on pairs that nbedge has not made, by the files' own signatures."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from nbedge.cli.verify import command
from nbedge.errors import InputError
from nbedge.runtime import answers, of_module, open_file, record

pytest.importorskip("ai_edge_litert")
pytestmark = pytest.mark.group("pairs")

NETWORKS = Path(__file__).with_name("networks.py")
SHAPES = {"heads": (3, 16, 16), "flat": (640,), "speech": (1, 49, 10), "sequence": (10, 49), "wide": (12, 6, 6)}
SAMPLE = Path(__file__).parent.parent / "sample_models" / "fashion_mnist"
FORMS = (".pt2", "-open.pt2", "-1.onnx", "-4.onnx", "-open.onnx", "-1.tflite", "-4.tflite")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with every network in every format."""
    folder = tmp_path_factory.mktemp("networks")
    done = subprocess.run([sys.executable, NETWORKS, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def judged(*words: object, status: int = 0) -> list[dict[str, Any]]:
    """Return the edges that the command prints, which ends with `status`; what it refuses is raised."""
    done = CliRunner().invoke(command, [*map(str, words), "--json"])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == status, done.output
    edges: list[dict[str, Any]] = json.loads(done.stdout)["edges"]
    return edges


def failed(edges: list[dict[str, Any]]) -> list[str]:
    return [check["name"] for edge in edges for check in edge["checks"] if check["verdict"] == "FAIL"]


def module(name: str) -> tuple[str, ...]:
    return f"{NETWORKS}:{name}", "--input", "x".join(map(str, SHAPES[name]))


def edited(source: Path, path: Path, change: Callable[[Any], None]) -> Path:
    """Write an ONNX file after `change(graph)`."""
    import onnx

    model = onnx.load(source)
    change(model.graph)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("form", FORMS)
def test_a_module_equals_each_of_its_files(here: Path, name: str, form: str) -> None:
    kernels = {edge["kernels"] for edge in judged(*module(name), here / f"{name}{form}")} - {"lint"}
    assert kernels == {"xnnpack", "reference"} if form.endswith("tflite") else len(kernels) == 1


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(
    ("reference", "candidate"),
    [("-4.tflite", ".pt2"), ("-1.tflite", "-open.onnx"), ("-4.onnx", "-1.tflite"), ("-open.pt2", "-4.tflite")],
)
def test_files_equal_each_other_whatever_their_layout_and_batch(
    here: Path, name: str, reference: str, candidate: str
) -> None:
    judged(here / f"{name}{reference}", here / f"{name}{candidate}")


@pytest.mark.parametrize("name", SHAPES)
def test_answers_that_were_written_down_are_a_reference(here: Path, tmp_path: Path, name: str) -> None:
    x = np.random.default_rng(0).normal(size=(6, *SHAPES[name])).astype(np.float32)
    record(tmp_path / "right.npz", x, answers(open_file(here / f"{name}-4.onnx"), x))
    for form in FORMS:
        judged(tmp_path / "right.npz", here / f"{name}{form}")
    wrong = {key: y + 0.01 for key, y in answers(open_file(here / f"{name}.pt2"), x).items()}
    record(tmp_path / "wrong.npz", x, wrong)
    assert failed(judged(tmp_path / "wrong.npz", here / f"{name}.pt2", status=1))


def channels_last(graph: Any) -> None:
    """Make the input of a graph (n, h, w, c)."""
    from onnx import helper

    entry = graph.input[0]
    n, c, h, w = (size.dim_value for size in entry.type.tensor_type.shape.dim)
    kind = entry.type.tensor_type.elem_type
    inner, entry.name = entry.name, "last"
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info("last", kind, [n, h, w, c]))
    graph.node.insert(0, helper.make_node("Transpose", ["last"], [inner], perm=[0, 3, 1, 2]))


@pytest.mark.parametrize("name", ["heads", "speech", "wide"])
@pytest.mark.parametrize("turned", [False, True])
def test_an_onnx_file_may_have_its_channels_last(here: Path, tmp_path: Path, name: str, turned: bool) -> None:
    path = edited(here / f"{name}-1.onnx", tmp_path / "last.onnx", channels_last)
    for other in (".pt2", "-open.onnx", "-4.tflite"):
        pair = [here / f"{name}{other}", path]
        judged(*(pair[::-1] if turned else pair))


def test_a_size_that_a_file_leaves_open_is_that_of_the_other(here: Path, tmp_path: Path) -> None:
    def opened(graph: Any) -> None:
        for place, size in enumerate(graph.input[0].type.tensor_type.shape.dim):
            if place != 1:
                size.dim_param = f"size{place}"
                graph.output[0].type.tensor_type.shape.dim[place].dim_param = f"size{place}"

    block = edited(_convolution(tmp_path / "fixed.onnx"), tmp_path / "open.onnx", opened)
    judged(block, tmp_path / "fixed.onnx")
    judged(tmp_path / "fixed.onnx", block)
    judged(block, block, "--input", "3x9x9")
    with pytest.raises(InputError, match="take inputs of any size; pass --input"):
        judged(block, block)


def _convolution(path: Path) -> Path:
    from onnx import TensorProto, helper, save

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3, 8, 8]) for name in ("x", "y")]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [3, 3, 1, 1], [1, 2, 3, 4, 5, 6, 7, 8, 9])
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weight])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def permuted(graph: Any) -> None:
    outputs = list(graph.output)[::-1]
    del graph.output[:]
    graph.output.extend(outputs)


def called(*names: str) -> Callable[[Any], None]:
    """Return what gives the outputs of a graph other names, in their order."""

    def change(graph: Any) -> None:
        from onnx import helper

        for output, name in zip(graph.output, names, strict=True):
            graph.node.append(helper.make_node("Identity", [output.name], [name]))
            output.name = name

    return change


def both(*changes: Callable[[Any], None]) -> Callable[[Any], None]:
    def change(graph: Any) -> None:
        for each in changes:
            each(graph)

    return change


@pytest.mark.parametrize(
    "change", [permuted, called("a", "b"), both(permuted, called("a", "b"))], ids=["order", "names", "both"]
)
@pytest.mark.parametrize("other", [".pt2", "-1.onnx", "-1.tflite"])
def test_outputs_are_told_by_name_and_by_their_sizes(
    here: Path, tmp_path: Path, change: Callable[[Any], None], other: str
) -> None:
    path = edited(here / "heads-1.onnx", tmp_path / "changed.onnx", change)
    judged(path, here / f"heads{other}")
    judged(here / f"heads{other}", path)


@pytest.mark.parametrize("wrong", ["map", "scores"])
@pytest.mark.parametrize("reference", [".pt2", "-4.tflite"])
def test_the_output_that_is_wrong_is_named(here: Path, tmp_path: Path, wrong: str, reference: str) -> None:
    def shifted(graph: Any) -> None:
        from onnx import numpy_helper

        bias = next(value for value in graph.initializer if value.name == f"{wrong}.bias")
        values = numpy_helper.to_array(bias).copy()
        values[0] += 0.01
        bias.CopyFrom(numpy_helper.from_array(values, bias.name))

    edges = judged(here / f"heads{reference}", edited(here / "heads-1.onnx", tmp_path / "x.onnx", shifted), status=1)
    named = wrong if reference == ".pt2" else {"map": "output_0", "scores": "output_1"}[wrong]
    assert set(failed(edges)) == {f"float error, {family}, {named}" for family in ("noise", "extreme")}


def test_another_number_of_outputs_is_refused(here: Path, tmp_path: Path) -> None:
    path = edited(here / "heads-1.onnx", tmp_path / "one.onnx", lambda graph: graph.output.pop())
    with pytest.raises(InputError, match=r"2 outputs \(map, scores\), the candidate 1"):
        judged(here / "heads.pt2", path)


def test_inputs_of_other_sizes_are_refused(here: Path) -> None:
    with pytest.raises(InputError, match=r"takes \(640,\), speech-1.onnx takes \(1, 49, 10\): they cannot be compared"):
        judged(here / "flat.pt2", here / "speech-1.onnx")


@pytest.mark.parametrize(("name", "status"), [("merged", 0), ("spoiled", 1)])
def test_a_merge_by_somebody_else_is_judged_by_its_answers(name: str, status: int) -> None:
    pair = (f"{NETWORKS}:branches", f"{NETWORKS}:{name}", "--input", "3x8x8")
    assert bool(failed(judged(*pair, status=status))) == bool(status)


def prepared(path: Path, **arrays: np.ndarray[Any, Any]) -> str:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return f"npz:{path}"


def test_inputs_of_ones_own_are_the_real_ones(here: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(3, 5, (7, 640))
    edges = judged(here / "flat.pt2", here / "flat-1.tflite", "--data", prepared(tmp_path / "x.npz", inputs=x))
    details = {check["name"]: check["detail"] for check in edges[-1]["checks"]}
    assert details["float error, real"] == "7 real inputs"
    judged(here / "flat.pt2", here / "flat-4.onnx", "--data", prepared(tmp_path / "x.npz", inputs=x), "--pictures", 3)


def test_labels_of_ones_own_judge_the_accuracy_of_an_integer_file(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(40, 1, 28, 28)).astype(np.float32)
    said = answers(open_file(SAMPLE / "exports" / "fashion_mnist.fp32.onnx"), x)["logits"].argmax(1)
    data = prepared(tmp_path / "x.npz", inputs=x, labels=said)
    pair = (SAMPLE / "chosen.safetensors", SAMPLE / "exports" / "fashion_mnist.int8.onnx")
    done = CliRunner().invoke(command, [*map(str, pair), "--data", data, "--json"])
    found = {check["name"]: check for edge in json.loads(done.stdout)["edges"] for check in edge["checks"]}
    assert found["accuracy loss"]["detail"].startswith("100.00 % -> ")


@pytest.mark.parametrize("name", ["dynamic.tflite", "dynamic.onnx", "float-io.tflite"])
def test_a_file_that_claims_nothing_is_judged_by_what_its_weights_are(here: Path, tmp_path: Path, name: str) -> None:
    x = np.random.default_rng(1).normal(size=(50, 640)).astype(np.float32)
    pair = (here / "flat.pt2", here / f"flat-{name}")
    edges = judged(*pair, "--data", prepared(tmp_path / "x.npz", inputs=x))
    assert all("SQNR, real" in names(edge) for edge in edges if edge["kernels"] != "lint")
    assert "real inputs" in names(judged(*pair, status=1)[-1])  # NOT CHECKED without them


X = np.zeros((5, 640), np.float32)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"inputs": X[:, :639]}, r"inputs is float32 \(5, 639\); give .* of shape \(n, 640\)"),
        ({"inputs": X[:0]}, r"inputs is float32 \(0, 640\)"),
        ({"inputs": X.astype(np.uint8)}, r"inputs is uint8 \(5, 640\); give preprocessed inputs, floating point"),
        ({"inputs": np.where(np.arange(5)[:, None] == 3, np.nan, X)}, "1 of 5 inputs hold NaN or infinity; input 3"),
        ({"inputs": X, "labels": np.zeros(4, int)}, r"labels is int64 \(4,\); give whole numbers of shape \(5,\)"),
        ({"inputs": X, "labels": np.zeros(5)}, r"labels is float64 \(5,\)"),
    ],
)
def test_inputs_that_cannot_be_used_are_refused(
    here: Path, tmp_path: Path, arrays: dict[str, np.ndarray[Any, Any]], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        judged(here / "flat.pt2", here / "flat-1.onnx", "--data", prepared(tmp_path / "x.npz", **arrays))


def test_integer_files_of_other_kernels_agree_within_their_rounding_and_the_same_kernels_exactly() -> None:
    lite, onnx = (SAMPLE / "exports" / f"fashion_mnist.int8.{suffix}" for suffix in ("tflite", "onnx"))
    data = ("--data", f"npz:{SAMPLE / 'data.npz'}", "--pictures", 100)
    for pair in ((lite, onnx), (onnx, lite)):
        run = [names(edge) for edge in judged(*pair, *data) if edge["kernels"] != "lint"]
        assert all(found & {"SQNR, real", "steps apart"} for found in run)
    edges = {edge["kernels"]: names(edge) for edge in judged(lite, lite, *data, "--kernels", "xnnpack,reference")}
    assert "float error, real" in edges["xnnpack"]
    assert "SQNR, real" in edges["reference"]
    assert "real inputs" in names(judged(lite, onnx, status=1)[-1])  # NOT CHECKED without them


def names(edge: dict[str, Any]) -> set[str]:
    return {check["name"] for check in edge["checks"]}


def test_a_module_of_named_outputs_keeps_the_names() -> None:
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("networks", NETWORKS)
    assert spec
    assert spec.loader
    networks = module_from_spec(spec)
    spec.loader.exec_module(networks)
    found = answers(of_module(networks.heads(), (3, 16, 16)), torch.zeros(2, 3, 16, 16).numpy())
    assert {name: y.shape for name, y in found.items()} == {"map": (2, 6, 8, 8), "scores": (2, 5)}
