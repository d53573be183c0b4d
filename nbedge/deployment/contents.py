"""What every folder holds: the files, the classes, model.json, and templates that are filled in."""

import hashlib
import html
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

from nbedge import files
from nbedge.artifact import SCHEMA_VERSION, SCHEMES, Artifact
from nbedge.deployment.bundle import Bundle

#: suffix -> runtime and its kernels on a CPU
RUNTIMES = {".tflite": ("LiteRT", "XNNPACK"), ".onnx": ("ONNX Runtime", "MLAS")}
#: suffix -> what can be relied on of the answers of an int8 file
INTEGERS = {
    ".tflite": "Answers are the same integers on every processor where LiteRT runs XNNPACK's int8 kernels; others, "
    "such as those of a GPU or of TFLite Micro, may differ by some steps of the output's scale.",
    ".onnx": "Answers are the same integers wherever ONNX Runtime's int8 kernels do not saturate: on Arm, in "
    "WebAssembly, and on x86 with VNNI instructions; without those they differ by some steps of the output's scale.",
}
#: likewise of one that computes in float
FLOATS = "Float kernels add up in their own order: answers agree to about 1e-4, not bit for bit."


def write_model(bundle: Bundle, folder: Path, target: str) -> None:
    """Write the network's files, its picture, labels.txt and model.json into `folder`."""
    for file in bundle.artifacts:
        shutil.copyfile(file.path, folder / bundle.file_name(file))
    if bundle.picture and bundle.picture_name:
        shutil.copyfile(bundle.picture, folder / bundle.picture_name)
    labels = "".join(f"{name}\n" for name in bundle.first.classes)
    files.write_bytes(folder / "labels.txt", labels.encode())
    files.write_json(folder / "model.json", model(bundle, target))


def model(bundle: Bundle, target: str) -> dict[str, Any]:
    """Return what model.json says: what a program needs to feed the files and to read their answers."""
    described = {"schema_version": SCHEMA_VERSION, "name": bundle.name, "target": target,
                 "task": bundle.first.task, "classes": list(bundle.first.classes)}  # fmt: skip
    found = {**described, "files": [_file(bundle, file) for file in bundle.artifacts]}
    return {**found, "picture": answered(bundle)} if bundle.picture else found


def _file(bundle: Bundle, file: Artifact) -> dict[str, Any]:
    values = file.to_dict()
    kept = ("format", "scheme", "weights", "activations", "io", "sha256", "size_bytes", "head", "preprocessing",
            "inputs", "outputs", "derived_from", "verdicts")  # fmt: skip
    runtime, kernels = RUNTIMES[file.path.suffix]
    return {
        "file": bundle.file_name(file),
        **{name: values[name] for name in kept},
        "formula": "x = (pixel / 255 - mean) / std; an integer input is round(x / scale) + zero_point",
        "runtime": runtime,
        "kernels": kernels,
        "contract": contract(file),
    }


def contract(file: Artifact) -> str:
    """Return how far the answers of another machine may be off, in a sentence or two."""
    activations = SCHEMES[file.scheme][1]
    if activations == "int8" and not file.exempt:
        return INTEGERS[file.path.suffix]
    compared = activations != "int16" and file.scheme != "dynamic"
    return FLOATS if compared else "Answers of other machines were not compared."


def answered(bundle: Bundle) -> dict[str, Any]:
    """Return what the first file says of the picture here, to compare with.

    Raises:
        MissingDependencyError: its runtime is not installed.
    """
    from nbedge.data import picture
    from nbedge.runtime import answers, open_file

    assert bundle.picture is not None
    how = bundle.first.prepared()
    pixels = picture(bundle.picture, how.shape)
    runner = open_file(bundle.first.path)
    found = {name: y[0] for name, y in answers(runner, how(pixels[None])).items()}
    first, *others = found.values()
    shown = {name: y.ravel().tolist() for name, y in found.items()}
    return {
        "file": bundle.picture_name,
        "pixels_sha256": hashlib.sha256(pixels.tobytes()).hexdigest(),
        "kernels": runner.kernels,
        "outputs": shown if others else first.tolist(),
    }


def template(place: str) -> str:
    """Return the text of a template, such as "web/index.html"."""
    return resources.files("nbedge.deployment").joinpath("templates", *place.split("/")).read_text(encoding="utf-8")


def write_templates(target: str, names: dict[str, str], folder: Path, values: dict[str, str]) -> None:
    """Write templates of a target into `folder`, with `{{key}}` replaced by values, quoted in HTML.

    Args:
        target: its name.
        names: name of the template -> name in the folder.
        folder: where to.
        values: of the keys.
    """
    for source, name in names.items():
        quote = html.escape if name.endswith(".html") else str
        text = template(f"{target}/{source}")
        for key, value in values.items():
            text = text.replace(f"{{{{{key}}}}}", quote(value))
        files.write_bytes(folder / name, text.encode())
