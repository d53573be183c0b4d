"""The folder for a Raspberry Pi: the files, and a program that needs numpy and a runtime, nothing of nbedge."""

from pathlib import Path

from nbedge.deployment.bundle import Bundle
from nbedge.deployment.contents import RUNTIMES, contract, write_model, write_templates

FORMATS = (".tflite", ".onnx")
TEMPLATES = {"run.py.txt": "run.py", "README.md": "README.md", "requirements.txt": "requirements.txt"}
#: suffix -> what pip installs
WHEELS = {".tflite": "ai-edge-litert>=2.1", ".onnx": "onnxruntime>=1.20,!=1.21.0"}


def write(bundle: Bundle, folder: Path) -> Bundle:
    """Write the folder; every file of the bundle is taken."""
    suffix = bundle.first.path.suffix
    write_model(bundle, folder, "pi")
    wheels = "\n".join(dict.fromkeys(WHEELS[file.path.suffix] for file in bundle.artifacts))
    values = {
        "name": bundle.name, "file": bundle.file_name(bundle.first), "contract": contract(bundle.first),
        "runtime": RUNTIMES[suffix][0], "wheels": wheels, "picture": bundle.picture_name or "PICTURE.jpg",
    }  # fmt: skip
    write_templates("pi", TEMPLATES, folder, values)
    return bundle
