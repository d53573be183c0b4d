"""What a file's bytes say: the shipped files pass every rule, and a file that breaks a rule fails that rule."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbedge.errors import InputError
from nbedge.verification import Check, Verdict
from nbedge.verification.lint import TARGETS, calibration_checks, lint, statistics

pytest.importorskip("ai_edge_litert")
SAMPLES = Path(__file__).parent.parent / "sample_models"
EXPORTS = SAMPLES / "fashion_mnist" / "exports"
INT8, FP32 = EXPORTS / "fashion_mnist.int8.tflite", EXPORTS / "fashion_mnist.fp32.tflite"


def failed(checks: list[Check]) -> set[str]:
    return {check.name for check in checks if check.verdict is not Verdict.PASS}


def named(checks: list[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def mutated(tmp_path: Path, change: Callable[[Any, Any], None], source: Path = INT8) -> Path:
    """Return a copy of a TFLite file after `change(model, graph)`."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(source))
    change(model, model.subgraphs[0])
    flatbuffer_utils.write_model(model, str(tmp_path / "changed.tflite"))
    return tmp_path / "changed.tflite"


def convolution(model: Any, graph: Any, number: int = 3) -> Any:
    codes = [model.operatorCodes[operator.opcodeIndex].builtinCode for operator in graph.operators]
    return [operator for operator, code in zip(graph.operators, codes, strict=True) if code == 3][number]


def weight_bytes(model: Any, graph: Any) -> Any:
    return model.buffers[graph.tensors[convolution(model, graph).inputs[1]].buffer].data


@pytest.mark.parametrize("sample", ["fashion_mnist", "blood_cells"])
@pytest.mark.parametrize(
    ("format", "target"), [("tflite", "tflm"), ("tflite", "litert"), ("tflite", "ethos-u"), ("onnx", "ort")]
)
@pytest.mark.parametrize("scheme", ["fp32", "int8"])
def test_the_shipped_files_pass(sample: str, format: str, target: str, scheme: str) -> None:
    folder = SAMPLES / sample / "exports"
    floats = folder / f"{sample}.fp32.{format}" if scheme == "int8" else None
    for aim in (None, target):
        assert failed(lint(folder / f"{sample}.{scheme}.{format}", scheme, reference=floats, target=aim)) == set()


def test_a_float_file_is_no_int8_file() -> None:
    assert failed(lint(FP32, "int8")) >= {
        "integer operators", "integer multiply-accumulates", "float tensors", "input and output",
    }  # fmt: skip


def test_a_file_is_listed() -> None:
    checks = lint(INT8, "int8")
    assert "DEPTHWISE_CONV_2D" in named(checks, "operators").detail
    assert "int32" in named(checks, "tensors").detail


def one_step(model: Any, graph: Any) -> None:
    data = weight_bytes(model, graph)
    place = int(np.argmin(np.abs(data.view(np.int8).astype(int))))
    data.view(np.int8)[place] += 1


def swapped_channels(model: Any, graph: Any) -> None:
    tensor = graph.tensors[convolution(model, graph).inputs[1]]
    rows = weight_bytes(model, graph).reshape(tensor.shape[0], -1)
    rows[[0, 1]] = rows[[1, 0]]


def one_scale(model: Any, graph: Any) -> None:
    quantization = graph.tensors[convolution(model, graph).inputs[1]].quantization
    quantization.scale, quantization.zeroPoint = quantization.scale[:1], quantization.zeroPoint[:1]


def off_centre(model: Any, graph: Any) -> None:
    quantization = graph.tensors[convolution(model, graph).inputs[1]].quantization
    quantization.zeroPoint = np.full_like(quantization.zeroPoint, 3)


def wide_scale(model: Any, graph: Any) -> None:
    quantization = graph.tensors[convolution(model, graph).inputs[1]].quantization
    quantization.scale = quantization.scale * np.float32(1.5)


def wrong_zero_point(_model: Any, graph: Any) -> None:
    graph.tensors[graph.operators[1].outputs[0]].quantization.zeroPoint = np.array([400])


def wrong_activation_scale(_model: Any, graph: Any) -> None:
    graph.tensors[graph.operators[1].outputs[0]].quantization.scale = np.array([0.5], np.float32)


def changed_by_a_reshape(model: Any, graph: Any) -> None:
    reshape = next(o for o in graph.operators if model.operatorCodes[o.opcodeIndex].builtinCode == 34)  # PAD
    graph.tensors[reshape.outputs[0]].quantization.scale = np.array([0.25], np.float32)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (one_step, "weights as requantized"),
        (swapped_channels, "weights as requantized"),
        (wide_scale, "scales of weights too wide"),
        (one_scale, "convolutions with one scale for all channels"),
        (off_centre, "weights not centred on 0"),
        (wrong_zero_point, "scales and zero points out of range"),
        (wrong_activation_scale, "bias scale against input x weight"),
        (changed_by_a_reshape, "operators that change a scale which they must pass on"),
    ],
)
def test_a_broken_rule_is_named(tmp_path: Path, change: Callable[[Any, Any], None], rule: str) -> None:
    assert rule in failed(lint(mutated(tmp_path, change), "int8", reference=FP32))


def onnx_file(tmp_path: Path, change: Callable[[Any], None], source: Path) -> Path:
    """Return a copy of an ONNX file after `change(model)`."""
    import onnx

    model = onnx.load(source)
    change(model)
    onnx.save(model, tmp_path / "changed.onnx")
    return tmp_path / "changed.onnx"


def dequantized_weight(model: Any, place: int) -> tuple[Any, Any]:
    """Return the third convolution, and what makes its weight (1) or bias (2) of integers."""
    convolution = [node for node in model.graph.node if node.op_type == "Conv"][2]
    return convolution, next(node for node in model.graph.node if node.output[0] == convolution.input[place])


def float_weight(model: Any) -> None:
    from onnx import numpy_helper

    convolution, made = dequantized_weight(model, 1)
    held = {value.name: numpy_helper.to_array(value) for value in model.graph.initializer}
    weight, scales = held[made.input[0]].astype(np.float32), held[made.input[1]]
    real = weight * scales.reshape(-1, *(1,) * (weight.ndim - 1))
    model.graph.initializer.append(numpy_helper.from_array(real, "real"))
    convolution.input[1] = "real"


def bias_scale(model: Any) -> None:
    from onnx import numpy_helper

    _, made = dequantized_weight(model, 2)
    held = next(value for value in model.graph.initializer if value.name == made.input[1])
    held.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(held) * np.float32(2), held.name))


@pytest.mark.parametrize(
    ("change", "rule"), [(float_weight, "operators with float weights"), (bias_scale, "bias scale against input")]
)
def test_a_broken_rule_of_an_onnx_file_is_named(tmp_path: Path, change: Callable[[Any], None], rule: str) -> None:
    path = onnx_file(tmp_path, change, EXPORTS / "fashion_mnist.int8.onnx")
    assert any(name.startswith(rule) for name in failed(lint(path, "int8")))


def test_the_weights_of_integer_operators_are_compared_too(tmp_path: Path) -> None:
    from onnx import numpy_helper
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Noise(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(np.random.default_rng(0).normal(size=(4, 1, 1, 28, 28)).astype(np.float32))

        def get_next(self) -> dict[str, Any] | None:
            x = next(self.left, None)
            return None if x is None else {"input": x}

    source, path = EXPORTS / "fashion_mnist.fp32.onnx", tmp_path / "q.onnx"
    quantize_static(source, path, Noise(), quant_format=QuantFormat.QOperator, per_channel=True,
                    weight_type=QuantType.QInt8, activation_type=QuantType.QInt8)  # fmt: skip
    checks = lint(path, "int8-float-io", reference=source)
    assert failed(checks) == set()
    assert "23 of 23 tensors" in named(checks, "weights as requantized").detail

    def swap(model: Any) -> None:
        node = next(node for node in model.graph.node if node.op_type == "QLinearConv")
        held = next(value for value in model.graph.initializer if value.name == node.input[3])
        held.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(held)[::-1].copy(), held.name))

    assert "weights as requantized" in failed(lint(onnx_file(tmp_path, swap, path), "int8-float-io", reference=source))


def test_the_worst_weight_is_named(tmp_path: Path) -> None:
    check = named(lint(mutated(tmp_path, one_step), "int8", reference=FP32), "weights as requantized")
    assert check.value == pytest.approx(1, abs=0.51)
    assert "convolution" in check.detail


def test_a_softmax_has_the_scale_of_its_kernel(tmp_path: Path) -> None:
    def softmax(model: Any, graph: Any) -> None:
        model.operatorCodes[graph.operators[-1].opcodeIndex].builtinCode = 25
        model.operatorCodes[graph.operators[-1].opcodeIndex].deprecatedBuiltinCode = 25

    rule = "softmax and its kin with other scales than their kernels'"
    assert rule in failed(lint(mutated(tmp_path, softmax), "int8"))

    def right(model: Any, graph: Any) -> None:
        softmax(model, graph)
        quantization = graph.tensors[graph.operators[-1].outputs[0]].quantization
        quantization.scale, quantization.zeroPoint = np.array([1 / 256], np.float32), np.array([-128])

    assert rule not in failed(lint(mutated(tmp_path, right), "int8"))


def test_weights_behind_the_flatbuffer_are_found(tmp_path: Path) -> None:
    stored = {}

    def outside(model: Any, graph: Any) -> None:
        buffer = model.buffers[graph.tensors[convolution(model, graph).inputs[1]].buffer]
        stored["data"] = bytes(buffer.data)
        buffer.data, buffer.offset, buffer.size = None, 2**20, len(stored["data"])

    path = mutated(tmp_path, outside)
    content = path.read_bytes()
    path.write_bytes(content + bytes(2**20 - len(content)) + stored["data"])
    assert "buffers outside the flatbuffer" in failed(lint(path, "int8", target="tflm"))
    assert "buffers outside the flatbuffer" not in failed(lint(path, "int8", target="litert"))


def test_a_file_with_more_than_its_weights_is_too_large(tmp_path: Path) -> None:
    def ballast(model: Any, _graph: Any) -> None:
        model.buffers[0].data = None
        extra = type(model.buffers[1])()
        extra.data = np.zeros(200_000, np.uint8)
        model.buffers.append(extra)

    assert failed(lint(mutated(tmp_path, ballast), "int8")) == {"size over the expected"}


def test_an_operator_that_the_target_lacks_is_named(tmp_path: Path) -> None:
    def unknown(model: Any, graph: Any) -> None:
        code = model.operatorCodes[graph.operators[0].opcodeIndex]
        code.builtinCode, code.deprecatedBuiltinCode = 152, 127  # RELU_0_TO_1

    checks = lint(mutated(tmp_path, unknown), "int8", target="tflm")
    assert named(checks, "operators that tflm lacks").detail.endswith("RELU_0_TO_1")
    assert {"operators that tflm lacks", "loads in tflm"} <= failed(checks)


def test_a_transpose_is_counted_and_fails_on_a_microcontroller(tmp_path: Path) -> None:
    def transpose(model: Any, graph: Any) -> None:
        code = model.operatorCodes[graph.operators[0].opcodeIndex]
        code.builtinCode = code.deprecatedBuiltinCode = 39

    path = mutated(tmp_path, transpose)
    assert named(lint(path, "int8"), "TRANSPOSE").value > 0
    assert "TRANSPOSE" not in failed(lint(path, "int8"))
    assert "TRANSPOSE" in failed(lint(path, "int8", target="ethos-u"))


def test_a_file_of_another_format_does_not_suit_the_target() -> None:
    assert failed(lint(EXPORTS / "fashion_mnist.fp32.onnx", "fp32", target="tflm")) == {"format"}


def test_the_form_with_integer_operators_is_read(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        rows = iter([{"input": np.random.default_rng(0).normal(size=(1, 1, 28, 28)).astype(np.float32)}])

        def get_next(self) -> Any:
            return next(self.rows, None)

    path, source = tmp_path / "q.onnx", EXPORTS / "fashion_mnist.fp32.onnx"
    quantize_static(
        source, path, Reader(), quant_format=QuantFormat.QOperator, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    assert onnxruntime.InferenceSession(path).get_inputs()[0].name == "input"
    assert failed(lint(path, "int8-float-io", reference=source)) <= {"weights as requantized"}


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(InputError, match="unknown target 'esp32'; choose from tflm"):
        lint(INT8, "int8", target="esp32")
    assert set(TARGETS) == {"tflm", "litert", "ort", "ethos-u"}


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("name", ["fashion_mnist.int8.tflite", "fashion_mnist.int8.onnx"])
def test_a_file_cut_short_is_refused(tmp_path: Path, name: str, share: float) -> None:
    path = Path(shutil.copy(EXPORTS / name, tmp_path))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InputError, match="export it again"):
        lint(path, "int8", reference=FP32)


# calibration


def pictures(number: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(0.2, 0.7, (number, 3, 8, 8)).astype(np.float32)


def test_a_calibration_on_pictures_of_the_same_kind_passes() -> None:
    assert failed(calibration_checks(statistics(pictures(100)), pictures(50, 1))) == set()


@pytest.mark.parametrize(
    ("seen", "rule"),
    [
        (pictures(1), "calibration inputs"),
        (np.repeat(pictures(1), 100, axis=0), "calibration inputs that differ"),
        (pictures(100) + 1, "calibration mean against evaluation"),
        (pictures(100) * 255, "calibration spread against evaluation"),
        (pictures(100) / 2, "calibration spread against evaluation"),
    ],
)
def test_another_calibration_fails(seen: np.ndarray[Any, np.dtype[np.float32]], rule: str) -> None:
    assert rule in failed(calibration_checks(statistics(seen), pictures(50, 1)))


def test_a_sidecar_that_says_nothing_is_not_checked() -> None:
    assert [check.verdict for check in calibration_checks({}, pictures(5))] == [Verdict.NOT_CHECKED]


def test_inputs_outside_the_range_of_the_file_are_counted() -> None:
    rule = "inputs outside the file's range"
    inside = np.zeros((2, 1, 28, 28), np.float32)
    assert named(lint(INT8, "int8", evaluated=inside), rule).value == 0
    assert rule in failed(lint(INT8, "int8", evaluated=inside + 100))
