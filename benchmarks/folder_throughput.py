"""Print how many pictures a second a large folder gives, by worker processes: `benchmarks/folder_throughput.py`.

The pictures are noise, smoothed so that they compress like photographs, saved as JPEG of 500 x 375 pixels (the usual
size in ImageNet). Epochs with and without workers alternate, so that other work on the machine hits both alike.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from nbedge.data import FolderImages, Pictures
from nbedge.preprocessing import Preprocessing
from nbedge.training import batches

SIZE = (500, 375)
BATCH = 128


def draw(folder: Path, count: int) -> Pictures:
    rng = np.random.default_rng(0)
    for number in range(count):
        small = Image.fromarray(rng.integers(0, 256, (47, 63, 3), np.uint8))
        small.resize(SIZE, Image.Resampling.BICUBIC).save(folder / f"{number:05}.jpg", quality=90)
    return Pictures(FolderImages.of(folder, sorted(folder.iterdir()), (3, 96, 96)), np.zeros(count, np.int64))


def rate(pictures: Pictures, workers: int) -> float:
    """Return the pictures a second of one epoch, start of the workers included."""
    preprocessing = Preprocessing((3, 96, 96), (0.5,) * 3, (0.25,) * 3)
    loader = batches(pictures, preprocessing, BATCH, 0, ("shift", "flip"), workers=workers)
    start = time.perf_counter()
    seen = sum(len(labels) for _, labels in loader)
    return seen / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pictures = draw(Path(folder), arguments.pictures)
        rounds = [(rate(pictures, 0), rate(pictures, arguments.workers)) for _ in range(arguments.rounds)]
    alone, shared = (statistics.median(column) for column in zip(*rounds, strict=True))
    result = {"pictures_per_s": {"0": round(alone), str(arguments.workers): round(shared)}}
    print(json.dumps({**result, "ratio": round(statistics.median(b / a for a, b in rounds), 2)}))


if __name__ == "__main__":
    main()
