"""Labelled pictures: where they come from, how they are split, and the batches made of them."""

import gzip
import hashlib
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nbedge import files
from nbedge.errors import InputError, needs

FORMS = "folder:PATH, npz:PATH or fashion-mnist:PATH"
FASHION_CLASSES = (
    "t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"}


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Pictures (n, h, w, c) uint8 and their labels (n,) int64."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> "Pictures":
        """Return the pictures at `indices`, in that order."""
        return Pictures(self.images[indices], self.labels[indices])


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """Four disjoint sets. Choices see validation only; the test set is read once, at the end.

    Attributes:
        train: what weights are fitted to.
        validation: what choices and gates see.
        calibration: what quantizers see.
        test: what is reported.
        classes: names, in label order.
        fingerprint: sha256 of the sources' names, sizes and times.
    """

    train: Pictures
    validation: Pictures
    calibration: Pictures
    test: Pictures
    classes: tuple[str, ...]
    fingerprint: str


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What a data source holds before it is split; `validation` is None where the source has no such part."""

    train: Pictures
    test: Pictures
    classes: tuple[str, ...]
    fingerprint: str
    validation: Pictures | None = None


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
        "folder": _folder,
        "npz": _npz,
        "fashion-mnist": _fashion_mnist,
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


#: what a reader of a damaged file raises
_BROKEN = (ValueError, OSError, EOFError, IndexError, struct.error, zlib.error)


def _npz(path: Path, _shape: tuple[int, int, int]) -> Source:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:  # numpy leaves a bad file open
            values = {name: arrays[name] for name in arrays.files}
    except (*_BROKEN, TypeError, zipfile.BadZipFile, NotImplementedError) as error:
        raise InputError(f"{path} is cut short or no .npz file ({error}); copy it again") from error
    wanted = ("train_images", "train_labels", "test_images", "test_labels", "classes")
    missing = [name for name in wanted if name not in values]
    if missing:
        raise InputError(f"{path} lacks the array {missing[0]}; it needs {', '.join(wanted)}")
    train = _pictures(path, values["train_images"], values["train_labels"])
    test = _pictures(path, values["test_images"], values["test_labels"])
    return Source(train, test, tuple(str(c) for c in values["classes"]), fingerprint([path]))


def _pictures(path: Path, images: NDArray[np.generic], labels: NDArray[np.generic]) -> Pictures:
    whole = labels.dtype.kind in "iu" and labels.shape == images.shape[:1]
    if images.dtype != np.uint8 or images.ndim != 4 or not whole:
        raise InputError(
            f"{path}: images are {images.dtype} of shape {images.shape}, labels {labels.dtype} {labels.shape}; "
            "give uint8 of shape (n, h, w, c) and whole numbers of shape (n,)"
        )
    return Pictures(images.astype(np.uint8, copy=False), labels.astype(np.int64))


def _fashion_mnist(path: Path, _shape: tuple[int, int, int]) -> Source:
    parts = {
        name: (path / f"{name}-images-idx3-ubyte.gz", path / f"{name}-labels-idx1-ubyte.gz")
        for name in ("train", "t10k")
    }
    for file in (file for pair in parts.values() for file in pair):
        files.existing(file, "the Fashion-MNIST file")
    read_parts = {name: _pictures(path, _idx(x)[..., None], _idx(y)) for name, (x, y) in parts.items()}
    sources = [file for pair in parts.values() for file in pair]
    return Source(read_parts["train"], read_parts["t10k"], FASHION_CLASSES, fingerprint(sources))


def _idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file: two zero bytes, type, number of dimensions, the sizes (big endian), the bytes."""
    try:
        content = gzip.decompress(path.read_bytes())
        sizes = struct.unpack_from(f">{content[3]}I", content, 4)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(sizes)
    except _BROKEN as error:
        raise InputError(f"{path} is cut short or no IDX .gz file ({error}); copy it again") from error


def _folder(path: Path, shape: tuple[int, int, int]) -> Source:
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
    train, test = (_decode(part, shape) for part in parts)
    held_out = _decode(validation, shape) if validation else None
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


def _decode(listed: Listed, shape: tuple[int, int, int]) -> Pictures:
    images = np.empty((len(listed), *shape[1:], shape[0]), np.uint8)
    for row, (file, _) in enumerate(listed):
        images[row] = picture(file, shape)
    return Pictures(images, np.array([label for _, label in listed], np.int64))


def picture(path: Path, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Read one picture file as (h, w, c) uint8, resized (bilinear, antialiased) to `shape` (c, h, w).

    Raises:
        InputError: the file is missing or broken.
    """
    with needs("train"):
        from PIL import Image, UnidentifiedImageError
    channels, height, width = shape
    try:
        with Image.open(files.existing(path, "the picture")) as opened:
            image = opened.convert("L" if channels == 1 else "RGB")
            if image.size != (width, height):
                image = image.resize((width, height), Image.Resampling.BILINEAR)
            return np.asarray(image, np.uint8).reshape(height, width, channels)
    except (*_BROKEN, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"the picture {path} is broken ({error}); repair or remove it") from error


def fingerprint(sources: list[Path]) -> str:
    """Return the sha256 over names, sizes and times of `sources`: data are identified without being read."""
    rows = (f"{s.parent.name}/{s.name}:{s.stat().st_size}:{s.stat().st_mtime_ns}" for s in sources)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def statistics(images: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return (mean, std) per channel in [0, 1] units, rounded to 4 digits, of `images` (n, h, w, c)."""
    flat = images.reshape(-1, images.shape[-1])
    mean, std = flat.mean(0, dtype=np.float64) / 255, flat.std(0, dtype=np.float64) / 255
    return tuple(round(float(v), 4) for v in mean), tuple(max(round(float(v), 4), 1e-4) for v in std)


def chunks(pictures: Pictures, size: int = 256) -> Iterator[Pictures]:
    """Yield `pictures` in order, `size` at a time."""
    for start in range(0, len(pictures), size):
        yield Pictures(pictures.images[start : start + size], pictures.labels[start : start + size])


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
