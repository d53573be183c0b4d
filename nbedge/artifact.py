"""Artifact: an exported file and what it says of itself."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from nbedge import files
from nbedge.errors import InputError
from nbedge.preprocessing import Preprocessing

SCHEMA_VERSION = 1

#: scheme name -> (weights, activations, input and output)
SCHEMES: Mapping[str, tuple[str, str, str]] = {
    "fp32": ("fp32", "fp32", "fp32"),
    "fp16": ("fp16", "fp16", "fp32"),
    "dynamic": ("int8", "fp32", "fp32"),
    "int8": ("int8", "int8", "int8"),
    "int8-float-io": ("int8", "int8", "fp32"),
    "int8x16": ("int8", "int16", "int16"),
}

#: rungs of the accuracy ladder above the first, which every integer file stands on: a scale for each channel's weights
CONSTANT, METHOD, BIAS, EQUALIZATION, ROUNDING, PRECISION, TUNING = RUNGS = (
    "constant-channels", "method", "bias-correction", "equalization", "rounding", "precision", "tuning",
)  # fmt: skip

#: key of the metadata in which an ONNX file with integer input or output holds its scale and zero point
QUANTIZATION = "nbedge.quantization."


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a file.

    Attributes:
        name: the name inside the file.
        shape: sizes in the file's own layout.
        dtype: numpy name of the type ("float32", "int8", "uint8", ...).
        layout: "NCHW", "NHWC" or "NC".
        scale: real value of one integer step; 0 for a float tensor.
        zero_point: the integer that stands for 0.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: str
    scale: float = 0.0
    zero_point: int = 0

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "TensorSpec":
        """Return the record of plain JSON values."""
        return TensorSpec(**{**values, "shape": tuple(values["shape"])})


@dataclass(frozen=True, slots=True)
class Artifact:
    """An exported file; its sidecar `NAME.EXT.json` holds the same record.

    Attributes:
        path: the file.
        format: name of the format ("onnx", "tflite", ...).
        scheme: name in `SCHEMES`, which gives the types of weights, activations and input/output.
        inputs: signature, in the file's own names and layouts.
        outputs: likewise.
        preprocessing: how a picture becomes the input; None where inputs are no pictures.
        classes: names of the outputs, in order.
        derived_from: file name of the artifact or checkpoint that it was made from.
        tools: package name -> version of what wrote it.
        head: what it gives, "logits" or "softmax" for probabilities.
        calibration: what is known of the inputs that a quantizer saw (number, distinct; mean, std, minimum and maximum
            per channel); empty for a float file.
        verdicts: of the edges that let it through: reference, kernels and verdict of each.
        ladder: how an integer file came within its accuracy budget; empty for a float file.
        remedies: what was done to the float network for it, so that its weights are others than the float file's.
        exempt: layers that compute in more bits than the scheme says.
        task: what the outputs mean, "classification" or "detection"; empty where nobody said.
        sha256: of the file.
        size_bytes: of the file.
    """

    path: Path
    format: str
    scheme: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocessing: Preprocessing | None
    classes: tuple[str, ...]
    derived_from: str
    tools: Mapping[str, str] = field(default_factory=dict)
    head: str = "logits"
    calibration: Mapping[str, Any] = field(default_factory=dict)
    verdicts: tuple[Mapping[str, str], ...] = ()
    ladder: Mapping[str, Any] = field(default_factory=dict)
    remedies: tuple[str, ...] = ()
    exempt: tuple[str, ...] = ()
    task: str = "classification"
    sha256: str = ""
    size_bytes: int = 0

    def __fspath__(self) -> str:
        return str(self.path)

    def prepared(self) -> Preprocessing:
        """Return the preprocessing.

        Raises:
            InputError: inputs are no pictures.
        """
        if self.preprocessing is None:
            raise InputError(f"{self.path} takes no pictures; give it prepared inputs, npz:FILE")
        return self.preprocessing

    def sealed(self) -> "Artifact":
        """Return the record with the file's size and sha256 as they are now."""
        return replace(self, sha256=files.sha256(self.path), size_bytes=self.path.stat().st_size)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; the path is left to the sidecar's own place."""
        weights, activations, io = SCHEMES[self.scheme]
        values = asdict(self)
        del values["path"]
        return {"schema_version": SCHEMA_VERSION, "file": self.path.name, **values,
                "weights": weights, "activations": activations, "io": io}  # fmt: skip

    def write_sidecar(self) -> Path:
        """Write the sidecar beside the file and return its path."""
        path = sidecar(self.path)
        files.write_json(path, self.to_dict())
        return path


def sidecar(path: Path) -> Path:
    """Return where the sidecar of `path` lies."""
    return path.with_name(path.name + ".json")


def read(path: Path) -> Artifact:
    """Read the artifact at `path` from its sidecar.

    Raises:
        InputError: the file or its sidecar is missing, unreadable, or the file is not the one described.
    """
    files.existing(path, "the file")
    place = files.existing(sidecar(path), "the sidecar")
    try:
        values = json.loads(place.read_text(encoding="utf-8"))
        found = Artifact(
            path=path,
            format=values["format"],
            scheme=values["scheme"],
            inputs=tuple(map(TensorSpec.from_dict, values["inputs"])),
            outputs=tuple(map(TensorSpec.from_dict, values["outputs"])),
            preprocessing=Preprocessing.from_dict(values["preprocessing"]) if values["preprocessing"] else None,
            classes=tuple(values["classes"]),
            derived_from=values["derived_from"],
            tools=values["tools"],
            head=values.get("head", "logits"),
            calibration=values.get("calibration", {}),
            verdicts=tuple(values.get("verdicts", ())),
            ladder=values.get("ladder", {}),
            remedies=tuple(values.get("remedies", ())),
            exempt=tuple(values.get("exempt", ())),
            task=values.get("task", "classification"),
            sha256=values["sha256"],
            size_bytes=values["size_bytes"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{place} is no sidecar of nbedge ({error!r}); export the file again") from error
    if files.sha256(path) != found.sha256:
        raise InputError(f"{path} is not the file that {place.name} describes (sha256 differs); export it again")
    return found
