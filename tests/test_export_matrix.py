"""Options of export together: each file, run by its own runtime alone, gives the network's answers to real pictures."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nbedge import artifact
from nbedge.artifact import Artifact, TensorSpec
from nbedge.checkpoint import load_checkpoint
from nbedge.conversion import Options, export
from nbedge.environments import ENVIRONMENTS

pytest.importorskip("onnx2tf")
ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "sample_models" / "fashion_mnist"
#: pictures that quantizers see, and those that files are judged on here
SEEN, HELD = slice(0, 64), slice(0, 100)
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Files:
    """The files of one export of the sample, by format and scheme."""

    made: Mapping[str, Artifact]
    wanted: Array  # (n, 10) of the network, probabilities if the files give them
    seen: Array  # (n, 1, 28, 28) what the network takes
    pixels: NDArray[np.uint8]  # (n, 1, 28, 28) the calibration pictures


def pictures(part: str, some: slice) -> NDArray[np.uint8]:
    with np.load(SAMPLE / "data.npz") as data:
        found: NDArray[np.uint8] = data[f"{part}_images"][some].reshape(-1, 28, 28, 1)
    # never black nor white: what is quantized must not depend on it
    return np.asarray(found // 2 + 32, np.uint8)


def exported(out: Path, formats: str, quant: str, **options: Any) -> Files:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(ROOT / ".venv-environments"))
        if "litert" in options.get("backend", ()) and not ENVIRONMENTS["litert"].ready:
            pytest.skip("make setup-environments")
        model, about = load_checkpoint(SAMPLE / "chosen.safetensors")
        prepare, pixels = about.preprocessing, pictures("train", SEEN)
        made = export(
            model, torch.zeros(1, 1, 28, 28), formats=formats.split(","), quant=quant.split(","), name="f",
            calibration=prepare(pixels), check_on=prepare(pictures("train", HELD)), preprocess=prepare,
            classes=about.classes, out=out, options=Options(rungs=(), budget=100, **options),
        )  # fmt: skip
    with torch.inference_mode():
        wanted = model.eval()(torch.from_numpy(prepare(pictures("test", HELD))))
    wanted = wanted.softmax(1) if options.get("head") == "softmax" else wanted
    found = {f"{e.artifact.scheme}.{e.artifact.format}": artifact.read(e.artifact.path) for e in made}
    return Files(found, wanted.numpy(), prepare(pixels), pixels.transpose(0, 3, 1, 2))


def entered(about: Artifact) -> NDArray[Any]:
    """Return the test pictures (n, 1, 28, 28) as a file takes them, by what its sidecar says."""
    (entry,), raw = about.inputs, pictures("test", HELD).transpose(0, 3, 1, 2)
    if entry.dtype == "uint8" and about.prepared().takes_pixels:
        return raw
    x = np.asarray((raw / 255 - about.prepared().mean[0]) / about.prepared().std[0], np.float32)
    if not entry.scale:
        return x
    limits = np.iinfo(entry.dtype)
    return np.asarray(np.clip(np.rint(x / entry.scale) + entry.zero_point, limits.min, limits.max), entry.dtype)


def answered(about: Artifact) -> Array:
    """Return a file's answers (n, 10) to the test pictures, of ONNX Runtime's or LiteRT's own interface."""
    x, (exit_,) = entered(about), about.outputs
    if about.format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(about.path)
        name, any_batch = session.get_inputs()[0].name, isinstance(session.get_inputs()[0].shape[0], str)
        rows = x[None] if any_batch else x[:, None]
        y = np.concatenate([session.run(None, {name: row})[0] for row in rows])
    else:
        lite = interpreter(about)
        found = []
        for row in x.transpose(0, 2, 3, 1):
            lite.set_tensor(lite.get_input_details()[0]["index"], row[None])
            lite.invoke()
            found.append(lite.get_tensor(lite.get_output_details()[0]["index"]))
        y = np.concatenate(found)
    return np.asarray((y.astype(np.float32) - exit_.zero_point) * exit_.scale if exit_.scale else y, np.float32)


def interpreter(about: Artifact) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    lite = Interpreter(str(about.path), num_threads=1)
    lite.allocate_tensors()
    return lite


def ends(about: Artifact) -> list[tuple[str, tuple[int, ...], str]]:
    """Return name, shape and type of input and output, of the runtime."""
    if about.format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(about.path)
        kinds = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int8)": "int8",
                 "tensor(int16)": "int16"}  # fmt: skip
        return [
            (end.name, tuple(0 if isinstance(size, str) else size for size in end.shape), kinds[end.type])
            for end in (*session.get_inputs(), *session.get_outputs())
        ]
    lite = interpreter(about)
    return [
        (end["name"], tuple(map(int, end["shape"])), np.dtype(end["dtype"]).name)
        for end in (*lite.get_input_details(), *lite.get_output_details())
    ]


def said(specs: tuple[TensorSpec, ...]) -> list[tuple[str, tuple[int, ...], str]]:
    return [(spec.name, spec.shape, spec.dtype) for spec in specs]


PIXELS: dict[str, Any] = {"input_type": "uint8-image"}
#: formats, schemes, options
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "pixels": ("onnx,tflite", "int8", PIXELS),
    "probabilities": ("onnx,tflite", "int8", {"head": "softmax"}),
    "litert": ("tflite", "fp32,int8", {**PIXELS, "head": "softmax", "backend": ("litert",)}),
    "arm": ("onnx", "int8,int8x16", {**PIXELS, "target": ("arm",)}),
    "qoperator": ("onnx", "int8", {**PIXELS, "operators": "qoperator"}),
    "any batch": ("onnx", "fp16,int8", {**PIXELS, "batch": "dynamic", "target": ("arm",), "operators": "qoperator"}),
    "entropy": ("onnx", "int8", {"method": "entropy"}),
}


@pytest.fixture(scope="module", params=CASES)
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Files:
    formats, quant, options = CASES[request.param]
    return exported(tmp_path_factory.mktemp("files"), formats, quant, **options)


@pytest.mark.group("export")
def test_a_file_answers_like_the_network_and_is_what_its_sidecar_says(files: Files) -> None:
    assert files.made
    for about in files.made.values():
        found = answered(about)
        assert np.mean(found.argmax(1) == files.wanted.argmax(1)) >= 0.96, about.path
        noise = np.square(found - files.wanted).sum()
        least = 18 if about.scheme.startswith("int8") else 40
        assert 10 * np.log10(np.square(files.wanted).sum() / noise) > least, about.path
        assert said((*about.inputs, *about.outputs)) == ends(about)


def steps(about: Artifact) -> list[tuple[float, int]]:
    """Return scale and zero point of input and output as the file itself holds them."""
    if about.format == "onnx":
        import onnx

        held = {entry.key: entry.value for entry in onnx.load(about.path).metadata_props}
        noted = [json.loads(held[artifact.QUANTIZATION + name]) for name, _, _ in ends(about)]
        return [(note["scale"], note["zero_point"]) for note in noted]
    lite = interpreter(about)
    return [end["quantization"] for end in (*lite.get_input_details(), *lite.get_output_details())]


#: packages that made a file of a format
MAKERS = {"onnx": {"torch", "onnx", "onnxruntime"}, "tflite": {"onnx2tf", "tensorflow", "ai-edge-litert"}}


@pytest.mark.group("export")
@pytest.mark.parametrize("files", ["probabilities"], indirect=True)
@pytest.mark.parametrize("format", ["onnx", "tflite"])
def test_the_sidecar_of_an_integer_file_is_true(files: Files, format: str) -> None:
    about = files.made[f"int8.{format}"]
    said = json.loads(artifact.sidecar(about.path).read_text(encoding="utf-8"))
    assert said["sha256"] == hashlib.sha256(about.path.read_bytes()).hexdigest()
    assert said["size_bytes"] == about.path.stat().st_size
    assert [(end["scale"], end["zero_point"]) for end in (*said["inputs"], *said["outputs"])] == steps(about)
    assert all(scale > 0 for scale, _ in steps(about))
    assert {name: version(name) for name in said["tools"]} == said["tools"]
    assert MAKERS[format] & said["tools"].keys()
    assert {verdict["verdict"] for verdict in said["verdicts"]} == {"PASS"}
    assert f"f.fp32.{format}" == said["derived_from"] == said["verdicts"][0]["reference"]
    _, checkpoint = load_checkpoint(SAMPLE / "chosen.safetensors")
    assert (said["preprocessing"], said["head"]) == (
        json.loads(json.dumps(checkpoint.preprocessing.to_dict())),
        "softmax",
    )
    assert tuple(said["classes"]) == checkpoint.classes
    assert len(checkpoint.classes) == about.outputs[0].shape[-1]
    same_figures(said["calibration"], files.seen)


def same_figures(calibration: Mapping[str, Any], x: NDArray[Any]) -> None:
    assert (calibration["number"], calibration["distinct"]) == (len(x), len(np.unique(x, axis=0)))
    for name, figure in (("mean", np.mean), ("std", np.std), ("minimum", np.min), ("maximum", np.max)):
        assert calibration[name] == pytest.approx([figure(x.astype(np.float64))], abs=1e-5), name


@pytest.mark.group("export")
@pytest.mark.parametrize("files", ["pixels"], indirect=True)
def test_the_statistics_of_a_file_of_pixels_are_those_of_the_pictures(files: Files) -> None:
    for about in files.made.values():
        same_figures(about.calibration, files.pixels)
