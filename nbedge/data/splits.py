"""From a source to four disjoint splits, each stratified by class."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from nbedge import files
from nbedge.data.arrays import read_fashion_mnist, read_npz
from nbedge.data.coco import read_coco
from nbedge.data.folder import read_folder
from nbedge.data.generated import KINDS as GENERATED
from nbedge.data.generated import read_generated
from nbedge.data.hub import read_hub
from nbedge.data.pictures import Pictures
from nbedge.data.records import CLASSIFICATION, Source, Splits
from nbedge.data.voc import read_voc
from nbedge.errors import InputError

FORMS = "folder:PATH, npz:PATH, fashion-mnist:PATH, hf:NAME, or voc:PATH and coco:PATH for boxes"

ON_DISK: dict[str, Callable[[Path, tuple[int, int, int]], Source]] = {
    "folder": read_folder,
    "npz": read_npz,
    "fashion-mnist": read_fashion_mnist,
    "voc": read_voc,
    "coco": read_coco,
}


def load(
    spec: str, shape: tuple[int, int, int], *, seed: int = 0, validation: float = 0.1, calibration: int = 200
) -> Splits:
    """Read `spec` and split it, each split stratified by class.

    Args:
        spec: `folder:PATH`, `npz:PATH`, `fashion-mnist:PATH` or `hf:NAME`; `voc:PATH` or `coco:PATH` for boxes.
        shape: (channels, height, width); picture files are resized to it, arrays must have it.
        seed: of the split.
        validation: share of the training part that becomes the validation split, if the source has none.
        calibration: pictures of the training part that become the calibration split.

    Raises:
        InputError: the source is missing, broken, has fewer than two classes, or pictures of another shape.
    """
    return split(read(spec, shape), spec, seed=seed, validation=validation, calibration=calibration)


def split(source: Source, spec: str, *, seed: int = 0, validation: float = 0.1, calibration: int = 200) -> Splits:
    """Split a source that `read` has read of `spec`; arguments and errors are those of `load`."""
    if isinstance(source.train, Pictures) and source.task == CLASSIFICATION:
        _refuse_small_classes(source.train, source.classes, spec)
    rng = np.random.default_rng(seed)
    rest, held = source.train, source.validation
    if held is None:
        held, rest = rest.split(round(len(rest) * validation), rng)
    chosen, rest = rest.split(min(calibration, len(rest) // 2), rng)
    return Splits(rest, held, chosen, source.test, source.classes, source.fingerprint, source.task)


def _refuse_small_classes(train: Pictures, classes: tuple[str, ...], spec: str) -> None:
    counts = np.bincount(train.labels)
    if counts.min() < 3:
        raise InputError(
            f"{spec}: the class {classes[counts.argmin()]!r} has {counts.min()} training pictures; at least 3 "
            "are needed, for training, validation and calibration"
        )


def anchored(spec: str, folder: Path) -> str:
    """Return `spec` with a relative path resolved against `folder`; the name of a set on a hub is left as it is."""
    kind, separator, place = spec.partition(":")
    if not place or kind in GENERATED or (kind == "hf" and not (folder / place.partition("?")[0]).exists()):
        return spec
    return f"{kind}{separator}{(folder / place).resolve()}"


def read(spec: str, shape: tuple[int, int, int]) -> Source:
    """Read or open the parts of `spec`; arguments and errors are those of `load`."""
    kind, _, place = spec.partition(":")
    if kind in GENERATED:
        return read_generated(kind, place, shape)
    if kind not in (*ON_DISK, "hf") or not place:
        raise InputError(f"{spec!r} names no data; write {FORMS}")
    source = read_hub(place, shape) if kind == "hf" else ON_DISK[kind](files.existing(Path(place), "the data"), shape)
    if len(source.classes) < 2 and source.task == CLASSIFICATION:
        raise InputError(
            f"{spec} has {len(source.classes)} class(es): {', '.join(source.classes)}; at least 2 are needed"
        )
    for part in (source.train, source.test):
        if part.shape != shape:
            raise InputError(
                f"{spec} holds pictures of {_times(part.shape)}, the model takes {_times(shape)}; change the input"
            )
    for name, part in (("training", source.train), ("test", source.test)):
        if isinstance(part, Pictures) and source.task == CLASSIFICATION:  # what a stream holds shows when it is read
            _refuse_labels(part, source.classes, f"{spec}: the {name}")
    return source


def _refuse_labels(part: Pictures, classes: tuple[str, ...], what: str) -> None:
    labels, known = set(part.labels.tolist()), set(range(len(classes)))
    if labels - known:
        raise InputError(f"{what} label {min(labels - known)} is none of 0 to {len(known) - 1}")
    missing = known - labels
    if missing:
        raise InputError(f"{what} pictures hold none of the class {classes[min(missing)]!r}")


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
