"""The keys of [export] in a recipe: what a run leaves is what they ask for, and it is judged rightly."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbedge import artifact
from nbedge.environments import ENVIRONMENTS

pytest.importorskip("onnxruntime")
ROOT = Path(__file__).parents[1]
DATA = ROOT / "sample_models" / "fashion_mnist" / "data.npz"
RECIPE = """
name = "small"
threads = 1
[model]
reference = "sample:mobilenet_v2_tiny"
input = [1, 28, 28]
arguments = {{ width_mult = 0.25 }}
[data]
source = "npz:DATA"
validation = 0.5
calibration = 50
[train]
giant_epochs = 1
plt_epochs = 1
batch_size = 64
learning_rate = 0.2
[gate]
lead = -100
plt_loss = 100
{}
[limits]
flips = 100.0
sqnr_db = 5.0
accuracy_loss = 100.0
"""
EXPORT = """[export]
formats = ["onnx"]
quant = ["fp32", "int8"]
opset = "21"
batch = "dynamic"
method = "percentile"
operators = "qoperator"
target = ["arm"]
input_type = "uint8-image"
head = "softmax"
budget = 0.0
rungs = ["bias-correction"]
"""
#: of the same run, resumed
LITERT = """[export]
formats = ["tflite"]
quant = ["fp32"]
backend = ["litert"]
input_type = "uint8-image"
head = "softmax"
"""


@pytest.fixture(autouse=True)
def made_by_make_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(ROOT / ".venv-environments"))


def run(folder: Path, export: str, *more: str) -> Path:
    (folder / "recipe.toml").write_text(RECIPE.format(export).replace("DATA", str(DATA)))
    command = [sys.executable, "-m", "nbedge", "run", "recipe.toml", "--out", "run", "--until", "evaluate", *more]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("run"), EXPORT)


def rows(folder: Path) -> dict[str, Any]:
    """Return what a run found of each model and file, "chosen" for the model that was exported."""
    chosen = json.loads((folder / "choice.json").read_text())["chosen"]
    found = {row["name"]: row for row in json.loads((folder / "evaluation.json").read_text())["rows"]}
    return {**found, "chosen": found[chosen]}


def pixels() -> tuple[Any, Any]:
    with np.load(DATA) as data:
        return data["test_images"].reshape(-1, 1, 28, 28), data["test_labels"]


@pytest.mark.group("path")
def test_the_files_of_a_run_are_what_the_recipe_asks_for(finished: Path) -> None:
    import onnx

    for scheme in ("fp32", "int8"):
        path = finished / "exports" / f"small.{scheme}.onnx"
        about, model = artifact.read(path), onnx.load(path)
        assert (about.inputs[0].shape, about.inputs[0].dtype) == ((0, 1, 28, 28), "uint8")
        assert (about.head, about.prepared().takes_pixels) == ("softmax", True)
        assert [entry.version for entry in model.opset_import if not entry.domain] == [21]
        assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert "QLinearConv" in {node.op_type for node in model.graph.node}  # operators
    steps = {tensor.data_type for tensor in model.graph.initializer if tensor.name.endswith("_zero_point")}
    assert model.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.INT8  # target arm
    assert onnx.TensorProto.INT8 in steps
    first = about.ladder["attempts"][0]
    climbed = ["bias-correction"] if first["loss"] > 0 else []
    assert [attempt["rung"] for attempt in about.ladder["attempts"]] == ["per-channel", *climbed]
    assert about.ladder["budget"] == 0


@pytest.mark.group("path")
def test_a_run_judges_files_of_pixels_rightly(finished: Path) -> None:
    import onnxruntime

    found, (x, labels) = rows(finished), pixels()
    for scheme, most in (("fp32", 0.0005), ("int8", 0.02)):
        name = f"small.{scheme}.onnx"
        session = onnxruntime.InferenceSession(finished / "exports" / name)
        y = session.run(None, {session.get_inputs()[0].name: x})[0]
        assert found[name]["top1"] == pytest.approx(np.mean(y.argmax(1) == labels), abs=2e-3)
        assert found[name]["top1"] == pytest.approx(found["chosen"]["top1"], abs=most)
    assert found["chosen"]["top1"] > 0.2


@pytest.mark.group("path")
def test_a_run_that_is_resumed_with_another_backend_makes_its_files(finished: Path) -> None:
    if not ENVIRONMENTS["litert"].ready:
        pytest.skip("make setup-environments")
    run(finished.parent, LITERT, "--resume")
    about, found = artifact.read(finished / "exports" / "small.fp32.tflite"), rows(finished)
    assert "litert-torch" in about.tools
    assert (about.inputs[0].dtype, about.head) == ("uint8", "softmax")
    assert found["small.fp32.tflite"]["flips"] == 0
    assert found["small.fp32.tflite"]["top1"] == found["chosen"]["top1"]
