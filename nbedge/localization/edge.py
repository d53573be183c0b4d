"""locate(): where the candidate of an edge that failed goes wrong, on the inputs that show it best."""

from dataclasses import dataclass

import numpy as np
from torch import nn

from nbedge.localization.values import Array
from nbedge.localization.walk import CLOSED, Localization, localize
from nbedge.runtime import Runner, answers, of_module, open_file
from nbedge.subject import Subject
from nbedge.verification import REAL, Equivalence, Families
from nbedge.verification.families import foremost

#: inputs that values are compared on, half of them those that differ most; all their values are held in memory
INPUTS = 8
#: inputs of a family among which those are looked for
SEARCHED = 100


@dataclass(frozen=True, slots=True, eq=False)
class Located:
    """An edge that failed, and where its candidate goes wrong.

    Attributes:
        edge: the verdict.
        before: the reference.
        after: the candidate.
        x: (n, c, h, w) inputs on which the two were walked.
        localization: what was found.
    """

    edge: Equivalence
    before: Subject
    after: Subject
    x: Array
    localization: Localization


def locate(edge: Equivalence, before: Subject, after: Subject, given: Families) -> Located:
    """Find where the candidate goes wrong.

    Args:
        edge: the verdict.
        before: the reference.
        after: the candidate.
        given: inputs by family, on which it failed.

    Raises:
        InputError: the values inside one of the two cannot be read.
    """
    x = telling(edge, before, after, given)
    return Located(edge, before, after, x, localize(before, after, x, edge.kernels))


def telling(edge: Equivalence, before: Subject, after: Subject, given: Families) -> Array:
    """Return up to `INPUTS` inputs: the first ones of the user's, and those on which the answers differ most.

    Quantized files are judged on real inputs, so that they are looked for among these.
    """
    first = foremost(given)
    if after.quantized and REAL in given:
        given = {REAL: given[REAL]}
    kernels = edge.kernels if edge.kernels in CLOSED and after.path is not None else None
    reference, candidate = runner(before, first), runner(after, first, kernels)
    all_of_them = np.concatenate([x[:SEARCHED] for x in given.values()])
    apart = _apart(answers(reference, all_of_them), answers(candidate, all_of_them))
    worst = all_of_them[np.argsort(-apart, kind="stable")[: INPUTS // 2]]
    return np.concatenate([worst, first[: INPUTS - len(worst)]])


def runner(subject: Subject, x: Array, kernels: str | None = None) -> Runner:
    """Return the runner of a subject for inputs like x (n, ...); a file runs in `kernels`, if any are named."""
    if isinstance(subject.model, nn.Module):
        return of_module(subject.model, x.shape[1:])
    return subject.model if kernels is None or subject.path is None else open_file(subject.path, kernels)


def _apart(wanted: dict[str, Array], found: dict[str, Array]) -> Array:
    """Return (n,) how far the answers to each input are from each other; what is no number is infinitely far."""
    far = np.zeros(len(next(iter(wanted.values()))), np.float32)
    for one, other in zip(wanted.values(), found.values(), strict=False):
        if one.size == other.size:
            rows = np.abs(one.reshape(len(far), -1) - other.reshape(len(far), -1))
            far = np.maximum(far, np.nan_to_num(rows, nan=np.inf).max(1))
    return far
