import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbedge import benchmark, files
from nbedge.benchmark import engines, local, measurement, worker
from nbedge.errors import InputError, MissingDependencyError

FAST: dict[str, Any] = {"processes": 2, "seconds": 0.01}


def conv_relu(path: Path) -> Path:
    """Write a convolution and a ReLU with a dynamic batch size."""
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper, float32 = onnx.helper, onnx.numpy_helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", float32, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("y", float32, ["n", 4, 14, 14])],
        [numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_measures_an_onnx_file(tmp_path: Path) -> None:
    path = conv_relu(tmp_path / "tiny.onnx")
    calls: list[tuple[int, int]] = []
    (found,) = benchmark.measure([path], **FAST, progress=lambda *done: calls.append(done))
    assert calls == [(1, 2), (2, 2)]
    assert (found.file, found.sha256, found.size_bytes) == ("tiny.onnx", files.sha256(path), path.stat().st_size)
    assert found.runtime.startswith("onnxruntime ")
    assert found.kernels.startswith("ort")
    assert (found.threads, found.processes) == (1, 2)
    assert found.samples >= 200
    assert 0 < found.min_ms <= found.median_ms <= found.max_ms
    assert found.min_ms <= found.p90_ms <= found.max_ms
    assert found.verdict in ("stable", "noisy")
    if sys.platform == "linux":
        assert found.peak_rss_bytes is not None
        assert found.baseline_rss_bytes is not None
        assert 0 < found.peak_rss_bytes < 2**30


@pytest.mark.group("export")
def test_measures_a_tflite_file(tmp_path: Path) -> None:
    program = """
import sys, tensorflow as tf
class Tiny(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((1, 8, 8, 3))])
    def __call__(self, x):
        return tf.nn.relu(tf.nn.conv2d(x, tf.ones((3, 3, 3, 4)), 1, "VALID"))
tiny = Tiny()
made = tf.lite.TFLiteConverter.from_concrete_functions([tiny.__call__.get_concrete_function()], tiny).convert()
open(sys.argv[1], "wb").write(made)
"""
    pytest.importorskip("tensorflow")
    path = tmp_path / "tiny.tflite"
    # in a process of its own: tensorflow warns of what we cannot change
    subprocess.run([sys.executable, "-c", program, str(path)], check=True, capture_output=True)
    (found,) = benchmark.measure([path], **FAST)
    assert found.runtime.split()[0] in engines.TFLITE.values()
    assert found.kernels == "xnnpack"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"tiny\.tflite could not be run \(exit status .+\); check that the file"):
        benchmark.measure([path], **FAST)


def outcome(*times: float) -> dict[str, Any]:
    return {
        "runtime": "onnxruntime 1",
        "kernels": "ort-avx2",
        "init_ms": times[0],
        "first_ms": times[-1],
        "samples": len(times),
        "calls_per_sample": 1,
        "samples_ms": list(times),
        "peak_rss_bytes": 1000,
        "baseline_rss_bytes": None,
    }


def test_files_are_interleaved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def spawn(path: Path, seconds: float, threads: int) -> dict[str, Any]:
        order.append(path.name)
        return outcome(1.0)

    monkeypatch.setattr(local, "_spawn", spawn)
    paths = [tmp_path / "a.onnx", tmp_path / "b.tflite"]
    for path in paths:
        path.write_bytes(b"x")
    found = benchmark.measure(paths, processes=3)
    assert order == ["a.onnx", "b.tflite"] * 3
    assert [m.file for m in found] == ["a.onnx", "b.tflite"]


def test_the_process_is_the_unit(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"abc")
    found = measurement.summarize(path, 1, [outcome(1.0, 1.0, 1.0, 1.0, 1.0), outcome(1.0), outcome(3.0)])
    assert found.median_ms == 1.0
    assert found.spread == 2.0
    assert found.verdict == "noisy"
    assert (found.samples, found.max_ms) == (7, 3.0)
    assert found.p90_ms == pytest.approx(1.8)
    assert (found.peak_rss_bytes, found.baseline_rss_bytes) == (1000, None)
    assert measurement.summarize(path, 1, [outcome(1.0), outcome(1.05)]).verdict == "stable"


def test_json_has_units_in_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"abc")
    values = json.loads(json.dumps(measurement.summarize(path, 2, [outcome(1.0)]).to_dict()))
    assert values["schema_version"] == 1
    assert values["timed"] == "invoke only"
    wanted = {"latency_median_ms", "latency_p90_ms", "latency_min_ms", "latency_max_ms", "latency_iqr_ms",
              "first_inference_ms", "init_ms", "peak_rss_bytes", "baseline_rss_bytes", "size_bytes"}  # fmt: skip
    assert wanted <= values.keys()
    assert not {"median_ms", "first_ms"} & values.keys()


def test_short_calls_are_batched_and_long_lists_thinned() -> None:
    count = [0]

    def invoke() -> None:
        count[0] += 1

    times = worker.sample(invoke, 0.001, 7)
    assert count[0] == 7 * len(times) >= 700
    many = np.arange(10_001.0)
    thin = worker.thinned(many)
    assert len(thin) == worker.PRINTED
    assert (thin[0], thin[-1], float(np.median(thin))) == (0, 10_000, 5_000)


def test_inputs_are_seeded_and_of_the_right_type() -> None:
    for dtype in ("float32", "float16", "int8", "uint8", "int64", "bool"):
        first, second = (engines.random_input((1, 3, 4), dtype) for _ in range(2))
        assert first.dtype == dtype
        assert first.shape == (1, 3, 4)
        assert (first == second).all()
    with pytest.raises(InputError, match="object cannot be made up"):
        engines.random_input((1,), "object")


def test_refuses_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    with pytest.raises(InputError, match=r"net\.onnx does not exist"):
        benchmark.measure([path])
    path.write_bytes(b"not a network")
    with pytest.raises(InputError, match=r"'ssh://pi'; supported is 'local'"):
        benchmark.measure([path], on="ssh://pi")
    with pytest.raises(InputError, match="processes=0"):
        benchmark.measure([path], processes=0)
    with pytest.raises(InputError, match="no file to measure"):
        benchmark.measure([])
    pickled = tmp_path / "net.pth"
    pickled.touch()
    with pytest.raises(InputError, match=r"net\.pth cannot be measured; files that can end in \.onnx or \.tflite"):
        benchmark.measure([pickled])


def test_a_file_cut_short_names_itself_and_the_cause(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = conv_relu(tmp_path / "cut.onnx")
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match=r"cut\.onnx could not be run \(exit status 1: .+\); check") as caught:
        benchmark.measure([path], **FAST)
    assert "\n" not in str(caught.value)


def test_a_missing_runtime_is_reported_by_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"x")
    # a module that fails to import the way a missing one does, in front of the real one
    (tmp_path / "onnxruntime.py").write_text("raise ModuleNotFoundError('gone', name='onnxruntime')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match=r"'onnxruntime' is not installed; run: pip install 'nbedge\[onnx"):
        benchmark.measure([path])


def test_a_missing_interpreter_names_all_that_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in engines.TFLITE:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=r"'ai-edge-litert' or .+pip install 'nbedge\[tflite\]'"):
        engines.TFLite()


def test_conditions_are_plain_json() -> None:
    found = benchmark.conditions()
    assert json.loads(json.dumps(found)) == found
    assert {"cpu_model", "cores", "kernel", "os", "python", "load_average_1min", "governor"} <= found.keys()


def test_measuring_loads_neither_torch_nor_tensorflow() -> None:
    program = "import sys, nbedge.benchmark.worker; print(sorted({'torch', 'tensorflow', 'onnx'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
