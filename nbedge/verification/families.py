"""The families of inputs that an edge is judged on: never one random tensor."""

import itertools

import numpy as np
from numpy.typing import NDArray

from nbedge.preprocessing import Preprocessing
from nbedge.verification.agreement import REAL

Array = NDArray[np.float32]
Families = dict[str, Array]
#: inputs of noise
NOISE = 16
#: darkest and brightest input where nothing is known: three standard deviations of a normalised input
RANGE = (-3.0, 3.0)


def families(
    shape: tuple[int, ...], preprocessing: Preprocessing | None = None, real: Array | None = None, seed: int = 0
) -> Families:
    """Return inputs (n, *shape) by family: real ones if given, noise, and extremes.

    The noise has mean and deviation of the real inputs, channel by channel; without them those of normalised ones; it
    stays between dark and bright.
    Extremes: zeros, all dark, all bright, single hot elements (centre and corners), a border alone, a checkerboard.

    Args:
        shape: of one input, (c, h, w) or any other.
        preprocessing: of the model, which says what the darkest and the brightest picture is.
        real: (n, *shape), real inputs after preprocessing.
        seed: of the noise.
    """
    found = {} if real is None else {REAL: real}
    noise = np.random.default_rng(seed).standard_normal((NOISE, *shape)).astype(np.float32)
    if real is not None and len(real) > 1:
        apart = (0, *range(2, real.ndim))  # all but the channels
        mean, deviation = (f(real, axis=apart, keepdims=True, dtype=np.float64) for f in (np.mean, np.std))
        noise = (noise * np.where(deviation > 0, deviation, 1) + mean).astype(np.float32)
    dark, bright = _range(shape, preprocessing, real)
    # what no input can be would only show how a file saturates
    noise = np.clip(noise, np.minimum(dark, bright), np.maximum(dark, bright))
    if preprocessing is not None and preprocessing.takes_pixels:
        noise = np.rint(noise)
    return {**found, "noise": noise, "extreme": _extremes(shape, dark, bright)}


def foremost(given: Families) -> Array:
    """Return the inputs that stand for all: the real ones if there are any."""
    return given.get(REAL, next(iter(given.values())))


def _range(shape: tuple[int, ...], preprocessing: Preprocessing | None, real: Array | None) -> tuple[Array, Array]:
    """Return the darkest and the brightest input, each of `shape`."""
    if preprocessing is not None:
        scale, shift = (values.reshape(-1, 1, 1) for values in preprocessing.scale_shift())
        ends = [shift, 255 * scale + shift]
    elif real is not None:
        ends = [real.min(keepdims=True)[0], real.max(keepdims=True)[0]]
    else:
        ends = [np.float32(value) for value in RANGE]  # type: ignore[misc]
    dark, bright = (np.broadcast_to(np.asarray(end, np.float32), shape) for end in ends)
    return dark, bright


def _extremes(shape: tuple[int, ...], dark: Array, bright: Array) -> Array:
    places = shape[1:] if len(shape) > 1 else shape
    middle = tuple(size // 2 for size in places)
    corners = [
        tuple(-1 if end else 0 for end in ends) for ends in itertools.product((0, 1), repeat=min(2, len(places)))
    ]
    masks = [np.ones(places, np.bool_), *(_hot(places, place) for place in (middle, *corners))]
    border = np.ones(places, np.bool_)
    border[tuple(slice(1, -1) for _ in places)] = False
    board = np.indices(places).sum(0) % 2 == 0
    lit = [np.where(mask, bright, dark) for mask in (*masks, border, board)]
    return np.stack([np.zeros(shape, np.float32), dark, *lit]).astype(np.float32)


def _hot(places: tuple[int, ...], place: tuple[int, ...]) -> NDArray[np.bool_]:
    mask = np.zeros(places, np.bool_)
    mask[place] = True
    return mask
