"""The folder for iOS: the files, and a class in Swift that was not compiled here."""

from pathlib import Path

from nbedge.deployment.bundle import Bundle
from nbedge.deployment.contents import contract, write_model, write_templates

FORMATS = (".tflite",)
TEMPLATES = {"Classifier.swift": "Classifier.swift", "README.md": "README.md"}


def write(bundle: Bundle, folder: Path) -> Bundle:
    """Write the folder; every file of the bundle is taken."""
    write_model(bundle, folder, "ios")
    values = {"name": bundle.name, "file": bundle.file_name(bundle.first), "contract": contract(bundle.first)}
    write_templates("ios", TEMPLATES, folder, values)
    return bundle
