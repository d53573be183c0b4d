"""Pictures in array files: .npz, and the IDX files of Fashion-MNIST."""

import gzip
import struct
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nbedge import files
from nbedge.data.pictures import BROKEN, Pictures
from nbedge.data.records import Source, fingerprint
from nbedge.errors import InputError

FASHION_CLASSES = (
    "t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip


def read_npz(path: Path, _shape: tuple[int, int, int]) -> Source:
    """Read a .npz file with the arrays {train,test}_{images,labels} and classes."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:  # numpy leaves a bad file open
            values = {name: arrays[name] for name in arrays.files}
    except (*BROKEN, TypeError, zipfile.BadZipFile, NotImplementedError) as error:
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


def read_fashion_mnist(path: Path, _shape: tuple[int, int, int]) -> Source:
    """Read a folder with the four IDX files of Fashion-MNIST, or a set of the same form."""
    parts = {
        name: (path / f"{name}-images-idx3-ubyte.gz", path / f"{name}-labels-idx1-ubyte.gz")
        for name in ("train", "t10k")
    }
    for file in (file for pair in parts.values() for file in pair):
        files.existing(file, "the Fashion-MNIST file")
    read_parts = {name: _pictures(path, read_idx(x)[..., None], read_idx(y)) for name, (x, y) in parts.items()}
    sources = [file for pair in parts.values() for file in pair]
    return Source(read_parts["train"], read_parts["t10k"], FASHION_CLASSES, fingerprint(sources))


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file: two zero bytes, type, number of dimensions, the sizes (big endian), the bytes."""
    try:
        content = gzip.decompress(path.read_bytes())
        sizes = struct.unpack_from(f">{content[3]}I", content, 4)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(sizes)
    except BROKEN as error:
        raise InputError(f"{path} is cut short or no IDX .gz file ({error}); copy it again") from error
