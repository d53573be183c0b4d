"""aligned(): two subjects that take the same inputs and give the same kind of answers, so that they can be compared."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from nbedge.errors import InputError
from nbedge.normalization import Normalized
from nbedge.preprocessing import Preprocessing
from nbedge.runtime import Runner, mapped
from nbedge.subject import PICTURE_RANK, Subject

Array = NDArray[np.float32]


def aligned(before: Subject, after: Subject) -> tuple[Subject, Subject]:
    """Return both with the one shape that their inputs are made in: (c, h, w), wherever each of them has its channels.

    A size that is left open in one is that of the other. If one takes the pixels of a picture, or gives probabilities,
    the other one is given a normalization, or a softmax, of its own.

    Raises:
        InputError: they take inputs of other sizes, or a size is open in both.
    """
    shape = _shared(before, after)
    if shape is None:
        raise InputError(
            f"{before.name} takes {before.shape}, {after.name} takes {after.shape}: they cannot be compared"
        )
    if 0 in shape:
        raise InputError(f"{before.name} and {after.name} take inputs of any size; pass --input, e.g. --input 3x96x96")
    before, after = _reshaped(before, shape), _reshaped(after, shape)
    if "softmax" in (before.head, after.head):
        before, after = _of_probabilities(before), _of_probabilities(after)
    if any(s.preprocessing is not None and s.preprocessing.takes_pixels for s in (before, after)):
        before, after = _of_pixels(before), _of_pixels(after)
    return before, after


def _shared(before: Subject, after: Subject) -> tuple[int, ...] | None:
    """Return the shape from which the other one differs at most by channels that come last."""
    one, other = (after, before) if before.path and not after.path else (before, after)  # a module's is no guess
    for first, second in ((one, other), (other, one)):
        for shape in (second.shape, second.shape[-1:] + second.shape[:-1]):
            pairs = list(zip(first.shape, shape, strict=False))
            if len(first.shape) == len(shape) and all(a == b or 0 in (a, b) for a, b in pairs):
                return tuple(a or b for a, b in pairs)
        if first.path is None:
            break
    return None


def _reshaped(subject: Subject, shape: tuple[int, ...]) -> Subject:
    prepared = subject.preprocessing
    if prepared is not None and 0 in prepared.shape and len(shape) == PICTURE_RANK:
        channels, height, width = shape
        prepared = replace(prepared, shape=(channels, height, width))
    return replace(subject, shape=shape, preprocessing=prepared)


def _of_probabilities(subject: Subject) -> Subject:
    if subject.head == "softmax":
        return subject
    if isinstance(subject.model, nn.Module):
        return replace(subject, model=nn.Sequential(subject.model, nn.Softmax(1)), head="softmax")
    return replace(subject, model=mapped(subject.model, answer=softmax), head="softmax")


def softmax(logits: Array) -> Array:
    """Return the probabilities (n, classes) of logits."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    found: Array = powers / powers.sum(1, keepdims=True)
    return found


def _of_pixels(subject: Subject) -> Subject:
    prepared = subject.preprocessing
    if prepared is None or prepared.takes_pixels:
        return subject
    if isinstance(subject.model, nn.Module):
        model: nn.Module | Runner = Normalized(subject.model, prepared)
    else:
        model = mapped(subject.model, feed=_normalized(prepared))
    return replace(subject, model=model, preprocessing=prepared.of_pixels())


def _normalized(prepared: Preprocessing) -> Callable[[Array], Array]:
    scale, shift = (values.reshape(-1, 1, 1) for values in prepared.scale_shift())
    return lambda pixels: (pixels * scale + shift).astype(np.float32)
