"""Runner: named arrays in, named arrays out, whatever runs the model; and how real values reach it and come back."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge.artifact import TensorSpec
from nbedge.errors import InputError
from nbedge.evaluation import Outputs, joined
from nbedge.preprocessing import Images, Preprocessing

Arrays = dict[str, NDArray[Any]]
#: rank of a batch of pictures, and of a batch of vectors
PICTURES, VECTORS = 4, 2
#: channels by which a layout is told where a file does not say it: grey, RGB, and RGB with depth or alpha
CHANNELS = (1, 3, 4)
#: inputs that are run at once where a model takes any number
AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Runner:
    """A model ready to run.

    Attributes:
        inputs: what it takes, in its own names, layouts and types; a size of 0 takes any.
        outputs: what it gives.
        kernels: which kernels compute ("torch", "ort-vnni", "ort-avx2", "ort-arm", "xnnpack", "builtin", "reference",
            "tflm", or "recorded" for answers that were written down).
        run: arrays by name -> arrays by name.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    kernels: str
    run: Callable[[Arrays], Arrays]


def layout(shape: tuple[int, ...], usual: str) -> str:
    """Return the layout of a tensor: `usual` for pictures, unless only the other one has a likely number of channels.

    Args:
        shape: with the batch.
        usual: that of the format, "NCHW" or "NHWC".
    """
    if len(shape) != PICTURES:
        return "NC" if len(shape) == VECTORS else "ANY"
    first, last = shape[1] in CHANNELS, shape[3] in CHANNELS
    return usual if first == last else ("NCHW" if first else "NHWC")


def quantize(x: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """Return real values as the integers of `spec`, saturated; a float spec leaves them as they are.

    An integer of a spec without a scale stands for itself.
    """
    if np.dtype(spec.dtype).kind not in "iu":
        return x.astype(spec.dtype, copy=False)
    limits = np.iinfo(spec.dtype)
    steps = np.clip(np.rint(x / (spec.scale or 1)) + spec.zero_point, limits.min, limits.max)
    return np.asarray(steps, spec.dtype)


def dequantize(q: NDArray[Any], spec: TensorSpec) -> NDArray[np.float32]:
    """Return the real values that the integers of `spec` stand for."""
    if not spec.scale:
        return q.astype(np.float32, copy=False)
    return ((q.astype(np.float32) - spec.zero_point) * np.float32(spec.scale)).astype(np.float32)


def channels_first(y: NDArray[Any], layout: str) -> NDArray[Any]:
    """Return pictures (n, h, w, c) of the layout "NHWC" as (n, c, h, w); anything else as it is."""
    return y.transpose(0, 3, 1, 2) if layout == "NHWC" and y.ndim == PICTURES else y


def picture_shape(spec: TensorSpec) -> tuple[int, ...]:
    """Return the shape of one input as this package speaks of it: (channels, height, width), or as it is."""
    return channels_first(np.empty((1, *spec.shape[1:]), np.bool_), spec.layout).shape[1:]


def answers(runner: Runner, x: NDArray[np.float32], *, batch: int = AT_ONCE) -> Arrays:
    """Run inputs x (n, c, h, w), or (n, ...), through the first input; return all outputs as real values by name.

    Layout, integer types and a fixed batch are the file's own and are met here; outputs in the layout "NHWC" come back
    as (n, c, h, w).

    Args:
        runner: of one input.
        x: preprocessed inputs.
        batch: how many are run at once, where the model takes any number.

    Raises:
        InputError: there are no inputs, or the model takes another shape, or several inputs.
    """
    raw = raw_answers(runner, x, batch=batch)
    return {s.name: channels_first(dequantize(raw[s.name], s), s.layout) for s in runner.outputs}


def raw_answers(runner: Runner, x: NDArray[np.float32], *, batch: int = AT_ONCE) -> Arrays:
    """Do as `answers`, and return the outputs in the file's own types and layouts."""
    if not len(x):
        raise InputError("there are no inputs to run the model on; give at least one")
    if len(runner.inputs) != 1:
        names = ", ".join(spec.name for spec in runner.inputs)
        raise InputError(f"the model takes {len(runner.inputs)} inputs ({names}); only one can be fed here")
    entry = runner.inputs[0]
    parts = [(runner.run({entry.name: fed}), number, len(fed)) for fed, number in batches(x, entry, batch)]
    return {
        spec.name: np.concatenate([y[spec.name][:n] if n < all_ else y[spec.name] for y, n, all_ in parts])
        for spec in runner.outputs
    }


def batches(x: NDArray[np.float32], entry: TensorSpec, batch: int = AT_ONCE) -> Iterator[tuple[NDArray[Any], int]]:
    """Yield inputs x (n, c, h, w), or (n, ...), as an input takes them, and how many of them count.

    Batches are of the size that the input takes, else of `batch`; the last one is filled up with its last input.

    Raises:
        InputError: the input takes another shape.
    """
    ready = np.ascontiguousarray(quantize(_laid_out(x, entry), entry))
    size = entry.shape[0] or batch
    for start in range(0, len(ready), size):
        part = ready[start : start + size]
        missing = entry.shape[0] - len(part) if entry.shape[0] else 0
        yield (np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part), len(part)


def _laid_out(x: NDArray[np.float32], entry: TensorSpec) -> NDArray[np.float32]:
    fed = x.transpose(0, 2, 3, 1) if entry.layout == "NHWC" and x.ndim == PICTURES else x
    if _fits(fed, entry):
        return fed
    # no file says where its channels are; where they fit at one end only, they are there
    if x.ndim > VECTORS and _fits(np.moveaxis(x, 1, -1), entry):
        return np.moveaxis(x, 1, -1)
    raise InputError(f"the model takes {entry.layout} {entry.shape}, the inputs are {fed.shape}; check --input")


def _fits(x: NDArray[Any], entry: TensorSpec) -> bool:
    sizes = zip(entry.shape[1:], x.shape[1:], strict=False)
    return x.ndim == len(entry.shape) and all(wanted in (0, size) for wanted, size in sizes)


def answer(runner: Runner, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the first output (n, k) of `answers`."""
    found: NDArray[np.float32] = answers(runner, x)[runner.outputs[0].name]
    return found


def answer_pictures(runner: Runner, images: Images, preprocessing: Preprocessing) -> Outputs:
    """Run pictures (n, h, w, c) through `runner` and return its outputs (n, ...) by name."""
    return joined([answers(runner, preprocessing(images[i : i + AT_ONCE])) for i in range(0, len(images), AT_ONCE)])


def mapped(
    runner: Runner,
    feed: Callable[[NDArray[np.float32]], NDArray[np.float32]] = lambda x: x,
    answer: Callable[[NDArray[np.float32]], NDArray[np.float32]] = lambda y: y,
) -> Runner:
    """Return a runner of real values, (n, c, h, w) for pictures, that does `feed` before and `answer` after.

    Args:
        runner: of one input.
        feed: what is done to its input.
        answer: what is done to each of its outputs.
    """
    (entry,) = runner.inputs
    fixed = entry.shape[0]

    def run(arrays: Arrays) -> Arrays:
        return {name: answer(y) for name, y in answers(runner, feed(arrays[entry.name])).items()}

    return Runner((_real(entry, fixed),), tuple(_real(spec, fixed) for spec in runner.outputs), runner.kernels, run)


def _real(spec: TensorSpec, batch: int) -> TensorSpec:
    """Return the spec of the real values of a tensor, channels first."""
    shape = (batch, *picture_shape(spec))
    return TensorSpec(spec.name, shape, "float32", "NCHW" if len(shape) == PICTURES else spec.layout)
