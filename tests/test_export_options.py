"""Files of every scheme, input and head, from the command line to `verify`; each is real and runs."""

import json
import shutil
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nbedge import artifact, data
from nbedge.cli.subject import open_subject
from nbedge.conversion import Options, export, process
from nbedge.conversion.workshop import Exported, Workshop
from nbedge.environments import ENVIRONMENTS
from nbedge.errors import GateError
from nbedge.exporter import Job, exporters
from nbedge.graph import read
from nbedge.runtime import answers, open_file, raw_answers
from nbedge.verification.agreement import sqnr_db

pytest.importorskip("onnx2tf")
SAMPLE = Path(__file__).parent.parent / "sample_models" / "fashion_mnist"
CELLS = SAMPLE.with_name("blood_cells")
#: made by `make test`
ENVIRONMENTS_HERE = Path(__file__).parent.parent / ".venv-environments"
TINY, DATA = SAMPLE / "chosen.safetensors", f"npz:{SAMPLE / 'data.npz'}"


def call(line: str, status: int = 0) -> str:
    command = [sys.executable, "-m", "nbedge", *line.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status == 0 else done.stderr


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of files that take pixels and give probabilities, in every scheme and format."""
    out = tmp_path_factory.mktemp("pixels")
    schemes = "fp32,fp16,dynamic,int8,int8-float-io,int8x16"
    line = f"export {TINY} --quant {schemes} --calib {DATA} --samples 100 --name f"
    call(f"{line} --out {out} --input-type uint8-image --head softmax")
    return out


FILES = [
    f"f.{scheme}.{format}"
    for scheme in ("fp32", "fp16", "dynamic", "int8", "int8-float-io", "int8x16") for format in ("onnx", "tflite")
]  # fmt: skip


@pytest.mark.group("export")
@pytest.mark.parametrize("name", FILES)
def test_a_file_takes_the_bytes_of_a_picture_and_gives_probabilities(pixels: Path, name: str) -> None:
    about, runner = artifact.read(pixels / name), open_file(pixels / name)
    assert (about.inputs[0].dtype, about.head, about.prepared().takes_pixels) == ("uint8", "softmax", True)
    assert (about.inputs[0].scale, about.inputs[0].zero_point) in ((1.0, 0), (0.0, 0))
    pictures = np.load(SAMPLE / "data.npz")["test_images"][:20].reshape(-1, 1, 28, 28)
    raw = raw_answers(runner, pictures.astype(np.float32))[runner.outputs[0].name].astype(np.float32)
    exit_ = about.outputs[0]
    given = (raw - exit_.zero_point) * exit_.scale if exit_.scale else raw
    np.testing.assert_allclose(given.sum(1), 1, atol=0.03)
    assert {verdict["verdict"] for verdict in about.verdicts} == {"PASS"}


@pytest.mark.group("export")
@pytest.mark.parametrize("name", ["f.fp32.onnx", "f.int8.onnx", "f.fp32.tflite", "f.int8.tflite"])
def test_verify_gives_the_checkpoint_the_input_and_the_head_of_a_file(pixels: Path, name: str) -> None:
    assert "PASS" in call(f"verify {TINY} {pixels / name} --data {DATA} --pictures 100")


@pytest.mark.group("export")
def test_verify_compares_a_file_of_pixels_with_one_of_floats(pixels: Path) -> None:
    floats = SAMPLE / "exports" / "fashion_mnist.fp32.onnx"
    assert "PASS" in call(f"verify {floats} {pixels / 'f.fp32.tflite'} --data {DATA} --pictures 100")
    assert "PASS" in call(f"verify {pixels / 'f.fp32.onnx'} {floats} --data {DATA} --pictures 100")


@pytest.mark.group("export")
def test_the_border_of_a_normalisation_inside_is_right(pixels: Path) -> None:
    done = call(f"verify {TINY} {pixels / 'f.fp32.onnx'} --json")
    checks = [c for edge in json.loads(done)["edges"] for c in edge["checks"]]
    assert next(c for c in checks if c["name"] == "float error, extreme")["verdict"] == "PASS"


@pytest.fixture(scope="session")
def schema() -> ModuleType:
    """Return the reader that Google generates of the schema of TFLite Metadata, out of the wheel of mediapipe."""
    wheel = next(iter((ENVIRONMENTS_HERE / "readers").glob("mediapipe-*.whl")), None)
    if wheel is None:
        pytest.skip("make setup-environments")
    name = "mediapipe/tasks/metadata/metadata_schema_py_generated.py"
    found = ModuleType("metadata_schema")
    with zipfile.ZipFile(wheel) as held:
        exec(compile(held.read(name), name, "exec"), found.__dict__)
    return found


def metadata(path: Path, schema: ModuleType) -> Any:
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(path))
    held = next(bytes(model.buffers[e.buffer].data) for e in model.metadata if e.name == b"TFLITE_METADATA")
    assert schema.ModelMetadata.ModelMetadataBufferHasIdentifier(held, 0)
    return schema.ModelMetadataT.InitFromObj(schema.ModelMetadata.GetRootAsModelMetadata(held, 0))


@pytest.mark.group("export")
@pytest.mark.parametrize("name", [name for name in FILES if name.endswith("tflite")])
def test_another_reader_finds_metadata_and_labels_inside(pixels: Path, schema: ModuleType, name: str) -> None:
    graph = metadata(pixels / name, schema).subgraphMetadata[0]
    entry, exit_ = graph.inputTensorMetadata[0], graph.outputTensorMetadata[0]
    numbers = entry.processUnits[0].options
    assert (list(numbers.mean), list(numbers.std)) == ([0.0], [1.0])
    assert entry.content.contentProperties.colorSpace == schema.ColorSpaceType.GRAYSCALE
    (labels,) = exit_.associatedFiles
    assert labels.type == schema.AssociatedFileType.TENSOR_AXIS_LABELS
    with zipfile.ZipFile(pixels / name) as held:
        assert held.read(labels.name.decode()).decode().splitlines() == list(artifact.read(pixels / name).classes)


@pytest.mark.group("export")
def test_metadata_hold_the_normalisation_of_a_float_input(tmp_path: Path, schema: ModuleType) -> None:
    call(f"export {TINY} --format tflite --quant fp32 --calib {DATA} --out {tmp_path} --name f")
    numbers = metadata(tmp_path / "f.fp32.tflite", schema).subgraphMetadata[0].inputTensorMetadata[0].processUnits[0]
    about = artifact.read(tmp_path / "f.fp32.tflite").prepared()
    np.testing.assert_allclose(numbers.options.mean, np.asarray(about.mean) * 255, rtol=1e-6)
    np.testing.assert_allclose(numbers.options.std, np.asarray(about.std) * 255, rtol=1e-6)


@pytest.mark.group("export")
@pytest.mark.parametrize(
    "options", ["--target tflm", "--target ethos-u --input-type uint8-image"], ids=["tflm", "pixels for ethos-u"]
)
def test_a_file_for_a_microcontroller_holds_no_metadata(tmp_path: Path, options: str) -> None:
    call(f"export {TINY} --format tflite --quant int8 --calib {DATA} --out {tmp_path} --name f {options}")
    path = tmp_path / "f.int8.tflite"
    assert not zipfile.is_zipfile(path)
    assert "TFLITE_METADATA" not in read(path).metadata


@pytest.mark.group("export")
@pytest.mark.parametrize(
    ("target", "activation", "steps"), [("x86-vnni", "uint8", 127), ("x86-avx2", "uint8", 64), ("arm", "int8", 127)]
)
def test_integer_types_are_those_of_the_target(tmp_path: Path, target: str, activation: str, steps: int) -> None:
    call(f"export {TINY} --format onnx --quant int8 --calib {DATA} --out {tmp_path} --name f --target {target}")
    graph = read(tmp_path / "f.int8.onnx")
    assert graph.tensors[graph.inputs[0]].dtype == activation
    weights = [t.data for t in graph.constants() if t.name.endswith("weight_quantized") and t.data is not None]
    assert max(int(np.abs(w.astype(int)).max()) for w in weights) == steps


@pytest.mark.group("export")
def test_an_onnx_file_of_any_batch_and_operator_set(tmp_path: Path) -> None:
    import onnx

    options = "--batch dynamic --opset 23 --operators qoperator --method percentile"
    call(f"export {TINY} --format onnx --quant fp32,int8 --calib {DATA} --out {tmp_path} --name f {options}")
    model = onnx.load(tmp_path / "f.fp32.onnx")
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 23)]
    assert model.ir_version == 11  # the first that has this operator set
    for name in ("f.fp32.onnx", "f.int8.onnx"):
        assert artifact.read(tmp_path / name).inputs[0].shape == (0, 1, 28, 28)
        assert open_file(tmp_path / name).inputs[0].shape[0] == 0
    assert {"QLinearConv", "QGemm"} <= {node.op_type for node in onnx.load(tmp_path / "f.int8.onnx").graph.node}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--format onnx --method moving-average", "onnx-int8 (onnxruntime) has no method 'moving-average'"),
        ("--format tflite --operators qoperator", "operators 'qoperator' has no effect on these files"),
        ("--format onnx --target pi", "unknown target 'pi'"),
        ("--format tflite --backend tvm", "no installed exporter has the backend 'tvm'"),
        ("--format onnx --opset 9", "has no opset '9'"),
    ],
)
def test_options_that_cannot_be_met_are_refused_before_anything_is_made(
    tmp_path: Path, options: str, words: str
) -> None:
    done = call(f"export {TINY} --calib {DATA} --out {tmp_path / 'out'} {options}", status=2)
    assert words in done
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def litert() -> Iterator[None]:
    """Let the environment of litert-torch be the one that `make test` has made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(ENVIRONMENTS_HERE))
        if not ENVIRONMENTS["litert"].ready:
            pytest.skip("make setup-environments")
        yield


@pytest.fixture(scope="module")
def twice(litert: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Return a folder of files that two converters have made, and what the command line says of each."""
    out = tmp_path_factory.mktemp("twice")
    line = f"export {TINY} --quant fp32,int8,int8-float-io,int8x16 --calib {DATA} --out {out} --name f"
    done = call(f"{line} --backend onnx2tf,litert --json")
    return out, {found["file"]: found for found in json.loads(done)["files"]}


@pytest.mark.group("export")
@pytest.mark.parametrize("scheme", ["fp32", "int8", "int8-float-io", "int8x16"])
def test_two_converters_make_the_same_of_a_network(twice: tuple[Path, dict[str, Any]], scheme: str) -> None:
    (out, files), name = twice, f"f.{scheme}.tflite"
    assert "onnx2tf" in files[name]["tools"]
    edge = files[name]["verification"]["edges"][-1]
    assert (edge["reference"], edge["verdict"]) == (f"{name} of litert", "PASS")
    assert artifact.read(out / name).verdicts[-1]["reference"] == f"{name} of litert"
    edges = files[f"f.{scheme}.onnx"]["verification"]["edges"]
    assert not any("of litert" in edge["reference"] for edge in edges)


@pytest.mark.group("export")
@pytest.mark.usefixtures("litert")
@pytest.mark.parametrize("scheme", ["fp32", "int8"])
def test_two_converters_that_disagree_keep_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    def agreeing(
        work: Workshop, exported: Exported, other: Exported, backend: str, right: Any = Workshop.agreeing
    ) -> Any:
        shutil.copyfile(SAMPLE / "exports" / f"fashion_mnist.{scheme}.tflite", other.artifact.path)
        return right(work, exported, other, backend)

    monkeypatch.setattr(Workshop, "agreeing", agreeing)
    control = open_subject(str(SAMPLE / "control.safetensors"))
    assert isinstance(control.model, nn.Module)
    assert control.preprocessing is not None
    x = control.preprocessing(np.load(SAMPLE / "data.npz")["test_images"][:100])
    with pytest.raises(
        GateError, match=rf"^model\.{scheme}\.tflite is not kept: .* \(limit .* against .* of litert; see"
    ):
        export(
            control.model, torch.zeros(1, 1, 28, 28), calibration=x, preprocess=control.preprocessing, out=tmp_path,
            classes=control.classes, formats=["tflite"], quant=[scheme], options=Options(("onnx2tf", "litert")),
        )  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


@pytest.mark.group("export")
@pytest.mark.usefixtures("litert")
def test_the_second_converter_makes_every_scheme_without_tensorflow(tmp_path: Path) -> None:
    from ai_edge_litert.schema_py_generated import ActivationFunctionType

    relu6 = ActivationFunctionType.RELU6
    options = "--format tflite --quant fp32,fp16,dynamic,int8,int8-float-io,int8x16 --backend litert"
    call(f"export {TINY} --calib {DATA} --out {tmp_path} --name f {options}")
    for scheme in ("fp32", "int8"):
        about = artifact.read(tmp_path / f"f.{scheme}.tflite")
        assert "tensorflow" not in about.tools
        assert about.inputs[0].layout == "NHWC"
        operators = read(tmp_path / f"f.{scheme}.tflite").operators
        # nothing is transposed; each BatchNorm and each of the 15 ReLU6 is in the layer before it
        assert Counter(operator.kind for operator in operators) == {
            "PAD": 2, "CONV_2D": 14, "DEPTHWISE_CONV_2D": 8, "ADD": 5, "MEAN": 1, "FULLY_CONNECTED": 1,
        }  # fmt: skip
        assert [operator.options.get("fusedActivationFunction") for operator in operators].count(relu6) == 15
    assert artifact.read(tmp_path / "f.fp32.tflite").tools["litert-torch"].startswith("0.10")


# what the exporters write, before anybody judges it


def write(name: str, source: Path, targets: dict[str, Path], calibration: Path) -> None:
    """Let an exporter do its work, in a process and an empty folder of its own."""
    workdir = Path(tempfile.mkdtemp(dir=calibration.parent))
    process.run(name, exporters()[name], Job(source, targets, calibration, workdir), workdir / "log")


@pytest.fixture(scope="module")
def wide(litert: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of both converters' files of a network with 333 thousand weights in one layer."""
    folder = tmp_path_factory.mktemp("wide")
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 512, 1), nn.ReLU6(), nn.Conv2d(512, 650, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1)]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(650, 10)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch of itself
        torch.export.save(torch.export.export(net, (torch.zeros(1, 3, 8, 8),)), folder / "net.pt2")
    calibration = folder / "calibration.npy"
    np.save(calibration, torch.randn(4, 3, 8, 8).numpy())
    write("onnx", folder / "net.pt2", {"fp32": folder / "net.onnx"}, calibration)
    write("tflite", folder / "net.onnx", {s: folder / f"onnx2tf.{s}.tflite" for s in WIDE["onnx2tf"]}, calibration)
    first, *others = ((scheme, folder / f"litert.{scheme}.tflite") for scheme in WIDE["litert"])
    write("tflite-litert", folder / "net.pt2", dict([first]), calibration)
    write("tflite-quantizer", first[1], dict(others), calibration)
    return folder


#: backend -> schemes that it writes, the one that others are made of first
WIDE = {
    "onnx2tf": ("fp32", "fp16", "int8", "int8-float-io", "int8x16"),
    "litert": ("fp32", "fp16", "dynamic", "int8", "int8-float-io", "int8x16"),
}


@pytest.mark.group("export")
@pytest.mark.parametrize("name", [f"{backend}.{scheme}" for backend, schemes in WIDE.items() for scheme in schemes])
def test_large_weights_lie_inside_the_flatbuffer(wide: Path, name: str) -> None:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf((wide / f"{name}.tflite").read_bytes(), 0)
    assert {(buffer.offset, buffer.size) for buffer in model.buffers} == {(0, 0)}
    assert max(len(buffer.data) for buffer in model.buffers if buffer.data is not None) >= 512 * 650


@pytest.mark.group("export")
@pytest.mark.parametrize(("name", "suffix"), [("tflite", "onnx"), ("tflite-quantizer", "tflite")])
def test_ranges_are_the_least_and_the_largest_value_seen(tmp_path: Path, name: str, suffix: str) -> None:
    source, plain = (CELLS / "exports" / f"blood_cells.fp32.{ending}" for ending in (suffix, "tflite"))
    about = artifact.read(plain).prepared()
    pictures = data.load(f"folder:{CELLS / 'data'}", (3, 96, 96))
    np.save(tmp_path / "calibration.npy", about(pictures.calibration.images[:]))
    shutil.copyfile(source, tmp_path / source.name)
    write(name, tmp_path / source.name, {"int8": tmp_path / "int8.tflite"}, tmp_path / "calibration.npy")
    x = about(pictures.test.images[:])
    (wanted,), (found,) = (answers(open_file(path), x).values() for path in (plain, tmp_path / "int8.tflite"))
    # a moving average of them, that quantizer's own default, gives 15 dB
    assert sqnr_db(wanted, found) >= 28


def test_an_environment_that_is_not_there_is_named_with_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    done = call(f"export {TINY} --format tflite --calib {DATA} --out {tmp_path / 'out'} --backend litert", status=3)
    assert "the package 'litert-torch' is not installed; run: nbedge doctor --install litert" in done
    assert not (tmp_path / "out").exists()


@pytest.mark.group("export")
def test_a_full_disk_is_one_sentence_and_nothing_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "full"
    out.mkdir()
    mounted = f"mount -t tmpfs -o size=48k none {out} && "
    enter = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.run([*enter, f"{mounted} true"], check=False).returncode:
        pytest.skip("this machine lets no user mount a small disk")
    line = f"{sys.executable} -m nbedge export {TINY} --format onnx --calib {DATA} --samples 20 --out {out} --overwrite"
    done = subprocess.run(
        [*enter, f"{mounted} {line}; status=$?; ls {out}; exit $status"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"nbedge: {out}/")
    assert "No space left on device; check the path, its permissions and the space on the disk" in last
    assert "Traceback" not in done.stderr
    assert set(done.stdout.split()) <= {"logs", "chosen.fp32.onnx", "chosen.fp32.onnx.json"}
