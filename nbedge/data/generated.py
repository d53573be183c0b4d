"""Generated pictures: noise with labels or boxes, to try a recipe on before the real ones are there."""

import numpy as np

from nbedge.data.pictures import Pictures
from nbedge.data.records import CLASSIFICATION, DETECTION, Source
from nbedge.detection import padded
from nbedge.errors import InputError

#: pictures of each class, for training and for the test
TRAINING, TEST = 8, 1


#: kind of DATA -> task of its labels
KINDS = {"generated": CLASSIFICATION, "generated-boxes": DETECTION}


def read_generated(kind: str, classes: str, shape: tuple[int, int, int]) -> Source:
    """Return noise of `classes` classes, always the same; of the kind "generated-boxes" each picture has one box.

    Raises:
        InputError: `classes` is no number of 2 or more.
    """
    if not classes.isdecimal() or int(classes) < 2:
        raise InputError(f"{kind}:{classes} names no pictures; write the number of classes, for example {kind}:10")
    number = int(classes)
    parts = [_noise(number, each, shape, seed) for seed, each in enumerate((TRAINING, TEST))]
    train, test = (part if KINDS[kind] == CLASSIFICATION else _boxed(part) for part in parts)
    names = tuple(f"class {i}" for i in range(number))
    return Source(train, test, names, f"{kind}:{classes}", task=KINDS[kind])


def _boxed(pictures: Pictures) -> Pictures:
    """Return the pictures with a box of their class in the middle."""
    rows = [np.array([[label, 0.25, 0.25, 0.75, 0.75, 0]], np.float32) for label in pictures.labels]
    return Pictures(pictures.images, padded(rows))


def _noise(classes: int, each: int, shape: tuple[int, int, int], seed: int) -> Pictures:
    channels, height, width = shape
    labels = np.arange(classes * each) % classes
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), height, width, channels), np.uint8)
    return Pictures(images, labels)
