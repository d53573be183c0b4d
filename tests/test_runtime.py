from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nbedge import samples
from nbedge.artifact import TensorSpec
from nbedge.errors import InputError
from nbedge.evaluation import single
from nbedge.preprocessing import Preprocessing
from nbedge.runtime import (
    Arrays,
    Runner,
    answer,
    answer_pictures,
    answers,
    batches,
    dequantize,
    layout,
    of_module,
    open_file,
    quantize,
    record,
)
from nbedge.verification import families

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
    assert np.array_equal(single(answer_pictures(runner, images, preprocessing)), answer(runner, preprocessing(images)))


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


@pytest.mark.parametrize("name", ["a.ncnn", "a", "a.onnx.json"])
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


def test_an_integer_without_a_scale_stands_for_itself() -> None:
    spec = TensorSpec("x", (1, 4), "uint8", "NC")
    x = np.array([-3.2, 0.4, 128, 300], np.float32)
    assert quantize(x, spec).tolist() == [0, 0, 128, 255]
    assert dequantize(quantize(x, spec), spec).tolist() == [0.0, 0.0, 128.0, 255.0]


@pytest.mark.parametrize("shape", [(2, 12, 5, 6), (2, 12, 9)])
def test_channels_that_fit_at_the_end_only_are_fed_there(shape: tuple[int, ...]) -> None:
    entry = TensorSpec("x", (0, *shape[2:], 12), "float32", layout((0, *shape[2:], 12), "NCHW"))
    runner = Runner((entry,), (TensorSpec("y", entry.shape, "float32", "ANY"),), "test", lambda a: {"y": a["x"]})
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    assert np.array_equal(answers(runner, x)["y"], np.moveaxis(x, 1, -1))


@pytest.mark.parametrize(("inputs", "runs"), [(1, 1), (4, 1), (6, 2), (8, 2)])
def test_a_fixed_batch_is_filled_up_and_what_fills_it_does_not_count(inputs: int, runs: int) -> None:
    entry = TensorSpec("x", (4, 2), "float32", "NC")
    x = np.arange(2 * inputs, dtype=np.float32).reshape(inputs, 2)
    fed = list(batches(x, entry))
    assert [part.shape for part, _ in fed] == [(4, 2)] * runs
    assert sum(number for _, number in fed) == inputs
    runner = Runner((entry,), (TensorSpec("y", (4, 2), "float32", "NC"),), "test", lambda a: {"y": 2 * a["x"]})
    assert np.array_equal(answer(runner, x), 2 * x)


class Two(nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"sum": x.sum(1), "mean": x.mean((2, 3))}


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch of itself
@pytest.mark.parametrize("batch", [2, 0])
def test_a_program_has_the_batch_and_the_names_of_its_module(tmp_path: Path, batch: int) -> None:
    sizes = None if batch else ({0: torch.export.Dim("n", min=1, max=64)},)
    program = torch.export.export(Two(), (torch.zeros(2, 3, 4, 5),), dynamic_shapes=sizes)
    torch.export.save(program, tmp_path / "two.pt2")
    runner = open_file(tmp_path / "two.pt2")
    assert (runner.kernels, runner.inputs[0].shape) == ("torch", (batch, 3, 4, 5))
    x = np.random.default_rng(0).normal(size=(5, 3, 4, 5)).astype(np.float32)
    found = answers(runner, x)
    assert np.allclose(found["sum"], x.sum(1), atol=1e-5)
    assert np.allclose(found["mean"], x.mean((2, 3)), atol=1e-5)


def test_what_is_no_program_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.pt2").write_bytes(b"PK\x05\x06" + bytes(18))
    with pytest.raises(InputError, match=r"torch\.export cannot load .*a\.pt2"):
        open_file(tmp_path / "a.pt2")


def test_a_recording_answers_to_its_own_inputs_in_any_order_and_to_no_others(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    runner = open_file(record(tmp_path / "a.npz", x, {"y": 2 * x}))
    assert np.array_equal(answer(runner, x[::-1].copy()), 2 * x[::-1])
    with pytest.raises(InputError, match="holds no answer to these inputs"):
        answer(runner, x + 1)


@pytest.mark.parametrize("shape", [(3, 9, 9), (1, 49, 10), (640,), (10, 49)])
def test_the_extremes_hold_zeros_the_largest_single_hot_elements_and_a_border(shape: tuple[int, ...]) -> None:
    real = np.random.default_rng(0).normal(size=(20, *shape)).astype(np.float32)
    given = families(shape, None, real)
    extreme, (dark, bright) = given["extreme"], (real.min(), real.max())
    places = shape[1:] or shape
    flat = extreme.reshape(len(extreme), -1, int(np.prod(places)))[:, 0]
    assert (extreme == 0).reshape(len(extreme), -1).all(1).any()
    assert (extreme == dark).reshape(len(extreme), -1).all(1).any()
    assert (extreme == bright).reshape(len(extreme), -1).all(1).any()
    hot = [int((row == bright).argmax()) for row in flat if (row == bright).sum() == 1 and (row == dark).sum() > 1]
    assert len(set(hot)) >= 3  # the middle and the corners
    border = np.ones(places, bool)
    border[tuple(slice(1, -1) for _ in places)] = False
    assert any(np.array_equal(row.reshape(places) == bright, border) for row in flat)
    assert set(given) == {"real", "noise", "extreme"}


EXPORTS = Path(__file__).parent.parent / "sample_models" / "fashion_mnist" / "exports"


def noise(number: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).normal(size=(number, 1, 28, 28)).astype(np.float32)


@pytest.mark.parametrize("scheme", ["int8", "fp32"])
def test_tflite_micro_answers_like_the_reference_kernels(scheme: str) -> None:
    pytest.importorskip("tflite_micro", reason="tflite-micro is not installed")
    micro, litert = (open_file(EXPORTS / f"fashion_mnist.{scheme}.tflite", name) for name in ("tflm", "reference"))
    assert micro.kernels == "tflm"
    assert (micro.inputs, micro.outputs) == (litert.inputs, litert.outputs)
    step = litert.outputs[0].scale or 1e-4
    assert np.abs(answer(micro, noise(12)) - answer(litert, noise(12))).max() <= 4.001 * step


def test_tflite_micro_keeps_nothing_from_one_input_to_the_next() -> None:
    pytest.importorskip("tflite_micro", reason="tflite-micro is not installed")
    runner = open_file(EXPORTS / "fashion_mnist.int8.tflite", "tflm")
    first = answer(runner, noise(3))
    assert np.array_equal(answer(runner, noise(3)[::-1].copy()), first[::-1])


@pytest.mark.parametrize("share", [0, 0.02, 0.5])
def test_a_file_cut_short_does_not_reach_tflite_micro(tmp_path: Path, share: float) -> None:
    pytest.importorskip("tflite_micro", reason="tflite-micro is not installed")
    content = (EXPORTS / "fashion_mnist.int8.tflite").read_bytes()
    (tmp_path / "a.tflite").write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"LiteRT cannot load .*a\.tflite"):
        open_file(tmp_path / "a.tflite", "tflm")


@pytest.mark.parametrize(("name", "kernels"), [("fp32.onnx", "tflm"), ("int8.tflite", "torch")])
def test_kernels_that_do_not_run_a_file_are_refused(name: str, kernels: str) -> None:
    with pytest.raises(InputError, match=f"does not run in the kernels '{kernels}'; choose from"):
        open_file(EXPORTS / f"fashion_mnist.{name}", kernels)
