"""Which value of the reference stands for which of the candidate: told by the numbers, the names and the order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nbedge.localization.values import Array, Value
from nbedge.verification.agreement import sqnr_db

#: signal-to-noise ratio in dB above which two values are the same thing, for sure; unlike ones show about 0
SAME = 15.0
#: numbers of a value that are looked at to tell what it is
LOOKED_AT = 4096
#: what a pair is worth that has no more in common than its shape, and what the same module adds; likeness adds up to 1
SHAPE, MODULE = 0.1, 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A value of the candidate, and what stands for it in the reference.

    Attributes:
        place: of the reference's value in its order.
        reference: the value.
        candidate: the value that is judged.
        sqnr_db: signal-to-noise ratio of the two.
    """

    place: int
    reference: Value
    candidate: Value
    sqnr_db: float


def matched(reference: Sequence[Value], candidate: Sequence[Value]) -> list[Pair]:
    """Return a pair for each value of the candidate that has a counterpart, in the candidate's order.

    A fused activation, a folded BatchNorm or a padding moves what an operator computes, so names and operators do not
    tell; the numbers do. Where a fault has changed them, likeness, module and order do: the alignment of the two
    sequences that is worth most, as the bases of two genes are aligned (Needleman and Wunsch 1970).
    """
    worth, same = _worth(reference, candidate)
    pairs = []
    for j, i in sorted({**_aligned(worth), **same}.items()):
        ratio = sqnr_db(_flat(reference[i].real), _flat(candidate[j].real))
        pairs.append(Pair(i, reference[i], candidate[j], ratio))
    return pairs


def _worth(reference: Sequence[Value], candidate: Sequence[Value]) -> tuple[NDArray[np.float64], dict[int, int]]:
    """Return what each pair is worth (candidates, references), and the surely same ones: candidate -> reference."""
    worth, same = np.full((len(candidate), len(reference)), -np.inf), {}
    seen = [_seen(value.real) for value in reference]
    for j, value in enumerate(candidate):
        numbers, best = _seen(value.real), SAME
        for i, other in enumerate(reference):
            if _shape(other) != _shape(value):
                continue
            ratio = sqnr_db(seen[i], numbers)
            alike = 1 + ratio / 300 if ratio >= SAME else max(0.0, _correlation(seen[i], numbers))
            worth[j, i] = SHAPE + MODULE * (other.label == value.label) + alike
            if ratio > best:
                best, same[j] = ratio, i
    return worth, same


def _aligned(worth: NDArray[np.float64]) -> dict[int, int]:
    """Return candidate -> reference, rising in both, of the largest sum."""
    rows, columns = worth.shape
    total = np.zeros((rows + 1, columns + 1))
    for j in range(rows):
        for i in range(columns):
            total[j + 1, i + 1] = max(total[j, i + 1], total[j + 1, i], total[j, i] + worth[j, i])
    found, j, i = {}, rows, columns
    while j and i:
        if total[j, i] == total[j - 1, i]:
            j -= 1
        elif total[j, i] == total[j, i - 1]:
            i -= 1
        else:
            j, i = j - 1, i - 1
            found[j] = i
    return found


def _shape(value: Value) -> tuple[int, ...]:
    return tuple(size for size in value.real.shape[1:] if size != 1)


def _flat(real: Array) -> Array:
    return np.nan_to_num(real.reshape(len(real), -1))


def _seen(real: Array) -> Array:
    """Return some of the numbers, at the same places of all values of one shape."""
    numbers = _flat(real).reshape(-1)
    return numbers[:: max(1, len(numbers) // LOOKED_AT)]


def _correlation(one: Array, other: Array) -> float:
    one, other = one - one.mean(), other - other.mean()
    sizes = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / sizes if sizes else 0.0
