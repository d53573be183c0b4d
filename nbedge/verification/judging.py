"""verify(): one edge, from its answers. Modules, runners, or one of each."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nbedge.artifact import TensorSpec
from nbedge.blocks import expanded_blocks
from nbedge.errors import InputError
from nbedge.runtime import Arrays, Runner, answers, of_module, raw_answers
from nbedge.task import CLASSIFICATION, Task
from nbedge.verification.agreement import REAL, Limits, agreement, relative_error
from nbedge.verification.equivalence import Check, Equivalence, at_most, not_checked, reported
from nbedge.verification.families import Families, foremost
from nbedge.verification.merge import full_precision, verify_merge

#: inputs that the batches of other sizes and the second run are compared on
REPEATED = 8
#: sizes of the batches that must give the same answers
BATCHES = (1, 3, REPEATED)


def verify(
    reference: nn.Module | Runner,
    candidate: nn.Module | Runner,
    inputs: Tensor | NDArray[np.float32] | Families,
    *,
    labels: NDArray[Any] | None = None,
    quantized: bool = False,
    limits: Limits | None = None,
    task: Task = CLASSIFICATION,
) -> Equivalence:
    """Judge whether `candidate` is the same as `reference`; `bool()` of the result is the verdict.

    A giant against its contracted model is proven site by site; any other pair is judged by its answers.

    Args:
        reference: what is believed: a module, or the runner of a file.
        candidate: what is judged.
        inputs: (n, c, h, w) preprocessed; or by family, of which "real" holds pictures.
        labels: (n, ...) of the real pictures, for the accuracy.
        quantized: the candidate computes with integers where the reference does not.
        limits: of the answers; the defaults are those of `Limits`.
        task: what the outputs mean; several that are no boxes are judged by their numbers alone.

    Raises:
        InputError: there are no inputs, or they do not fit the models, or the models have other outputs.
    """
    given = _families(inputs)
    if not given or not all(len(x) for x in given.values()):
        raise InputError("there are no inputs to compare on; give at least one of each family")
    if labels is not None and len(labels) != len(given.get(REAL, ())):
        raise InputError(f"there are {len(labels)} labels for {len(given.get(REAL, ()))} real pictures; give one each")
    first = foremost(given)
    with _fitting(first.shape):
        if isinstance(reference, nn.Module) and isinstance(candidate, nn.Module) and _is_merge(reference, candidate):
            return verify_merge(reference, candidate, torch.from_numpy(first))
        before, after = (_runner(model, first) for model in (reference, candidate))
        with full_precision():
            checks = _answers(before, after, given, labels, quantized, limits or Limits(), task)
    return Equivalence("reference", "candidate", after.kernels, tuple(checks))


def _families(inputs: Tensor | NDArray[np.float32] | Families) -> Families:
    if isinstance(inputs, Tensor):
        return {REAL: inputs.detach().cpu().float().numpy()}
    return {REAL: inputs.astype(np.float32, copy=False)} if isinstance(inputs, np.ndarray) else inputs


def _is_merge(reference: nn.Module, candidate: nn.Module) -> bool:
    return bool(expanded_blocks(reference)) and not expanded_blocks(candidate)


@contextmanager
def _fitting(shape: tuple[int, ...]) -> Iterator[None]:
    """Name the inputs where torch only says that they do not fit."""
    try:
        yield
    except RuntimeError as error:
        raise InputError(f"the inputs of shape {shape} do not fit the models: {error}") from error


def _runner(model: nn.Module | Runner, x: NDArray[np.float32]) -> Runner:
    return model if isinstance(model, Runner) else of_module(model, x.shape[1:])


def _answers(
    before: Runner, after: Runner, given: Families, labels: NDArray[Any] | None, quantized: bool, limits: Limits,
    task: Task,
) -> Iterator[Check]:  # fmt: skip
    if quantized and REAL not in given:
        yield not_checked("real inputs", "an integer file is judged on real inputs; pass --data")
    pairs = paired(before, after)
    wanted = {family: answers(before, x) for family, x in given.items()}
    found = {family: answers(after, x) for family, x in given.items()}
    like = {
        family: {old: _like(wanted[family][old], y[new]) for old, new in pairs.items()} for family, y in found.items()
    }
    yield from agreement(
        {family: {old: y[old] for old in pairs} for family, y in wanted.items()}, like, quantized=quantized,
        limits=limits, task=task, labels=labels,
    )  # fmt: skip
    yield from repeated(after, foremost(given)[:REPEATED], limits)


def paired(before: Runner, after: Runner) -> Mapping[str, str]:
    """Return which output of `after` stands for each output of `before`: by name, by size or by order.

    The names tell where all agree, else the sizes if no two outputs are alike.

    Raises:
        InputError: they differ in number.
    """
    old, new = ([spec.name for spec in runner.outputs] for runner in (before, after))
    if len(old) != len(new):
        raise InputError(
            f"the reference has {len(old)} outputs ({', '.join(old)}), the candidate {len(new)} ({', '.join(new)})"
        )
    if set(old) == set(new):
        return {name: name for name in old}
    sizes, found = ({spec.name: _sizes(spec) for spec in runner.outputs} for runner in (before, after))
    by_size = {size: name for name, size in found.items()}
    if len(by_size) == len(found) and by_size.keys() == set(sizes.values()):
        return {name: by_size[size] for name, size in sizes.items()}
    return dict(zip(old, new, strict=True))


def _sizes(spec: TensorSpec) -> tuple[int, ...]:
    """Return the sizes of one output, wherever the channels are."""
    return tuple(sorted(size for size in spec.shape[1:] if size != 1))


def _like(wanted: NDArray[np.float32], found: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `found` in the layout of `wanted`, where only the place of the channels differs.

    Files say nothing of the layout of a dense output; a picture-shaped one of TFLite is taken for (n, h, w, c).
    """
    if wanted.shape != found.shape and found.ndim > 2:
        for moved in (np.moveaxis(found, -1, 1), np.moveaxis(found, 1, -1)):
            if moved.shape == wanted.shape:
                return moved
    return found.reshape(wanted.shape) if _squeezed(found.shape) == _squeezed(wanted.shape) else found


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], *(size for size in shape[1:] if size != 1))


def repeated(runner: Runner, x: NDArray[np.float32], limits: Limits) -> Iterator[Check]:
    """Judge whether the same inputs give the same answers: once more, and in batches of other sizes."""
    first, second = (raw_answers(runner, x, batch=len(x)) for _ in range(2))
    if not all(np.isfinite(y).all() for y in first.values()):
        return  # judged as such
    differ = sum(int((first[name] != second[name]).sum()) for name in first)
    yield at_most("values that differ when run twice", differ, 0, "values", f"{len(x)} inputs")
    fixed = runner.inputs[0].shape[0]
    if fixed:
        yield reported("batch", fixed, "inputs", "the file takes no other number at once")
        return
    sizes = [size for size in BATCHES if size <= len(x)]
    by_size = [answers(runner, x, batch=size) for size in sizes]
    worst = float(np.max([_worst(by_size[-1], other) for other in by_size]))
    yield at_most(
        "batch sizes agree", worst, limits.float_error, "max|Δ|/RMS", f"batches of {', '.join(map(str, sizes))}"
    )


def _worst(wanted: Arrays, found: Arrays) -> float:
    # numpy's maximum, unlike Python's, is no number where one of them is none
    return float(np.max([relative_error(wanted[name], found[name]) for name in wanted]))
