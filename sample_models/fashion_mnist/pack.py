"""Pack a stratified subset of Fashion-MNIST into `data.npz` beside this file.

Usage: `python sample_models/fashion_mnist/pack.py FOLDER`, where FOLDER holds the four IDX `.gz` files of the official
data set. Debian ships them: `apt-get download dataset-fashion-mnist`, then `dpkg-deb -x DEB DIR`; they lie in
`DIR/usr/share/datasets/fashion-mnist`. The same files always give the same bytes.
"""

import argparse
import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CLASSES = ("t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
TRAIN_PER_CLASS = 1000
TEST_PER_CLASS = 200
SEED = 0
IDX_UINT8 = 0x08

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]


def read_idx(path: Path) -> Bytes:
    """Return the array of uint8 that a gzipped IDX file holds."""
    raw = gzip.decompress(path.read_bytes())
    if raw[:3] != bytes((0, 0, IDX_UINT8)):
        raise SystemExit(f"{path}: begins with {raw[:3].hex()}, not 000008; give the IDX files of Fashion-MNIST.")
    rank = raw[3]
    shape = np.frombuffer(raw, ">u4", rank, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def stratified(labels: Bytes, per_class: int, rng: np.random.Generator) -> Ints:
    """Return the sorted indices of `per_class` random items of each class."""
    picked = [rng.choice(np.flatnonzero(labels == c), per_class, replace=False) for c in range(len(CLASSES))]
    return np.sort(np.concatenate(picked))


def subset(folder: Path, prefix: str, per_class: int, rng: np.random.Generator) -> tuple[Bytes, Ints]:
    """Return images (n, 28, 28, 1) and labels (n,) drawn from one official part (`train` or `t10k`)."""
    images = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz")
    indices = stratified(labels, per_class, rng)
    return images[indices, :, :, None], labels[indices].astype(np.int64)


def write_npz(path: Path, arrays: dict[str, NDArray[np.generic]]) -> None:
    """Write a compressed NPZ file whose bytes depend on the arrays only, not on the clock."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, buffer.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)


def pack(folder: Path, path: Path) -> None:
    """Draw both parts from the IDX files in `folder` and write them to `path`."""
    rng = np.random.default_rng(SEED)
    train_images, train_labels = subset(folder, "train", TRAIN_PER_CLASS, rng)
    test_images, test_labels = subset(folder, "t10k", TEST_PER_CLASS, rng)
    arrays: dict[str, NDArray[np.generic]] = {
        "train_images": train_images,
        "train_labels": train_labels,
        "test_images": test_images,
        "test_labels": test_labels,
        "classes": np.array(CLASSES),
    }
    write_npz(path, arrays)


def main() -> None:
    """Read the command line and pack."""
    parser = argparse.ArgumentParser(description="Pack a subset of Fashion-MNIST into data.npz beside this file.")
    parser.add_argument("folder", type=Path, help="folder of the four IDX .gz files")
    pack(parser.parse_args().folder, Path(__file__).with_name("data.npz"))


if __name__ == "__main__":
    main()
