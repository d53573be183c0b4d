"""Pictures in folders, one folder a class."""

from pathlib import Path

import numpy as np

from nbedge.data.lazy import opened
from nbedge.data.pictures import Pictures
from nbedge.data.records import Source, fingerprint
from nbedge.errors import InputError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"}


def read_folder(path: Path, shape: tuple[int, int, int]) -> Source:
    """Read a folder with or without train, test and val parts, each with one folder a class.

    A set that is small once decoded is decoded here, any other when its pictures are asked for.
    """
    if not path.is_dir():
        raise InputError(f"{path} is no folder; write folder:PATH with PATH/CLASS/NAME.jpg in it")
    if (path / "train").is_dir() and (path / "test").is_dir():
        classes = _class_names(path / "train")
        parts = [_files(path / part, classes) for part in ("train", "test")]
        held = next((path / name for name in ("val", "validation") if (path / name).is_dir()), None)
        validation = _files(held, classes) if held else None
    else:
        classes = _class_names(path)
        parts, validation = _every_fifth(_files(path, classes)), None
    every = [file for part in (*parts, validation or []) for file, _ in part]
    train, test = (_held(path, part, shape, len(every)) for part in parts)
    held_out = _held(path, validation, shape, len(every)) if validation else None
    return Source(train, test, classes, fingerprint(every), held_out)


Listed = list[tuple[Path, int]]


def _class_names(path: Path) -> tuple[str, ...]:
    return tuple(sorted(child.name for child in path.iterdir() if child.is_dir() and not child.name.startswith(".")))


def _files(path: Path, classes: tuple[str, ...]) -> Listed:
    strange = set(_class_names(path)) - set(classes)
    if strange:
        raise InputError(
            f"{path} holds the class {min(strange)!r}, which the training pictures lack; rename or remove it"
        )
    found = [
        (file, label)
        for label, name in enumerate(classes)
        for file in sorted((path / name).rglob("*"))
        if file.suffix.lower() in SUFFIXES
    ]
    if not found:
        raise InputError(f"{path} holds no pictures; expected {path}/CLASS/NAME.jpg (or .png, .bmp, .webp)")
    return found


def _every_fifth(listed: Listed) -> list[Listed]:
    """Split a folder that has no test part of its own: every fifth file of each class, by name, is test."""
    seen: dict[int, int] = {}
    parts: list[Listed] = [[], []]
    for file, label in listed:
        seen[label] = seen.get(label, 0) + 1
        parts[seen[label] % 5 == 0].append((file, label))
    return parts


def _held(root: Path, listed: Listed, shape: tuple[int, int, int], every: int) -> Pictures:
    labels = np.array([label for _, label in listed], np.int64)
    return Pictures(opened(root, [file for file, _ in listed], shape, every), labels)
