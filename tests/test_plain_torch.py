"""A network of somebody's own, its weights in a .pth and its normalization said: files by the command line alone."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nbedge import artifact
from nbedge.reference import ModelReference

pytest.importorskip("onnx2tf")
DATA = Path(__file__).parent.parent / "sample_models" / "fashion_mnist" / "data.npz"
MEAN, STD = 0.25, 0.4
NETWORK = """
from torch import nn


def make(classes=10):
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1, bias=False),
        nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(144, classes),
    )
"""


@dataclass(frozen=True)
class Here:
    """The network, what describes it in a command line, and the files made of it."""

    model: nn.Module
    words: tuple[str, ...]
    files: tuple[Path, ...]


def call(*words: str, status: int = 0) -> str:
    done = subprocess.run([sys.executable, "-m", "nbedge", *words], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status == 0 else done.stdout + done.stderr


def inputs(part: str, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    with np.load(DATA) as data:
        images, labels = data[f"{part}_images"][:number], data[f"{part}_labels"][:number]
    x = (images.reshape(-1, 1, 28, 28) / 255 - MEAN) / STD
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(labels.astype(np.int64))


def accuracy(model: nn.Module) -> float:
    x, labels = inputs("test", 10_000)
    with torch.inference_mode():
        return float((model(x).argmax(1) == labels).float().mean())


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Here:
    """Train a moment, in a plain loop, save, and export."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "net.py").write_text(NETWORK)
    torch.manual_seed(0)
    model = ModelReference(f"{folder / 'net.py'}:make").build().train()
    x, labels = inputs("train", 4_000)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for some in torch.split(torch.randperm(len(x)), 64):
        loss = nn.functional.cross_entropy(model(x[some]), labels[some])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    torch.save(model.state_dict(), folder / "w.pth")
    reference = f"{folder / 'net.py'}:make"
    words = (reference, "--weights", str(folder / "w.pth"), "--input", "1x28x28")
    given = (*words, "--mean", str(MEAN), "--std", str(STD))
    call("export", *given, "--calib", f"npz:{DATA}", "--samples", "100", "--out", str(folder / "out"), "--name", "own")
    return Here(model.eval(), words, tuple(sorted((folder / "out").glob("own.*"))))


@pytest.mark.group("export")
def test_every_file_is_that_network_and_says_how_pictures_become_inputs(here: Here) -> None:
    files = [path for path in here.files if path.suffix != ".json"]
    assert [path.name for path in files] == ["own.fp32.onnx", "own.fp32.tflite", "own.int8.onnx", "own.int8.tflite"]
    rows = json.loads(call("evaluate", *map(str, files), "--data", f"npz:{DATA}", "--json"))["rows"]
    wanted = accuracy(here.model)
    assert wanted > 0.6
    for path, row in zip(files, rows, strict=True):
        about = artifact.read(path)
        assert (about.prepared().mean, about.prepared().std, len(about.classes)) == ((MEAN,), (STD,), 10)
        assert row["top1"] == pytest.approx(wanted, abs=0.0005 if about.scheme == "fp32" else 0.015)


@pytest.mark.group("export")
def test_verify_compares_it_with_its_files(here: Here) -> None:
    files = [str(path) for path in here.files if path.suffix != ".json"]
    normalized = ("--mean", str(MEAN), "--std", str(STD), "--data", f"npz:{DATA}", "--pictures", "100", "--json")
    said = json.loads(call("verify", here.words[0], *files, *here.words[1:], *normalized))
    assert said["verdict"] == "PASS"
    assert {edge["candidate"] for edge in said["edges"]} == {Path(file).name for file in files}
    without = [word for word in here.words[1:] if not word.endswith(".pth") and word != "--weights"]
    assert "FAIL" in call("verify", here.words[0], files[0], *without, *normalized, status=1)


@pytest.mark.group("export")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--mean 0.5,0.5,0.5 --std 0.5", "mean has 3 values for 1 channels; give one a channel"),
        ("--mean 0.5 --std 0.5,0.5,0.5", "std has 3 values for 1 channels; give one a channel"),
        ("--mean 0.5 --std half", "--std is 'half'; write one number a channel, for example 0.5,0.5,0.5"),
    ],
)
def test_a_wrong_normalization_is_one_sentence(here: Here, tmp_path: Path, options: str, words: str) -> None:
    out = tmp_path / "out"
    done = call("export", *here.words, *options.split(), "--calib", f"npz:{DATA}", "--out", str(out), status=2)
    assert re.sub(r"\s+", " ", done).strip().removeprefix("nbedge: ") == words
    assert not out.exists()


@pytest.mark.group("export")
def test_calibration_with_one_picture_again_and_again_is_no_calibration(here: Here, tmp_path: Path) -> None:
    x, _ = inputs("train", 1)
    np.savez(tmp_path / "same.npz", inputs=np.repeat(x.numpy(), 60, axis=0))
    np.savez(tmp_path / "nan.npz", inputs=np.where(np.arange(60)[:, None, None, None] == 7, np.nan, x).astype("f4"))
    where = ("--out", str(tmp_path / "out"), "--format", "onnx", "--quant", "int8", "--name", "own")
    same, nan = (f"npz:{tmp_path / name}.npz" for name in ("same", "nan"))
    assert "calibration inputs that differ is 3.333 %" in call("export", *here.words, "--calib", same, *where, status=1)
    assert "1 of 60 inputs hold NaN or infinity; input 7" in call(
        "export", *here.words, "--calib", nan, *where, status=2
    )
    assert not list((tmp_path / "out").glob("own.*"))
