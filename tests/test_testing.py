"""The assertion for other people's tests."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import nbedge
from nbedge.errors import InputError
from nbedge.slopes import set_slope_
from nbedge.testing import assert_equivalent

SAMPLE = Path(__file__).parent.parent / "sample_models" / "fashion_mnist"
REAL = nbedge.Preprocessing((1, 28, 28), (0.286,), (0.353,))(np.load(SAMPLE / "data.npz")["test_images"][:50])
X = torch.from_numpy(np.random.default_rng(0).normal(size=(8, 1, 28, 28)).astype(np.float32))


def test_the_shipped_pair_is_equivalent() -> None:
    judged = assert_equivalent(SAMPLE / "linearized.safetensors", SAMPLE / "contracted.safetensors", X)
    assert "algebra in float64" in {check.name for check in judged.checks}


@pytest.mark.parametrize("format", ["onnx", "tflite"])
def test_a_file_is_equivalent_to_its_checkpoint(format: str) -> None:
    pytest.importorskip("ai_edge_litert")
    path = SAMPLE / "exports" / f"fashion_mnist.fp32.{format}"
    assert_equivalent(str(SAMPLE / "chosen.safetensors"), str(path), X)


def test_what_differs_is_said() -> None:
    giant, _ = nbedge.load_checkpoint(SAMPLE / "linearized.safetensors")
    tiny = nbedge.contract(giant)
    tiny.get_submodule("features.4.conv.0.0").get_parameter("weight").data[0] += 1e-4
    with pytest.raises(AssertionError, match=r"not equivalent: .* checks did not pass") as raised:
        assert_equivalent(giant, tiny, X)
    assert "features.4.conv.0.0.weight" in str(raised.value)
    assert "limit 1" in str(raised.value)


def test_a_giant_that_is_not_linear_yet_is_not_equivalent() -> None:
    giant, _ = nbedge.load_checkpoint(SAMPLE / "linearized.safetensors")
    tiny = nbedge.contract(giant)
    set_slope_(giant, 0.999)
    with pytest.raises(AssertionError, match=r"slope 0\.999"):
        assert_equivalent(giant, tiny, X)


class Branches(nn.Module):
    """RepVGG's block, by somebody who never heard of a giant."""

    def __init__(self) -> None:
        super().__init__()
        self.three, self.one = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(1, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 1, h, w) -> (n, 4, h, w)."""
        summed: torch.Tensor = self.three(x) + self.one(x)
        return summed


def merged(block: Branches) -> nn.Conv2d:
    layer = copy.deepcopy(block.three)
    with torch.no_grad():
        layer.weight += nn.functional.pad(block.one.weight, (1, 1, 1, 1))
        layer.get_parameter("bias").add_(block.one.get_parameter("bias"))
    return layer


def test_other_peoples_merges_are_judged() -> None:
    block = Branches()
    layer = merged(block)
    assert_equivalent(block, layer, X)
    with torch.no_grad():
        layer.get_parameter("bias")[0] += 1e-2
    with pytest.raises(AssertionError, match="float error, real"):
        assert_equivalent(block, layer, X)


def test_nothing_to_compare_is_no_pass() -> None:
    with pytest.raises(InputError, match="no inputs"):
        assert_equivalent(Branches(), Branches(), X[:0])


def test_an_integer_file_is_told_by_what_it_says(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    lite, onnx = (SAMPLE / "exports" / f"fashion_mnist.int8.{suffix}" for suffix in ("tflite", "onnx"))
    bare = tmp_path / "bare.tflite"  # without its sidecar
    bare.write_bytes(lite.read_bytes())
    for reference, candidate in ((SAMPLE / "chosen.safetensors", lite), (lite, onnx), (onnx, bare)):
        judged = assert_equivalent(reference, candidate, REAL)
        assert "SQNR, real" in {check.name for check in judged.checks}
    assert "float error, real" in {check.name for check in assert_equivalent(lite, bare, REAL).checks}


def test_a_model_reference_is_built() -> None:
    networks = Path(__file__).with_name("networks.py")
    x = np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32)
    assert_equivalent(f"{networks}:branches", f"{networks}:merged", x)
    with pytest.raises(AssertionError, match="float error, real"):
        assert_equivalent(f"{networks}:branches", f"{networks}:spoiled", x)
