"""Real conversions of a small net, each in a process that may neither reach the network nor leave files behind."""

import json
import os
import subprocess
import sys
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nbedge.artifact import TensorSpec
from nbedge.conversion.process import environment
from nbedge.errors import ExportError
from nbedge.exporter import Job, exporters
from nbedge.runtime import Runner, of_onnx, open_file
from nbedge.runtime.onnx import optimization_levels
from nbedge.verification import Limits, Verdict, levels
from nbedge.verification.levels import levels_agree
from nbedge_exporters import onnx, onnx_int8

Array = NDArray[np.float32]

#: argv: name of the exporter, then the fields of the job
CONVERT = """
import json, socket, sys
from pathlib import Path
from nbedge.exporter import Job, exporters

def refuse(*_):
    raise AssertionError("the converter wants the network")

socket.socket.connect = socket.getaddrinfo = refuse
name, source, targets, calibration, workdir, settings = json.loads(sys.argv[1])
targets = {scheme: Path(target) for scheme, target in targets.items()}
exporters()[name].convert(Job(Path(source), targets, Path(calibration), Path(workdir), settings))
"""


def unit(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6())


class Net(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem = unit(channels, 16, 3, stride=2)
        self.branch = nn.Sequential(unit(16, 16, 3, groups=16), nn.Conv2d(16, 16, 1, bias=False), nn.BatchNorm2d(16))
        self.head = unit(16, 32, 1)
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.classifier(self.head(x + self.branch(x)))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Converted:
    folder: Path
    pictures: Array  # also the calibration; the greatest value is in the last one only
    logits: Array

    @property
    def elsewhere(self) -> Path:
        return self.folder / "elsewhere"


def trained_a_little(channels: int, size: int) -> Net:
    torch.manual_seed(0)
    net = Net(channels).train()
    for _ in range(10):
        net(torch.randn(32, channels, size, size))
    return net.eval()


def write_program(net: Net, shape: tuple[int, ...], path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch of itself
        torch.export.save(torch.export.export(net, (torch.zeros(shape),)), path)


def convert(
    at: Converted, name: str, source: str, targets: dict[str, str], settings: dict[str, str] | None = None,
    run: str = "first",
) -> None:  # fmt: skip
    workdir = at.folder / f"{run}-{name}"
    workdir.mkdir()
    paths = {scheme: str(at.folder / target) for scheme, target in targets.items()}
    job = [name, str(at.folder / source), paths, str(at.folder / "calibration.npy"), str(workdir), settings or {}]
    unset = ("TORCHINDUCTOR_CACHE_DIR", "ORT_DISABLE_TELEMETRY", "KERAS_HOME")
    environ = {key: value for key, value in os.environ.items() if key not in unset}
    places = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME"), str(at.elsewhere))
    command = [sys.executable, "-c", CONVERT, json.dumps(job)]
    given = {**environ, **places, **environment(workdir)}
    done = subprocess.run(command, cwd=at.elsewhere, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def named(format: str, *schemes: str) -> dict[str, str]:
    return {scheme: f"{scheme}.{format}" for scheme in schemes}


@pytest.fixture(scope="module", params=[(1, 28), (3, 32)], ids=["gray", "rgb"])
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Converted:
    channels, size = request.param
    net = trained_a_little(channels, size)
    pictures = torch.randn(40, channels, size, size)
    pictures[-1, 0, 0, 0] = 8.0
    with torch.no_grad():
        at = Converted(tmp_path_factory.mktemp("exporters"), pictures.numpy(), net(pictures).numpy())
    at.elsewhere.mkdir()
    np.save(at.folder / "calibration.npy", at.pictures)
    write_program(net, (1, channels, size, size), at.folder / "net.pt2")
    convert(at, "onnx", "net.pt2", {"fp32": "fp32.onnx"})
    convert(at, "onnx-fp16", "fp32.onnx", {"fp16": "fp16.onnx"})
    convert(at, "onnx-int8", "fp32.onnx", named("onnx", "int8", "int8-float-io"))
    convert(at, "onnx-int8x16", "fp32.onnx", named("onnx", "int8x16"))
    convert(at, "onnx-dynamic", "fp32.onnx", named("onnx", "dynamic"))
    convert(at, "tflite", "fp32.onnx", named("tflite", "fp32", "fp16", "int8", "int8-float-io", "int8x16"))
    schemes = named("tflite", "fp16", "dynamic", "int8", "int8-float-io", "int8x16")
    convert(at, "tflite-quantizer", "fp32.tflite", {scheme: f"second-{file}" for scheme, file in schemes.items()})
    return at


def to_integer(x: Array, spec: TensorSpec) -> NDArray[Any]:
    if spec.dtype == "float32":
        return x
    limits = np.iinfo(spec.dtype)
    steps = np.rint(x / np.float32(spec.scale)) + spec.zero_point
    return np.asarray(np.clip(steps, limits.min, limits.max), dtype=spec.dtype)


def to_real(y: NDArray[Any], spec: TensorSpec) -> Array:
    return y if spec.dtype == "float32" else (y.astype(np.float32) - spec.zero_point) * np.float32(spec.scale)


def signature(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    runner = open_file(path)
    return runner.inputs, runner.outputs


def run_onnx(path: Path, pictures: Array) -> Array:
    import onnxruntime

    (entry,), (exit_,) = signature(path)
    session = onnxruntime.InferenceSession(path)
    inputs = to_integer(pictures, entry)
    return to_real(np.concatenate([session.run(None, {entry.name: x[None]})[0] for x in inputs]), exit_)


def interpreter(path: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return Interpreter(str(path), num_threads=1, experimental_op_resolver_type=plain)


def run_tflite(path: Path, pictures: Array) -> Array:
    (entry,), (exit_,) = signature(path)
    lite = interpreter(path)
    lite.allocate_tensors()
    outputs = []
    for x in to_integer(pictures.transpose(0, 2, 3, 1), entry):
        lite.set_tensor(lite.get_input_details()[0]["index"], x[None])
        lite.invoke()
        outputs.append(lite.get_tensor(lite.get_output_details()[0]["index"]))
    return to_real(np.concatenate(outputs), exit_)


def greatest(spec: TensorSpec) -> float:
    return float((np.iinfo(spec.dtype).max - spec.zero_point) * spec.scale)


def signal_to_noise(expected: Array, found: Array) -> float:
    return float(10 * np.log10(np.square(expected).sum() / np.square(expected - found).sum()))


@pytest.mark.group("export")
def test_float_files_give_what_torch_gives(converted: Converted) -> None:
    limit = 1e-4 * np.abs(converted.logits).max()
    for found in (
        run_onnx(converted.folder / "fp32.onnx", converted.pictures),
        run_tflite(converted.folder / "fp32.tflite", converted.pictures),
    ):
        np.testing.assert_allclose(found, converted.logits, rtol=0, atol=limit)


#: file -> least SQNR in dB against torch; files of more bits are better
QUANTIZED = {
    "fp16.onnx": 45, "dynamic.onnx": 20, "int8.onnx": 15, "int8-float-io.onnx": 15, "int8x16.onnx": 25,
    "fp16.tflite": 45, "int8.tflite": 15, "int8-float-io.tflite": 15, "int8x16.tflite": 25,
    "second-fp16.tflite": 45, "second-dynamic.tflite": 20, "second-int8.tflite": 15,
    "second-int8-float-io.tflite": 15, "second-int8x16.tflite": 25,
}  # fmt: skip


@pytest.mark.group("export")
@pytest.mark.parametrize("file", QUANTIZED)
def test_quantized_files_stay_close_to_torch(converted: Converted, file: str) -> None:
    run = run_onnx if file.endswith("onnx") else run_tflite
    assert signal_to_noise(converted.logits, run(converted.folder / file, converted.pictures)) > QUANTIZED[file]


#: file -> numpy types of its tensors, ends included
TYPES = {
    "fp16.tflite": {"float32", "float16", "int32"}, "int8.tflite": {"int8", "int32"},
    "int8-float-io.tflite": {"float32", "int8", "int32"}, "int8x16.tflite": {"int16", "int8", "int64", "int32"},
    "second-fp16.tflite": {"float32", "float16", "int32"}, "second-int8.tflite": {"int8", "int32"},
    "second-int8-float-io.tflite": {"float32", "int8", "int32"}, "second-dynamic.tflite": {"float32", "int8", "int32"},
    "second-int8x16.tflite": {"int16", "int8", "int64", "int32"},
}  # fmt: skip


@pytest.mark.group("export")
@pytest.mark.parametrize("file", TYPES)
def test_tflite_files_hold_the_types_of_their_scheme(converted: Converted, file: str) -> None:
    tensors = interpreter(converted.folder / file).get_tensor_details()
    assert {np.dtype(tensor["dtype"]).name for tensor in tensors} == TYPES[file]


def weights_and_scales(path: Path) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Return the weights of the integer operators of a dynamic file, and their scales."""
    import onnx as library

    graph = library.load(path).graph
    values = {tensor.name: library.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    names = [node.input[1] for node in graph.node if node.op_type in ("ConvInteger", "MatMulInteger")]
    assert len(names) == sum(value.dtype == np.int8 and value.ndim > 1 for value in values.values())
    return [(values[name], values[name.replace("quantized", "scale")]) for name in names]


@pytest.mark.group("export")
def test_every_weight_of_a_dynamic_onnx_file_has_a_scale_of_each_channel(converted: Converted) -> None:
    found = weights_and_scales(converted.folder / "dynamic.onnx")
    assert sorted(weight.ndim for weight, _ in found) == [2, 4, 4, 4, 4]
    for weight, scale in found:
        assert scale.size == (weight.shape[0] if weight.ndim == 4 else weight.shape[1])
        assert abs(weight).max() == 127


@pytest.mark.group("export")
def test_two_products_of_a_dynamic_file_fit_into_16_bits_without_vnni(converted: Converted) -> None:
    convert(converted, "onnx-dynamic", "fp32.onnx", {"dynamic": "avx2.onnx"}, {"target": "x86-avx2"}, run="avx2")
    for weight, _ in weights_and_scales(converted.folder / "avx2.onnx"):
        assert 2 * 255 * abs(weight.astype(int)).max() <= np.iinfo(np.int16).max
    found = run_onnx(converted.folder / "avx2.onnx", converted.pictures)
    assert signal_to_noise(converted.logits, found) > QUANTIZED["dynamic.onnx"] - 6


@pytest.mark.group("export")
def test_integer_io_only_moves_the_outer_steps_out_of_the_file(converted: Converted) -> None:
    step = signature(converted.folder / "int8.onnx")[1][0].scale
    inside = run_onnx(converted.folder / "int8-float-io.onnx", converted.pictures)
    outside = run_onnx(converted.folder / "int8.onnx", converted.pictures)
    assert np.abs(inside - outside).max() < 0.01 * step


@pytest.mark.group("export")
def test_onnx_graphs(converted: Converted) -> None:
    import onnx as library

    model = library.load(converted.folder / "fp32.onnx")
    ops = Counter(node.op_type for node in model.graph.node)
    assert ops == {"Conv": 4, "Clip": 3, "Add": 1, "ReduceMean": 1, "Reshape": 1, "Gemm": 1}
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]
    quantized = library.load(converted.folder / "int8.onnx")
    values = {tensor.name: tensor for tensor in quantized.graph.initializer}
    weights = [name for name in values if name.endswith("weight_quantized")]
    assert len(weights) == 5
    for name in weights:
        scales = values[name.replace("quantized", "scale")]
        assert list(scales.dims) == [values[name].dims[0]]
        assert values[name].data_type == library.TensorProto.INT8


@pytest.mark.group("export")
def test_tflite_graphs(converted: Converted) -> None:
    ops = {"PAD": 1, "CONV_2D": 3, "DEPTHWISE_CONV_2D": 1, "ADD": 1, "MEAN": 1, "FULLY_CONNECTED": 1}
    for scheme in ("fp32", "int8"):
        lite = interpreter(converted.folder / f"{scheme}.tflite")
        lite.allocate_tensors()
        assert Counter(op["op_name"] for op in lite._get_ops_details()) == ops
    tensors = interpreter(converted.folder / "int8.tflite").get_tensor_details()
    assert {np.dtype(tensor["dtype"]).name for tensor in tensors} == {"int8", "int32"}
    # one scale a channel: stem, depthwise, 1x1, head, classifier
    channels = Counter(len(t["quantization_parameters"]["scales"]) for t in tensors if t["dtype"] is np.int8)
    assert channels[16] == 3
    assert channels[32] == 1
    assert channels[10] == 1


@pytest.mark.group("export")
@pytest.mark.parametrize("file", ["fp32.onnx", "int8-float-io.onnx", "int8.onnx"])
def test_onnx_signatures(converted: Converted, file: str) -> None:
    (entry,), (exit_,) = signature(converted.folder / file)
    dtype = "uint8" if file == "int8.onnx" else "float32"
    assert (entry.name, entry.shape, entry.dtype) == ("input", (1, *converted.pictures.shape[1:]), dtype)
    assert (exit_.name, exit_.shape, exit_.dtype) == ("logits", (1, 10), dtype)
    assert (entry.layout, exit_.layout) == ("NCHW", "NC")
    assert (entry.scale > 0, exit_.scale > 0) == (dtype == "uint8",) * 2


@pytest.mark.group("export")
@pytest.mark.parametrize(("file", "dtype"), [("fp32.tflite", "float32"), ("int8.tflite", "int8")])
def test_tflite_signatures(converted: Converted, file: str, dtype: str) -> None:
    _, channels, height, width = converted.pictures.shape
    (entry,), (exit_,) = signature(converted.folder / file)
    assert (entry.name, entry.shape, entry.dtype) == ("serving_default_input:0", (1, height, width, channels), dtype)
    assert (exit_.name, exit_.shape, exit_.dtype) == ("PartitionedCall:0", (1, 10), dtype)
    assert (entry.layout, exit_.layout) == ("NHWC", "NC")
    assert (entry.scale > 0, exit_.scale > 0) == (dtype == "int8",) * 2


@pytest.mark.group("export")
def test_every_calibration_picture_is_seen(converted: Converted) -> None:
    for file in ("int8.onnx", "int8.tflite"):
        (entry,), _ = signature(converted.folder / file)
        assert greatest(entry) == pytest.approx(8.0, abs=entry.scale)


@pytest.mark.group("export")
@pytest.mark.parametrize("file", ["fp32.onnx", "int8.onnx"])
def test_every_level_of_optimization_that_onnx_runtime_has_is_run(
    converted: Converted, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    ran, session = [], onnxruntime.InferenceSession

    def noting(path: Path, options: Any, **more: Any) -> Any:
        ran.append(options.graph_optimization_level)
        return session(path, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", noting)
    found = levels_agree(converted.folder / file, converted.pictures[:4], file == "int8.onnx", Limits())
    assert found.verdict is Verdict.PASS
    assert ran == list(onnxruntime.GraphOptimizationLevel.__members__.values())
    assert found.detail == f"4 inputs; {', '.join(onnxruntime.GraphOptimizationLevel.__members__)}"


@pytest.mark.group("export")
@pytest.mark.parametrize("file", ["fp32.onnx", "int8.onnx"])
@pytest.mark.parametrize("factor", [0.5, np.nan])
def test_a_level_of_optimization_that_answers_otherwise_fails(
    converted: Converted, file: str, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(path: Path, level: str) -> Runner:
        runner = of_onnx(path, level=level)
        return replace(runner, run=lambda given: {name: y * factor for name, y in runner.run(given).items()})

    for wrong in optimization_levels():
        answering = {level: of_onnx for level in optimization_levels()} | {wrong: spoiled}
        monkeypatch.setattr(levels, "of_onnx", lambda path, level, how=answering: how[level](path, level=level))
        found = levels_agree(converted.folder / file, converted.pictures[:4], file == "int8.onnx", Limits())
        assert found.verdict is Verdict.FAIL


@pytest.mark.group("export")
def test_no_file_tells_of_the_machine(converted: Converted) -> None:
    traces = (b'File "', b"stack_trace", b"torch.nn", b"pkg.torch", b"site-packages", str(converted.folder).encode())
    for path in (*converted.folder.glob("*.onnx"), *converted.folder.glob("*.tflite")):
        content = path.read_bytes()
        assert [trace for trace in traces if trace in content] == []


@pytest.mark.group("export")
def test_nothing_is_left_elsewhere(converted: Converted) -> None:
    assert list(converted.elsewhere.rglob("*")) == []


@pytest.mark.group("export")
def test_a_second_process_writes_the_same_bytes(converted: Converted) -> None:
    convert(converted, "onnx", "net.pt2", {"fp32": "again.onnx"}, run="second")
    convert(converted, "onnx-int8", "again.onnx", {"int8": "again-int8.onnx"}, run="second")
    for first, again in (("fp32.onnx", "again.onnx"), ("int8.onnx", "again-int8.onnx")):
        assert (converted.folder / again).read_bytes() == (converted.folder / first).read_bytes()


# which of torch's two ONNX exporters


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("program")
    write_program(trained_a_little(1, 28), (1, 1, 28, 28), folder / "net.pt2")
    np.save(folder / "calibration.npy", torch.randn(8, 1, 28, 28).numpy())
    return folder


def do(name: str, source: Path, target: Path, scheme: str = "fp32", opset: str = "20") -> Any:
    """Let an exporter do its work in this process, where its parts can be spoiled; return what it wrote."""
    import onnx as library

    calibration = source.with_name("calibration.npy")
    exporters()[name].convert(Job(source, {scheme: target}, calibration, target.parent, {"opset": opset}))
    return library.load(target)


def spoil(monkeypatch: pytest.MonkeyPatch, *wrong: bool) -> None:
    """Let those of torch's exporters that are called with these values of `dynamo` double a weight."""
    from onnx import numpy_helper

    def export(program: Any, job: Job, dynamo: bool, right: Any = onnx._export) -> Any:
        model = right(program, job, dynamo)
        if dynamo in wrong:
            weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
            weight.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(weight), weight.name))
        return model

    monkeypatch.setattr(onnx, "_export", export)


#: torch says of its older exporter that it is old
OLDER = pytest.mark.filterwarnings("ignore")


@pytest.mark.group("export")
@pytest.mark.parametrize(("wrong", "writer"), [((), "torch.export"), ((True,), "torchscript")], ids=["right", "wrong"])
@OLDER
def test_a_file_says_which_exporter_of_torch_wrote_it_and_so_do_those_made_of_it(
    program: Path, tmp_path: Path, wrong: tuple[bool, ...], writer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, *wrong)
    written = [do("onnx", program / "net.pt2", program / f"{writer}.onnx")]
    for scheme in ("fp16", "int8"):
        written.append(do(f"onnx-{scheme}", program / f"{writer}.onnx", tmp_path / f"{scheme}.onnx", scheme))
    for model in written:
        assert {entry.key: entry.value for entry in model.metadata_props}[onnx.WRITER] == writer
        assert "BatchNormalization" not in {node.op_type for node in model.graph.node}


@pytest.mark.group("export")
@OLDER
def test_two_wrong_exporters_are_one_error(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, True, False)
    found = r"both .* answer wrongly \(max\|Δ\|/RMS: torch\.export \d.*, torchscript \d.*\); choose another --opset$"
    with pytest.raises(ExportError, match=found):
        do("onnx", program / "net.pt2", tmp_path / "wrong.onnx")
    assert not (tmp_path / "wrong.onnx").exists()


@pytest.mark.group("export")
@OLDER
def test_an_older_exporter_that_cannot_help_is_no_excuse_for_the_first(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, True)
    model = do("onnx", program / "net.pt2", tmp_path / "23.onnx", opset="23")
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 23)]
    found = r"answers wrongly \(max\|Δ\|/RMS \d.*\), and its older one cannot write operator set 25 \(.*25\); choose"
    with pytest.raises(ExportError, match=found):
        do("onnx", program / "net.pt2", tmp_path / "25.onnx", opset="25")


@pytest.mark.group("export")
@OLDER
def test_an_operator_set_that_torch_did_not_write_is_refused(program: Path, tmp_path: Path) -> None:
    found = r"^torch wrote ONNX of the operator sets {'': 18}, not 17; choose another --opset$"
    with pytest.raises(ExportError, match=found):
        do("onnx", program / "net.pt2", tmp_path / "17.onnx", opset="17")


def test_importing_the_exporters_is_cheap() -> None:
    heavy = {"torch", "onnx", "onnxruntime", "tensorflow", "onnx2tf", "ai_edge_litert", "ai_edge_quantizer"}
    code = "import sys; from nbedge.exporter import exporters; print(sorted(exporters()), *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(
        "['c', 'executorch', 'onnx', 'onnx-dynamic', 'onnx-fp16', 'onnx-int8', 'onnx-int8x16'"
    )
    assert heavy.isdisjoint(done.stdout.split())


def tiny_model(path: Path, op_type: str, shape: list[int | str]) -> Path:
    from onnx import TensorProto, helper, save

    entry, exit_ = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("input", "logits"))
    graph = helper.make_graph([helper.make_node(op_type, ["input"], ["logits"])], "tiny", [entry], [exit_])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_integer_io_is_refused_where_the_file_computes_in_float(tmp_path: Path) -> None:
    source = tiny_model(tmp_path / "tiny.onnx", "Erf", [1, 3, 4, 4])
    with pytest.raises(ExportError, match=r"'input' meets .'Erf'.*'int8-float-io'"):
        onnx_int8._write_integer_io(source, tmp_path / "int8.onnx", pixels=False)
