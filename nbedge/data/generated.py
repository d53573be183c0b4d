"""Generated pictures: noise with labels, to try a recipe on before the real ones are there."""

import numpy as np

from nbedge.data.pictures import Pictures
from nbedge.data.records import Source
from nbedge.errors import InputError

#: pictures of each class, for training and for the test
TRAINING, TEST = 8, 1


def read_generated(classes: str, shape: tuple[int, int, int]) -> Source:
    """Return noise of `classes` classes, always the same.

    Raises:
        InputError: `classes` is no number of 2 or more.
    """
    if not classes.isdecimal() or int(classes) < 2:
        raise InputError(
            f"generated:{classes} names no pictures; write the number of classes, for example generated:10"
        )
    number = int(classes)
    train, test = (_noise(number, each, shape, seed) for seed, each in enumerate((TRAINING, TEST)))
    return Source(train, test, tuple(f"class {i}" for i in range(number)), f"generated:{classes}")


def _noise(classes: int, each: int, shape: tuple[int, int, int], seed: int) -> Pictures:
    channels, height, width = shape
    labels = np.arange(classes * each) % classes
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), height, width, channels), np.uint8)
    return Pictures(images, labels)
