from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nbedge import samples
from nbedge.artifact import TensorSpec
from nbedge.errors import InputError
from nbedge.preprocessing import Preprocessing
from nbedge.runtime import Arrays, Runner, answer, answer_pictures, dequantize, of_module, open_file, quantize

INT8 = TensorSpec("x", (1, 4), "int8", "NC", 0.05, -3)
UINT8 = TensorSpec("x", (1, 4), "uint8", "NC", 0.1, 128)
FLOAT = TensorSpec("x", (1, 4), "float32", "NC")


def matmul(path: Path, batch: int | str = 1, metadata: dict[str, str] | None = None) -> Path:
    """Write an ONNX file that doubles a vector of 3."""
    from onnx import TensorProto, helper, save

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 3]) for name in ("x", "y")]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [3, 3], (2 * np.eye(3)).ravel().tolist())
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, metadata or {})
    save(model, path)
    return path


@pytest.mark.parametrize("spec", [INT8, UINT8])
def test_what_is_dequantized_is_quantized_back(spec: TensorSpec) -> None:
    limits = np.iinfo(spec.dtype)
    q = np.arange(limits.min, limits.max + 1).astype(spec.dtype)
    back = quantize(dequantize(q, spec), spec)
    assert back.dtype == q.dtype
    assert np.array_equal(back, q)


@pytest.mark.parametrize("spec", [INT8, UINT8])
def test_quantizing_is_off_by_half_a_step_at_most(spec: TensorSpec) -> None:
    x = np.linspace(-3, 3, 1001).astype(np.float32)
    assert np.abs(dequantize(quantize(x, spec), spec) - x).max() <= spec.scale / 2 * (1 + 1e-5)


def test_what_is_out_of_range_is_saturated() -> None:
    x = np.array([-1e9, -100, 100, 1e9], np.float32)
    assert quantize(x, INT8).tolist() == [-128, -128, 127, 127]
    assert quantize(x, UINT8).tolist() == [0, 0, 255, 255]


def test_the_zero_point_stands_for_0() -> None:
    assert quantize(np.zeros(1), INT8).tolist() == [-3]
    assert dequantize(np.array([-3], np.int8), INT8).tolist() == [0.0]


def test_a_float_tensor_is_left_as_it_is() -> None:
    x = np.array([1.5, -2.25], np.float32)
    assert np.array_equal(quantize(x, FLOAT), x)
    assert np.array_equal(dequantize(x, FLOAT), x)


def test_a_module_is_run_in_eval_mode_and_keeps_its_own() -> None:
    model = samples.mobilenet_v2_tiny(width_mult=0.5).train()
    x = np.random.default_rng(0).standard_normal((3, 1, 28, 28)).astype(np.float32)
    found = answer(of_module(model, (1, 28, 28)), x)
    assert model.training
    with torch.no_grad():
        assert np.array_equal(found, model.eval()(torch.from_numpy(x)).numpy())


def test_a_module_in_float64_takes_float32() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).double()
    assert answer(of_module(model, (1, 2, 2)), np.ones((5, 1, 2, 2), np.float32)).shape == (5, 3)


def test_no_inputs_are_refused() -> None:
    with pytest.raises(InputError, match="no inputs"):
        answer(of_module(nn.Linear(2, 3), (1, 2, 2)), np.ones((0, 1, 2, 2), np.float32))


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_a_layout_and_a_batch_of_1_are_met(batch: int) -> None:
    seen: list[Any] = []

    def run(arrays: Arrays) -> Arrays:
        seen.append(arrays["in"])
        return {"out": np.full((1, 2), int(arrays["in"].sum()) % 100, np.int8)}

    entry, exit_ = TensorSpec("in", (1, 4, 5, 3), "int8", "NHWC", 0.5, 1), TensorSpec("out", (1, 2), "int8", "NC", 2.0)
    x = np.zeros((batch, 3, 4, 5), np.float32)
    found = answer(Runner((entry,), (exit_,), "test", run), x)
    assert [(array.shape, array.dtype.name) for array in seen] == [((1, 4, 5, 3), "int8")] * batch
    assert found.tolist() == [[120.0, 120.0]] * batch


@pytest.mark.parametrize("shape", [(2, 3, 28, 28), (2, 1, 27, 28), (2, 28, 28, 1)])
def test_pictures_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    runner = of_module(samples.mobilenet_v2_tiny(width_mult=0.5), (1, 28, 28))
    with pytest.raises(InputError, match="the model takes NCHW"):
        answer(runner, np.zeros(shape, np.float32))


def test_pictures_are_answered_after_preprocessing() -> None:
    model, preprocessing = samples.mobilenet_v2_tiny(width_mult=0.5), Preprocessing((1, 28, 28), (0.3,), (0.2,))
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), np.uint8)
    runner = of_module(model, (1, 28, 28))
    assert np.array_equal(answer_pictures(runner, images, preprocessing), answer(runner, preprocessing(images)))


def test_an_onnx_file_is_run(tmp_path: Path) -> None:
    runner = open_file(matmul(tmp_path / "a.onnx"))
    x = np.arange(3, dtype=np.float32)[None]
    assert runner.inputs == (TensorSpec("x", (1, 3), "float32", "NC"),)
    assert np.array_equal(runner.run({"x": x})["y"], 2 * x)


def test_an_open_batch_is_0_in_the_signature(tmp_path: Path) -> None:
    assert open_file(matmul(tmp_path / "a.onnx", "n")).inputs[0].shape == (0, 3)


def test_scale_and_zero_point_are_read_from_the_metadata(tmp_path: Path) -> None:
    note = {"nbedge.quantization.x": '{"scale": 0.5, "zero_point": 7}'}
    runner = open_file(matmul(tmp_path / "a.onnx", metadata=note))
    assert (runner.inputs[0].scale, runner.inputs[0].zero_point) == (0.5, 7)
    assert runner.outputs[0].scale == 0


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.onnx does not exist"):
        open_file(tmp_path / "a.onnx")


@pytest.mark.parametrize("name", ["a.pte", "a", "a.onnx.json"])
def test_a_file_of_an_unknown_format_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(InputError, match="no runtime here reads"):
        open_file(tmp_path / name)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9])
def test_an_onnx_file_cut_short_is_named(tmp_path: Path, share: float) -> None:
    path = matmul(tmp_path / "a.onnx")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InputError, match=r"ONNX Runtime cannot load .*a\.onnx: .+; export the file again"):
        open_file(path)


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\x1c\x00\x00\x00TFL3" + bytes(60), bytes(range(256)) * 4])
def test_a_tflite_file_that_is_damaged_is_named(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("ai_edge_litert.interpreter", reason="LiteRT is not installed")
    (tmp_path / "a.tflite").write_bytes(content)
    with pytest.raises(InputError, match=r"LiteRT cannot load .*a\.tflite: .+; export the file again"):
        open_file(tmp_path / "a.tflite")
