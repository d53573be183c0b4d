"""The folder for Android: the files, and a class in Kotlin that was not compiled here."""

from pathlib import Path

from nbedge.deployment.bundle import Bundle
from nbedge.deployment.contents import contract, write_model, write_templates

FORMATS = (".tflite",)
TEMPLATES = {"Classifier.kt": "Classifier.kt", "README.md": "README.md"}


def write(bundle: Bundle, folder: Path) -> Bundle:
    """Write the folder; every file of the bundle is taken."""
    write_model(bundle, folder, "android")
    values = {"name": bundle.name, "file": bundle.file_name(bundle.first), "contract": contract(bundle.first)}
    write_templates("android", TEMPLATES, folder, values)
    return bundle
