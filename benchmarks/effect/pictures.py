"""The pictures of a study as tensors on one device: uint8, all of them at once, split once and for all seeds alike."""

import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from nbedge import data, files
from nbedge.data import Pictures, Splits
from nbedge.errors import InputError

#: kind of source beside those of nbedge: a .tar.gz of picture files, FOLDER/{train,test}/CLASS/NAME
ARCHIVE = "archive"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which pictures of a source a study takes, as its TOML file says.

    Attributes:
        source: name of the source, to which the command line gives a place.
        shape: (channels, height, width); smaller pictures get a black border, grey ones three equal channels.
        labels: training pictures of each class, the first ones by a fixed draw; 0: all.
        before: name of the pictures that a network is trained on first, in a transfer; empty: none.
    """

    source: str
    shape: tuple[int, int, int]
    labels: int = 0
    before: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Pictures (n, h, w, c) uint8 and labels (n,) int64 on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.labels)

    def to(self, device: torch.device) -> "Part":
        """Return the part on `device`."""
        return Part(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """What a run sees: weights are fitted to `train`, choices see `validation`, `test` is read at the end of a run.

    Attributes:
        scale: (c,), and
        shift: (c,): pixels times scale plus shift are the network's input.
        classes: number of classes.
        fingerprint: sha256 of all pixels and labels, the beginning of it: equal on every machine.
    """

    train: Part
    validation: Part
    test: Part
    scale: Tensor
    shift: Tensor
    classes: int
    fingerprint: str

    def to(self, device: torch.device) -> "Dataset":
        """Return the dataset on `device`."""
        parts = {name: getattr(self, name).to(device) for name in ("train", "validation", "test")}
        return replace(self, **parts, scale=self.scale.to(device), shift=self.shift.to(device))


def load(wanted: Wanted, place: str, cache: Path) -> Dataset:
    """Return the pictures of the source at `place` (`archive:PATH` or a source of nbedge), split with seed 0.

    The split is the same for all seeds: no run, of tuning or not, trains on the validation pictures.

    Args:
        wanted: which pictures.
        place: where the source is.
        cache: folder for the decoded pictures of an archive.

    Raises:
        InputError: the source is missing or broken, or has pictures larger than those wanted.
    """
    splits = _splits(place, cache)
    few = _few(splits.train, wanted.labels)  # type: ignore[arg-type]
    parts = [_part(pictures, wanted.shape) for pictures in (few, splits.validation, splits.test)]
    mean, std = data.statistics(parts[0].images.numpy())
    spread = torch.tensor(std)
    told = hashlib.sha256()
    for part in parts:
        told.update(part.images.numpy().tobytes() + part.labels.numpy().tobytes())
    shift = -torch.tensor(mean) / spread
    train, validation, test = parts
    return Dataset(train, validation, test, 1 / (255 * spread), shift, len(splits.classes), told.hexdigest()[:16])


def _splits(place: str, cache: Path) -> Splits:
    kind, _, path = place.partition(":")
    if kind == ARCHIVE:
        place = f"npz:{unpacked(Path(path), cache)}"
    shape = _shape(place)
    return data.load(place, shape, seed=0, calibration=1)


def _shape(place: str) -> tuple[int, int, int]:
    """Return the shape that the pictures of `place` have."""
    kind, _, path = place.partition(":")
    if kind == "npz":
        with np.load(files.existing(Path(path), "the data")) as arrays:
            _, height, width, channels = arrays["test_images"].shape
            return channels, height, width
    return 1, 28, 28


def _few(pictures: Pictures, labels: int) -> Pictures:
    if not labels:
        return pictures
    rng = np.random.default_rng(0)
    members = (np.flatnonzero(pictures.labels == label) for label in np.unique(pictures.labels))
    return pictures.take(np.sort(np.concatenate([rng.permutation(found)[:labels] for found in members])))


def _part(pictures: Pictures, shape: tuple[int, int, int]) -> Part:
    images, labels = pictures.read(np.arange(len(pictures)))
    return Part(torch.from_numpy(np.ascontiguousarray(fitted(images, shape))), torch.from_numpy(labels))


def fitted(images: NDArray[np.uint8], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return images (n, h, w, c) with a black border and equal channels, so that each has `shape` (c, h, w).

    Raises:
        InputError: the pictures are larger, or colour ones would become grey.
    """
    channels, height, width = shape
    rows, columns = height - images.shape[1], width - images.shape[2]
    if min(rows, columns) < 0 or images.shape[3] not in (1, channels):
        raise InputError(f"pictures of {images.shape[1:]} cannot become {shape}; change `shape` in the study")
    border = ((0, 0), (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2), (0, 0))
    return np.repeat(np.pad(images, border), channels // images.shape[3], axis=3)


def unpacked(archive: Path, cache: Path) -> Path:
    """Return a .npz of all pictures of `archive`, decoded into `cache` where that has not been done yet.

    Raises:
        InputError: the archive is missing or holds no FOLDER/{train,test}/CLASS/NAME.
    """
    found = files.existing(archive, "the archive").stat()
    target = cache / f"{archive.name.partition('.')[0]}-{found.st_size}-{found.st_mtime_ns}.npz"
    if target.exists():
        return target
    rows = sorted(_decoded(archive), key=lambda row: row[0])
    classes = sorted({name.split("/")[-2] for name, _ in rows})
    if not rows or {name.split("/")[-3] for name, _ in rows} != {"train", "test"}:
        raise InputError(f"{archive} holds no pictures FOLDER/train/CLASS/NAME and FOLDER/test/CLASS/NAME")
    arrays = {"classes": np.array(classes)}
    for part in ("train", "test"):
        chosen = [(name, image) for name, image in rows if name.split("/")[-3] == part]
        arrays[f"{part}_images"] = np.stack([image for _, image in chosen])
        arrays[f"{part}_labels"] = np.array([classes.index(name.split("/")[-2]) for name, _ in chosen])
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    files.write_bytes(target, buffer.getvalue())
    return target


def _decoded(archive: Path) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.name.endswith((".jpg", ".png")) else None
            if file is not None and member.name.count("/") >= 2:
                yield member.name, np.asarray(Image.open(file).convert("RGB"))
