"""What export says of a network beside its verdicts: where a trouble comes from, and what can be done."""

import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nbedge import exporter, samples
from nbedge.artifact import SCHEMES
from nbedge.conversion import export
from nbedge.conversion.diagnosis import padded
from nbedge.errors import ExportError, InputError
from peers.nets import nets

SAMPLES = Path(__file__).parent.parent / "sample_models"
X = torch.randn(24, 1, 28, 28, generator=torch.Generator().manual_seed(0))

GELU = """
from torch import nn
def make(num_classes=10):
    return nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(8, num_classes))
"""


def call(*words: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run([sys.executable, "-m", "nbedge", *words], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done


def program(net: nn.Module, size: int, path: Path, channels: int = 1) -> Path:
    torch.export.save(torch.export.export(net.eval(), (torch.zeros(1, channels, size, size),)), path)
    return path


@pytest.mark.parametrize(
    ("net", "size", "found"),
    [
        (nn.Conv2d(1, 2, 3, 2, 1), 28, True),  # SAME pads 0 and 1
        (nn.Conv2d(1, 2, 3, 2, 1), 7, False),  # SAME pads 1 and 1
        (nn.Conv2d(1, 2, 3, 1, 1), 28, False),
        (nn.Conv2d(1, 2, 5, 2, 2), 28, True),
        (nn.Conv2d(1, 2, 3, 2, 0), 28, False),  # pads nothing, and SAME would be larger
        (nn.Conv2d(1, 2, 3, 2, 3), 28, False),  # larger than SAME
        (nn.Conv2d(1, 2, 3, 2, 2, 2), 28, True),
        (nn.Conv2d(1, 2, 3, padding="same"), 28, False),
        (nn.Sequential(nn.Flatten(2), nn.Conv1d(1, 2, 3, 2, 1)), 28, False),
    ],
)
def test_convolutions_that_tflite_could_pad_itself_are_found(
    net: nn.Module, size: int, found: bool, tmp_path: Path
) -> None:
    assert padded(program(nn.Sequential(net), size, tmp_path / "net.pt2")) == ["0"] * found


def test_a_network_that_pads_like_tflite_has_none(tmp_path: Path) -> None:
    for tf_same, count in ((True, 0), (False, 2)):
        net = samples.mobilenet_v2_tiny(tf_same=tf_same)
        assert len(padded(program(net, 28, tmp_path / f"{tf_same}.pt2"))) == count


@pytest.mark.group("export")
def test_export_says_what_padding_costs_and_which_layers_could_do_without(tmp_path: Path) -> None:
    pytest.importorskip("onnx2tf")
    for sample, data in (("fashion_mnist", "npz:{}/data.npz"), ("blood_cells", "folder:{}/data")):
        folder = SAMPLES / sample
        done = call(
            "export", str(folder / "control.safetensors"), "--calib", data.format(folder), "--format", "tflite",
            "--quant", "int8", "--out", str(tmp_path), "--name", sample,
        )  # fmt: skip
        said = [line for line in done.stderr.splitlines() if "PAD" in line]
        if sample == "blood_cells":  # it pads like TFLite
            assert said == []
        else:
            (line,) = said
            assert line.startswith("fashion_mnist.int8.tflite: 2 PAD operators make copies of 3972 bytes; ")
            assert "features.0.0, features.2.conv.1.0 would need none" in line


@pytest.mark.group("export")
@pytest.mark.parametrize(
    ("model", "format", "verdict"), [("gelu", "onnx", "yes"), ("gelu", "tflite", "no"), ("sample", "tflite", "yes")]
)
def test_inspect_says_whether_a_network_can_become_int8(tmp_path: Path, model: str, format: str, verdict: str) -> None:
    pytest.importorskip("onnx2tf")
    (tmp_path / "net.py").write_text(GELU)
    name = f"{tmp_path / 'net.py'}:make" if model == "gelu" else "sample:mobilenet_v2_tiny"
    found = json.loads(call("inspect", name, "--input", "1x28x28", "--target", format, "--json").stdout)["int8"]
    assert found["verdict"] == verdict
    if verdict == "no":
        assert "gelu in the module '1' (use Hardswish, ReLU or ReLU6)" in found["why"]
        assert ".log" not in found["why"]  # it is gone with its folder


@pytest.mark.group("export")
def test_what_was_tried_is_shown_where_no_file_is_kept(tmp_path: Path) -> None:
    net = next(net for net in nets() if net.name == "fashion_mnist, outlier")
    torch.save(net.model.state_dict(), tmp_path / "outlier.pth")
    done = call(
        "export", "sample:mobilenet_v2_tiny", "--model-args", '{"width_mult": 0.5}', "--weights",
        str(tmp_path / "outlier.pth"), "--input", "1x28x28", "--mean", "0.2836", "--std", "0.3489", "--calib",
        f"npz:{SAMPLES / 'fashion_mnist' / 'data.npz'}", "--format", "onnx", "--quant", "int8", "--rungs",
        "bias-correction,precision", "--budget", "0.2", "--out",
        str(tmp_path / "out"), status=1,
    )  # fmt: skip
    for word in ("what was tried", "per-channel", "bias-correction", "no target was named"):
        assert word in done.stdout
    assert "outlier.int8.onnx is not kept" in done.stderr.splitlines()[-1].replace("mobilenet_v2_tiny", "outlier")
    assert not list((tmp_path / "out").glob("*.onnx"))


def exported(net: nn.Module, out: Path, **options: Any) -> None:
    given = {"calibration": X, "preprocess": None, "classes": "0123456789", "formats": "onnx", "quant": "fp32"}
    export(net.eval(), X[:1], out=out, **{**given, **options})


class Reshaped(nn.Module):
    """Answers, of a batch that its forward has its own mind about."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape, self.linear = shape, nn.Linear(784, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 1, 28, 28) -> (?, 10)."""
        y: torch.Tensor = self.linear(x.reshape(self.shape))
        return y


@pytest.mark.group("export")
def test_what_fails_takes_the_others_with_it_and_says_so(tmp_path: Path) -> None:
    pytest.importorskip("onnx2tf")
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    )
    with pytest.raises(ExportError, match=r"tflite failed.*HARD_SWISH.*none of the files is kept: export the others"):
        exported(net, tmp_path, formats="tflite", quant=["fp32", "int8x16"])
    assert not list(tmp_path.glob("*.tflite*"))


@pytest.mark.parametrize(
    ("shape", "said"),
    [((1, 784), "takes no 2 inputs at once .*; write -1 for the batch"), ((784,), "takes no 2 inputs at once")],
)
def test_a_model_that_fixes_the_batch_is_refused(tmp_path: Path, shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        exported(Reshaped(*shape), tmp_path / "out", task="")
    assert not (tmp_path / "out").exists()


def test_inputs_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    bad = X.clone()
    bad[3, 0, 5, 5] = float("nan")
    with pytest.raises(InputError, match="input 3 of those as calibration holds numbers that are not finite"):
        exported(Reshaped(-1, 784), tmp_path, calibration=bad)


def test_options_that_contradict_a_checkpoint_are_refused(tmp_path: Path) -> None:
    folder = SAMPLES / "fashion_mnist"
    words = ("export", str(folder / "control.safetensors"), "--calib", f"npz:{folder / 'data.npz'}", "--out")
    done = call(*words, str(tmp_path / "out"), "--mean", "0.1", "--std", "1", status=2)
    assert "--mean contradicts control.safetensors, which was trained with 0.2836; leave it out" in done.stderr
    done = call(*words, str(tmp_path / "out"), "--input", "3x28x28", status=2)
    assert "--input contradicts control.safetensors, which was trained with 1x28x28" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_plug_in_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = EntryPoint("broken", "no_such_module:exporter", "nbedge.exporters")
    monkeypatch.setattr(exporter, "entry_points", lambda group: [broken])
    with pytest.raises(ExportError, match=r"broken of the package no_such_module cannot be loaded \(ModuleNotFound"):
        exporter.exporters()


def test_every_scheme_has_an_exporter() -> None:
    made = {scheme for found in exporter.exporters().values() for scheme in found.schemes}
    assert made >= set(SCHEMES)
