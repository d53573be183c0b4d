"""Sidecars: what they say of a file, and a file that is not what they say."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nbedge import artifact
from nbedge.errors import InputError
from nbedge.preprocessing import Preprocessing

PREPROCESSING = Preprocessing((1, 28, 28), (0.3,), (0.35,))
CLASSES = tuple("0123456789")


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    path = tmp_path / "a.fp32.onnx"
    path.write_bytes(b"content")
    spec = artifact.TensorSpec("input", (1, 1, 28, 28), "float32", "NCHW")
    artifact.Artifact(
        path, "onnx", "fp32", (spec,), (spec,), PREPROCESSING, CLASSES, "x", {"a": "1"}
    ).sealed().write_sidecar()
    return path


def spoil_file(path: Path) -> None:
    path.write_bytes(b"other")


def spoil_sidecar(path: Path) -> None:
    artifact.sidecar(path).write_text("{}", encoding="utf-8")


def cut_sidecar(path: Path) -> None:
    place = artifact.sidecar(path)
    place.write_bytes(place.read_bytes()[:-20])


def drop_sidecar(path: Path) -> None:
    artifact.sidecar(path).unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_file, "is not the file that a.fp32.onnx.json describes"),
        (spoil_sidecar, "is no sidecar"),
        (cut_sidecar, "is no sidecar"),
        (drop_sidecar, "the sidecar .* does not exist"),
        (Path.unlink, "the file .* does not exist"),
    ],
)
def test_a_file_that_is_not_what_its_sidecar_says_is_refused(
    sealed: Path, spoil: Callable[[Path], object], words: str
) -> None:
    assert artifact.read(sealed).size_bytes == 7
    spoil(sealed)
    with pytest.raises(InputError, match=words):
        artifact.read(sealed)


def test_a_sidecar_names_the_types_of_its_scheme(sealed: Path) -> None:
    record = json.loads(artifact.sidecar(sealed).read_text(encoding="utf-8"))
    assert (record["schema_version"], record["file"], record["weights"], record["io"]) == (
        1,
        "a.fp32.onnx",
        "fp32",
        "fp32",
    )
