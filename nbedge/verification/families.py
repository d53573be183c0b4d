"""The families of inputs that an edge is judged on: never one random tensor."""

import numpy as np
from numpy.typing import NDArray

from nbedge.preprocessing import Preprocessing
from nbedge.verification.agreement import REAL


def families(
    preprocessing: Preprocessing, real: NDArray[np.float32] | None = None, seed: int = 0
) -> dict[str, NDArray[np.float32]]:
    """Return inputs (n, c, h, w) by family: real ones if given, noise, and extremes.

    Args:
        preprocessing: of the model.
        real: (n, c, h, w), real pictures after preprocessing.
        seed: of the noise.
    """
    found = {} if real is None else {REAL: real}
    channels, height, width = preprocessing.shape
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((16, channels, height, width)).astype(np.float32)
    return {**found, "noise": noise, "extreme": preprocessing(_extremes(height, width, channels))}


def _extremes(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """Return black, white, single hot pixels (centre, corners), a border alone, and a checkerboard."""
    pictures = np.zeros((8, height, width, channels), np.uint8)
    pictures[1] = 255
    for index, (y, x) in enumerate(((height // 2, width // 2), (0, 0), (0, width - 1), (height - 1, width - 1))):
        pictures[2 + index, y, x] = 255
    pictures[6, [0, -1]] = 255
    pictures[6, :, [0, -1]] = 255
    pictures[7, ::2, ::2] = 255
    return pictures
