"""From a picture file to pixels of the model's size."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nbedge import files
from nbedge.data.pictures import BROKEN
from nbedge.errors import InputError, needs

if TYPE_CHECKING:
    from PIL.Image import Image


def picture(path: Path, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Read one picture file as (h, w, c) uint8, resized (bilinear, antialiased) to `shape` (c, h, w).

    Raises:
        InputError: the file is missing or broken.
    """
    with _opened(files.existing(path, "the picture"), str(path)) as image:
        return _pixels(image, shape)


def drafted(content: Path | bytes, shape: tuple[int, int, int], name: str) -> NDArray[np.uint8]:
    """Do what `picture` does, two to four times as fast for a JPEG of at least twice the size of `shape`.

    Such a JPEG is halved, quartered or divided by eight while it is decoded, never below `shape`; its pixels then
    differ from those of `picture` by 1 to 3 of 255 on average.

    Raises:
        InputError: the picture is missing or broken; `name` says which.
    """
    channels, height, width = shape
    with _opened(content if isinstance(content, Path) else io.BytesIO(content), name) as image:
        image.draft("L" if channels == 1 else "RGB", (width, height))
        return _pixels(image, shape)


def size_of(path: Path) -> tuple[int, int]:
    """Return (width, height) of a picture file, in pixels.

    Raises:
        InputError: the picture is missing or broken.
    """
    with _opened(files.existing(path, "the picture"), str(path)) as image:
        return image.width, image.height


@contextmanager
def _opened(source: Path | io.BytesIO, name: str) -> "Iterator[Image]":
    with needs("train"):
        from PIL import Image, UnidentifiedImageError
    try:
        with Image.open(source) as opened:
            yield opened
    except (*BROKEN, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"the picture {name} is broken ({error}); repair or remove it") from error


def _pixels(opened: "Image", shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    from PIL import Image

    channels, height, width = shape
    image = opened.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8).reshape(height, width, channels)
