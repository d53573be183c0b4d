"""Several outputs, and what is no classifier of pictures: detectors, a dense map, spectra of speech."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nbedge.checkpoint import load_checkpoint
from nbedge.conversion import Options, export
from nbedge.data import load
from nbedge.environments import ENVIRONMENTS
from peers.nets import spread

pytest.importorskip("onnx2tf")
ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "sample_models" / "blood_smears"

NETWORKS = """
import torch
from torch import nn


def block(inputs, outputs, stride=1):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class Segmenter(nn.Module):
    \"\"\"A class for each cell of a map, beside the height of what is there.\"\"\"

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(block(3, 8, 2), block(8, 16, 2), block(16, 16))
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.classes, self.height = nn.Conv2d(16, 5, 1), nn.Conv2d(16, 1, 1)

    def forward(self, x):
        x = self.up(self.features(x))
        return {"classes": self.classes(x), "height": self.height(x)}


def segmenter():
    torch.manual_seed(0)
    return Segmenter()


def keywords(num_classes=12):
    \"\"\"The shape of the DS-CNN of MLPerf Tiny: 49 frames of 10 coefficients.\"\"\"
    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(1, 16, (10, 4), 2, (5, 1), bias=False), nn.BatchNorm2d(16), nn.ReLU())
    return nn.Sequential(first, block(16, 16), nn.AvgPool2d((25, 5)), nn.Flatten(), nn.Linear(16, num_classes))
"""


@pytest.fixture(autouse=True)
def made_by_make_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(ROOT / ".venv-environments"))


def call(*words: str, status: int = 0) -> str:
    done = subprocess.run([sys.executable, "-m", "nbedge", *words], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status == 0 else done.stderr


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("networks") / "networks.py"
    path.write_text(NETWORKS)
    return path


def inputs(path: Path, shape: tuple[int, ...], classes: int = 0) -> str:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, *shape)).cumsum(-1).astype(np.float32)
    arrays: dict[str, Any] = {"inputs": x, **({"labels": rng.integers(0, classes, 40)} if classes else {})}
    np.savez(path, **arrays)
    return f"npz:{path}"


@pytest.mark.group("export")
def test_a_dense_map_passes_through_export_and_verify(tmp_path: Path, networks: Path) -> None:
    data, model = inputs(tmp_path / "x.npz", (3, 32, 48)), f"{networks}:segmenter"
    out = tmp_path / "out"
    said = call(
        "export", model, "--input", "3x32x48", "--calib", data, "--out", str(out), "--name", "map", "--json",
        "--quant", "fp32,int8",
    )  # fmt: skip
    assert [file["verification"]["verdict"] for file in json.loads(said)["files"]] == ["PASS"] * 4
    for file in json.loads(said)["files"]:
        assert {spec["name"] for spec in file["outputs"]} == {"classes", "height"}
        assert (file["preprocessing"], file["task"]) == (None, "")
        # nothing says what an answer is: a file whose numbers are right enough is within the budget
        assert len(file["ladder"].get("attempts", [])) <= 1
    files = [str(out / f"map.{name}") for name in ("fp32.onnx", "fp32.tflite", "int8.tflite")]
    judged = json.loads(call("verify", model, *files, "--input", "3x32x48", "--data", data, "--json"))
    names = {check["name"] for edge in judged["edges"] for check in edge["checks"]}
    assert judged["verdict"] == "PASS"
    assert {"float error, real, classes", "SQNR, real, height"} <= names


@pytest.mark.group("export")
def test_spectra_of_speech_pass_through_export_and_verify(tmp_path: Path, networks: Path) -> None:
    data, model = inputs(tmp_path / "x.npz", (1, 49, 10), classes=12), f"{networks}:keywords"
    out = tmp_path / "out"
    call("export", model, "--input", "1x49x10", "--calib", data, "--out", str(out), "--name", "kws")
    files = [str(out / f"kws.{name}") for name in ("fp32.onnx", "int8.onnx", "fp32.tflite", "int8.tflite")]
    judged = json.loads(call("verify", model, *files, "--input", "1x49x10", "--data", data, "--json"))
    names = {check["name"] for edge in judged["edges"] for check in edge["checks"]}
    assert judged["verdict"] == "PASS"
    assert {"answers that differ", "accuracy loss"} <= names
    refused = call("export", model, "--input", "1x49x10", "--calib", data, "--input-type", "uint8-image", status=2)
    assert "that of pictures, and the inputs are none" in refused


@pytest.mark.group("export")
@pytest.mark.parametrize(
    ("options", "environment", "kernels"),
    [
        (
            ("--format", "tflite", "--backend", "onnx2tf,litert", "--quant", "int8"),
            "litert",
            "chosen.int8.tflite of litert",
        ),
        (("--format", "pte", "--quant", "int8-float-io"), "executorch", "chosen.fp32.pte"),
    ],
    ids=["two converters of TFLite agree", "ExecuTorch"],
)
def test_the_outputs_of_a_detector_keep_names_and_answers(
    tmp_path: Path, options: tuple[str, ...], environment: str, kernels: str
) -> None:
    if not ENVIRONMENTS[environment].ready:
        pytest.skip("make setup-environments")
    data = f"coco:{SAMPLE / 'data'}"
    model = str(SAMPLE / "chosen.safetensors")
    out = str(tmp_path / "out")
    said = call(
        "export", model, "--calib", data, "--samples", "16", *options, "--out", out, "--name", "chosen", "--json"
    )
    (file,) = json.loads(said)["files"]
    assert {spec["name"] for spec in file["outputs"]} == {"scores", "boxes"}
    assert kernels in {edge["reference"] for edge in file["verdicts"]}
    assert {edge["verdict"] for edge in file["verdicts"]} == {"PASS"}
    judged = json.loads(call("evaluate", file["path"], "--data", data, "--reference", model, "--json"))["rows"][0]
    assert judged["map"] > 0.35
    assert judged["flips"] < 0.02 * 2 * judged["boxes"]


@pytest.mark.group("export")
def test_the_ladder_recovers_the_precision_of_a_detector(tmp_path: Path) -> None:
    detector, about = load_checkpoint(SAMPLE / "chosen.safetensors")
    splits = load(f"coco:{SAMPLE / 'data'}", about.preprocessing.shape, calibration=32)
    prepare, test = about.preprocessing, splits.test
    (made,) = export(
        spread(detector), torch.zeros(1, *prepare.shape), formats=["onnx"], quant=["int8"], preprocess=prepare,
        calibration=prepare(splits.calibration.images[:]), check_on=prepare(test.images[:]), labels=test.labels,
        task="detection", classes=about.classes, out=tmp_path, options=Options(rungs=("equalization",)),
    )  # fmt: skip
    first, second = made.artifact.ladder["attempts"]
    assert second["loss"] <= 1.0 < first["loss"]
    assert second["sqnr_db"] > first["sqnr_db"] + 5
    assert made.artifact.ladder["met"]
