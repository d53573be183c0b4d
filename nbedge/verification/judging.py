"""verify(): the one door. Modules, runners, or one of each."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nbedge.blocks import expanded_blocks
from nbedge.errors import InputError
from nbedge.runtime import Runner, answer
from nbedge.tracing import evaluating
from nbedge.verification.agreement import REAL, Limits, agreement
from nbedge.verification.equivalence import Equivalence
from nbedge.verification.merge import full_precision, verify_merge

Inputs = dict[str, NDArray[np.float32]]


def verify(
    reference: nn.Module | Runner,
    candidate: nn.Module | Runner,
    inputs: Tensor | Inputs,
    *,
    labels: NDArray[np.int64] | None = None,
    quantized: bool = False,
    limits: Limits | None = None,
) -> Equivalence:
    """Judge whether `candidate` is the same as `reference`; `bool()` of the result is the verdict.

    A giant against its contracted model is proven site by site; any other pair is judged by its answers.

    Args:
        reference: what is believed: a module, or the runner of a file.
        candidate: what is judged.
        inputs: (n, c, h, w) preprocessed; or by family, of which "real" holds pictures.
        labels: (n,) of the real pictures, for the accuracy.
        quantized: the candidate computes with integers where the reference does not.
        limits: of the answers; the defaults are those of `Limits`.

    Raises:
        InputError: there are no inputs, or they do not fit the models.
    """
    given = {REAL: inputs.detach().cpu().float().numpy()} if isinstance(inputs, Tensor) else inputs
    if not given or not all(len(x) for x in given.values()):
        raise InputError("there are no inputs to compare on; give at least one of each family")
    if labels is not None and len(labels) != len(given.get(REAL, ())):
        raise InputError(f"there are {len(labels)} labels for {len(given.get(REAL, ()))} real pictures; give one each")
    if isinstance(reference, nn.Module) and isinstance(candidate, nn.Module) and _is_merge(reference, candidate):
        with _fitting(given):
            return verify_merge(reference, candidate, torch.from_numpy(given.get(REAL, next(iter(given.values())))))
    with _fitting(given):
        wanted = {family: outputs(reference, x) for family, x in given.items()}
        found = {family: outputs(candidate, x) for family, x in given.items()}
    checks = agreement(wanted, found, quantized=quantized, limits=limits or Limits(), labels=labels)
    kernels = candidate.kernels if isinstance(candidate, Runner) else "torch"
    return Equivalence("reference", "candidate", kernels, tuple(checks))


def _is_merge(reference: nn.Module, candidate: nn.Module) -> bool:
    return bool(expanded_blocks(reference)) and not expanded_blocks(candidate)


@contextmanager
def _fitting(given: Inputs) -> Iterator[None]:
    """Name the inputs where torch only says that they do not fit."""
    try:
        yield
    except RuntimeError as error:
        shape = next(iter(given.values())).shape
        raise InputError(f"the inputs of shape {shape} do not fit the models: {error}") from error


def outputs(model: nn.Module | Runner, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the answers (n, k) of a module (in eval mode) or a runner to inputs (n, c, h, w)."""
    if isinstance(model, Runner):
        return answer(model, x)
    like = next(model.parameters(), torch.empty(0))
    with evaluating(model), torch.inference_mode(), full_precision():
        given = torch.from_numpy(x).to(like)
        parts = [model(part).float().cpu().numpy() for part in torch.split(given, 500)]
    return np.concatenate(parts)
