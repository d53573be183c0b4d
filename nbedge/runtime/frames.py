"""Frames: what two processes say to each other over a pipe, a JSON object and arrays behind it."""

import io
import json
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

#: key of the sizes in bytes of the arrays that follow
ARRAYS = "arrays"


def write_frame(stream: IO[bytes], said: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write one line of JSON, then each array as the bytes of a `.npy` file.

    Raises:
        OSError: the other process has ended.
    """
    packed = {name: _packed(array) for name, array in arrays.items()}
    sizes = {name: len(content) for name, content in packed.items()}
    stream.write(json.dumps({**said, ARRAYS: sizes}).encode() + b"\n" + b"".join(packed.values()))
    stream.flush()


def read_frame(stream: IO[bytes]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
    """Return what `write_frame` wrote; None if the other process has ended, in the middle of it or before."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    said: dict[str, Any] = json.loads(line)
    arrays = {}
    for name, size in said.pop(ARRAYS).items():
        content = stream.read(size)
        if len(content) < size:
            return None
        arrays[name] = np.load(io.BytesIO(content), allow_pickle=False)
    return said, arrays


def _packed(array: NDArray[Any]) -> bytes:
    held = io.BytesIO()
    np.save(held, array, allow_pickle=False)
    return held.getvalue()
