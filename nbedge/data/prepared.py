"""Inputs that are preprocessed already: of any shape, in a .npz file of their own."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge import files
from nbedge.data.pictures import BROKEN
from nbedge.errors import InputError

#: names of the arrays
INPUTS, LABELS = "inputs", "labels"
KIND = "npz:"


def holds_prepared(source: str) -> bool:
    """Return whether DATA, such as `npz:PATH`, is a file with an array `inputs`."""
    path = Path(source.removeprefix(KIND))
    if not source.startswith(KIND) or not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return f"{INPUTS}.npy" in archive.namelist()


def load_prepared(
    source: str, shape: tuple[int, ...], most: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
    """Return the inputs (n, *shape) of `npz:PATH`, as a model takes them, and their labels (n,) if there are any.

    Args:
        source: `npz:PATH`, of `inputs`, floating point (n, *shape), and perhaps `labels`, whole numbers (n,).
        shape: of one input.
        most: how many are returned at most.

    Raises:
        InputError: the file cannot be read, or does not hold that.
    """
    path = Path(source.removeprefix(KIND))
    held = _read(path)
    inputs, labels = held[INPUTS], held.get(LABELS)
    if inputs.dtype.kind != "f" or inputs.shape[1:] != shape or not len(inputs):
        raise InputError(
            f"{path}: {INPUTS} is {inputs.dtype} {inputs.shape}; give preprocessed inputs, "
            f"floating point of shape ({', '.join(map(str, ('n', *shape)))})"
        )
    if labels is not None and (labels.dtype.kind not in "iu" or labels.shape != inputs.shape[:1]):
        raise InputError(
            f"{path}: {LABELS} is {labels.dtype} {labels.shape}; give whole numbers of shape ({len(inputs)},)"
        )
    bad = ~np.isfinite(inputs).reshape(len(inputs), -1).all(1)
    if bad.any():
        raise InputError(
            f"{path}: {bad.sum()} of {len(inputs)} inputs hold NaN or infinity; input {bad.argmax()} is one"
        )
    return inputs[:most].astype(np.float32), None if labels is None else labels[:most].astype(np.int64)


def _read(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with files.existing(path, "the file").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in (INPUTS, LABELS) if name in arrays.files}
    except (*BROKEN, TypeError, zipfile.BadZipFile, NotImplementedError) as error:
        raise InputError(f"{path} is cut short or no .npz file ({error}); copy it again") from error
