"""From a source to four disjoint splits, each stratified by class."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nbedge import files
from nbedge.data.arrays import read_fashion_mnist, read_npz
from nbedge.data.folder import read_folder
from nbedge.data.records import Pictures, Source, Splits
from nbedge.errors import InputError

FORMS = "folder:PATH, npz:PATH or fashion-mnist:PATH"


def load(
    spec: str, shape: tuple[int, int, int], *, seed: int = 0, validation: float = 0.1, calibration: int = 200
) -> Splits:
    """Read `spec` and split it, each split stratified by class.

    Args:
        spec: `folder:PATH`, `npz:PATH` or `fashion-mnist:PATH`.
        shape: (channels, height, width); pictures in a folder are resized to it, others must have it.
        seed: of the split.
        validation: share of the training part that becomes the validation split, if the source has none.
        calibration: pictures of the training part that become the calibration split.

    Raises:
        InputError: the source is missing, broken, has fewer than two classes, or pictures of another shape.
    """
    source = read(spec, shape)
    for part in (source.train, source.test):
        found = part.images.shape[3:] + part.images.shape[1:3]
        if found != shape:
            raise InputError(
                f"{spec} holds pictures of {_times(found)}, the model takes {_times(shape)}; change the input"
            )
    counts = np.bincount(source.train.labels)
    if counts.min() < 3:
        raise InputError(
            f"{spec}: the class {source.classes[counts.argmin()]!r} has {counts.min()} training pictures; at least 3 "
            "are needed, for training, validation and calibration"
        )
    rng = np.random.default_rng(seed)
    rest, held = source.train, source.validation
    if held is None:
        held, rest = _split(rest, round(len(rest) * validation), rng)
    chosen, rest = _split(rest, min(calibration, len(rest) // 2), rng)
    return Splits(rest, held, chosen, source.test, source.classes, source.fingerprint)


def read(spec: str, shape: tuple[int, int, int]) -> Source:
    """Read every picture of `spec`; see `load`."""
    kind, _, path = spec.partition(":")
    readers: dict[str, Callable[[Path, tuple[int, int, int]], Source]] = {
        "folder": read_folder,
        "npz": read_npz,
        "fashion-mnist": read_fashion_mnist,
    }
    if kind not in readers or not path:
        raise InputError(f"{spec!r} names no data; write {FORMS}")
    source = readers[kind](files.existing(Path(path), "the data"), shape)
    if len(source.classes) < 2:
        raise InputError(
            f"{spec} has {len(source.classes)} class(es): {', '.join(source.classes)}; at least 2 are needed"
        )
    for name, part in (("training", source.train), ("test", source.test)):
        labels, known = set(part.labels.tolist()), set(range(len(source.classes)))
        if labels - known:
            raise InputError(f"{spec}: the {name} label {min(labels - known)} is none of 0 to {len(known) - 1}")
        missing = known - labels
        if missing:
            raise InputError(f"{spec}: the {name} pictures hold none of the class {source.classes[min(missing)]!r}")
    return source


def _split(pictures: Pictures, count: int, rng: np.random.Generator) -> tuple[Pictures, Pictures]:
    """Draw about `count` pictures, the same share of every class; return (drawn, rest), both in file order."""
    share = count / len(pictures)
    drawn: list[NDArray[np.int64]] = []
    for label in np.unique(pictures.labels):
        members = np.flatnonzero(pictures.labels == label)
        drawn.append(rng.permutation(members)[: max(1, round(share * len(members)))])
    chosen = np.sort(np.concatenate(drawn))
    rest = np.setdiff1d(np.arange(len(pictures)), chosen)
    return pictures.take(chosen), pictures.take(rest)


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
