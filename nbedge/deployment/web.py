"""The folder for a web server: a page, its runtime in WebAssembly, and the one file that it opens."""

from dataclasses import dataclass
from pathlib import Path

from nbedge import artifact, files
from nbedge.artifact import Artifact
from nbedge.deployment.bundle import FLOAT_IO, Bundle
from nbedge.deployment.contents import contract, template, write_model, write_templates
from nbedge.deployment.packages import LITERT, ONNX, Package, WebRuntimes
from nbedge.errors import InputError

FORMATS = (".tflite", ".onnx")
TEMPLATES = {
    name: name
    for name in ("index.html", "style.css", "page.js", "network.js", "picture.js", "preprocessing.js", "README.md")
}


@dataclass(frozen=True, slots=True)
class View:
    """What a page says of one kind of network.

    Attributes:
        module: that a page of somebody else's needs.
        template: what this page shows.
        verb: what it does to pictures.
        example: of code with the module.
    """

    module: str
    template: str
    verb: str
    example: str


VIEWS = {
    "classification": View(
        "classifier.js", "view-classifier.js", "classifies",
        """import { load } from "./classifier.js";
    const { model, classify } = await load();
    const { order } = await classify(imageData);
    console.log(model.classes[order[0]]);""",
    ),
    "detection": View(
        "detector.js", "view-detector.js", "finds objects in",
        """import { load } from "./detector.js";
    const { model, detect } = await load();
    const { found } = await detect(imageData);
    for (const one of found) console.log(model.classes[one.class], one.score, one.box);""",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Runtime:
    """What runs a format in a browser.

    Attributes:
        title: its name.
        packages: of npm.
        template: name of the module that opens a file.
        dtypes: types of input and output that it takes.
    """

    title: str
    packages: tuple[Package, ...]
    template: str
    dtypes: tuple[str, ...]


RUNTIMES = {
    ".tflite": Runtime("LiteRT.js", LITERT, "runtime-litert.js", ("float32", "uint8")),
    ".onnx": Runtime("ONNX Runtime Web", ONNX, "runtime-onnx.js", ("float32", "uint8", "int8", "int16")),
}


def write(bundle: Bundle, folder: Path) -> Bundle:
    """Write the folder with the first file of the bundle that the browser's runtime takes.

    Raises:
        InputError: it takes none of them.
        MissingDependencyError: the runtimes are not here.
    """
    used = bundle.of(_fitting(bundle))
    runtime, view = RUNTIMES[used.first.path.suffix], VIEWS[used.first.task or "classification"]
    _vendor(runtime, folder / "vendor")
    write_model(used, folder, "web")
    values = {"title": used.name.replace("_", " "), "name": used.name, "file": used.file_name(used.first),
              "runtime": runtime.title, "contract": contract(used.first), "verb": view.verb, "module": view.module,
              "example": view.example}  # fmt: skip
    chosen = {runtime.template: "runtime.js", view.template: "view.js", view.module: view.module}
    write_templates("web", {**TEMPLATES, **chosen}, folder, values)
    return used


def _fitting(bundle: Bundle) -> Artifact:
    for file in bundle.artifacts:
        ends = {spec.dtype for spec in (*file.inputs, *file.outputs)}
        if ends <= set(RUNTIMES[file.path.suffix].dtypes):
            return file
    first = bundle.first
    raise InputError(
        f"{RUNTIMES[first.path.suffix].title} takes no input or output of {first.inputs[0].dtype}, which {first.path} "
        f"has; run: nbedge export {_origin(first)} --format tflite --quant {FLOAT_IO} --calib DATA, and deploy "
        f"that file"
    )


def _origin(file: Artifact) -> str:
    """Return the name of the checkpoint that a file was made from, as far as the sidecars beside it say."""
    name = file.derived_from
    while (place := file.path.with_name(name)).suffix != ".safetensors":
        if not artifact.sidecar(place).exists():
            return "CHECKPOINT"
        name = artifact.read(place).derived_from
    return name


def _vendor(runtime: Runtime, folder: Path) -> None:
    """Copy the runtime's packages, with their licences: the archives of npm name one and hold no text of it."""
    WebRuntimes().copy(runtime.packages, folder)
    for package in runtime.packages:
        text = template(f"licences/{package.licence}.txt")
        files.write_bytes(
            folder / package.folder / "LICENSE", f"{package.pinned}: {package.licence}\n\n{text}".encode()
        )
