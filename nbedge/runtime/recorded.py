"""Answers that were written down: inputs and outputs of a model in one `.npz`, which stands for the model."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge import files
from nbedge.artifact import TensorSpec
from nbedge.errors import InputError
from nbedge.runtime.modules import INPUT
from nbedge.runtime.runner import Arrays, Runner, layout

#: key of the inputs (n, c, h, w) float32; each output is kept under PREFIX + its name
INPUTS, PREFIX = "inputs", "output:"


def record(path: Path, inputs: NDArray[np.float32], outputs: Arrays) -> Path:
    """Write inputs (n, ...) and what a model answers to them, by name, real values."""
    with files.appearing(path) as part, part.open("wb") as target:
        np.savez_compressed(target, **{INPUTS: inputs, **{PREFIX + name: array for name, array in outputs.items()}})  # type: ignore[arg-type]
    return path


def recorded_inputs(path: Path) -> NDArray[np.float32]:
    """Return the inputs of a recording.

    Raises:
        InputError: it is none.
    """
    return _read(path)[INPUTS]


def of_recording(path: Path) -> Runner:
    """Answer with what was written down; other inputs than those are refused.

    Raises:
        InputError: the file is no recording.
    """
    held = _read(path)
    inputs = held.pop(INPUTS)
    known = {row.tobytes(): index for index, row in enumerate(inputs)}

    def run(arrays: Arrays) -> Arrays:
        rows = [known.get(row.tobytes(), -1) for row in arrays[INPUT].astype(np.float32, copy=False)]
        if min(rows) < 0:
            raise InputError(f"{path} holds no answer to these inputs; compare on its own, without --data")
        return {name: array[rows] for name, array in held.items()}

    shape = (0, *inputs.shape[1:])
    entry = TensorSpec(INPUT, shape, "float32", "NCHW" if len(shape) == 4 else layout(shape, "NCHW"))
    outputs = tuple(
        TensorSpec(name, (0, *a.shape[1:]), "float32", layout((0, *a.shape[1:]), "NCHW")) for name, a in held.items()
    )
    return Runner((entry,), outputs, "recorded", run)


def _read(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(files.existing(path, "the recording"), allow_pickle=False) as held:
            found = {
                name.removeprefix(PREFIX): held[name]
                for name in held.files
                if name == INPUTS or name.startswith(PREFIX)
            }
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is no recording of answers ({error}); nbedge verify --bundle writes them") from error
    if INPUTS not in found or len(found) < 2:
        raise InputError(f"{path} holds no {INPUTS!r} and {PREFIX}NAME arrays; nbedge verify --bundle writes them")
    lengths = {len(array) for array in found.values()}
    if len(lengths) != 1:
        raise InputError(f"{path}: inputs and outputs differ in number ({', '.join(map(str, sorted(lengths)))})")
    return found
