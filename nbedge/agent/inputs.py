"""What a file is fed with: real inputs if there are some, else numbers that are the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class UnfitInputError(ValueError):
    """An input that cannot be made, or does not fit the file."""


def inputs(entries: dict[str, tuple[tuple[int, ...], str]], real: str | None) -> dict[str, Any]:
    """Return name -> array for each entry (shape, dtype): from the .npz file `real`, else made up.

    Raises:
        UnfitInputError: an entry is missing in the file or has another shape or type, or cannot be made up.
    """
    if real is None:
        return {name: random_input(shape, dtype) for name, (shape, dtype) in entries.items()}
    with np.load(real) as held:
        return {name: _checked(held, name, shape, dtype) for name, (shape, dtype) in entries.items()}


def _checked(held: Any, name: str, shape: tuple[int, ...], dtype: str) -> Any:
    found = held.get(name)
    if found is None or found.shape != shape or found.dtype.name != dtype:
        what = "missing" if found is None else f"{found.dtype.name} {found.shape}"
        raise UnfitInputError(f"the input {name!r} is {what}, the file takes {dtype} {shape}")
    return found


def random_input(shape: Sequence[int], dtype: str) -> Any:
    """Return the same random array at every call: floats are normal, bytes span their range, wider integers are 0 or 1.

    Raises:
        UnfitInputError: `dtype` is no number.
    """
    generator = np.random.default_rng(0)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return generator.standard_normal(shape).astype(kind)
    if kind.kind in "iu" and kind.itemsize == 1:
        limits = np.iinfo(kind)
        return generator.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)
    if kind.kind in "iub":
        return generator.integers(0, 2, shape).astype(kind)
    raise UnfitInputError(f"an input of type {dtype} cannot be made up; measure a file whose inputs are numbers")
