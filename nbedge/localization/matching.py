"""Which value of the reference stands for which value of the candidate: told by the numbers, in order."""

from collections.abc import Iterator, Sequence

import numpy as np

from nbedge.localization.values import Array, Value
from nbedge.verification.agreement import sqnr_db

#: values of the same shape that are looked at beyond the last one found; a converter moves an operator by a few places
WINDOW = 16
#: signal-to-noise ratio in dB above which two values are the same thing, for sure; unlike ones show about 0
SAME = 15.0


def matched(reference: Sequence[Value], candidate: Sequence[Value]) -> Iterator[tuple[Value, Value, float]]:
    """Yield (of the reference, of the candidate, SQNR in dB) for each value of the candidate that has a counterpart.

    A fused activation, a folded BatchNorm or a padding moves what an operator computes, so names and operators do not
    tell; the numbers do. Where a fault has changed them, the values of the same module are paired, else the most alike
    of the next ones of the same shape.
    """
    last = -1
    for value in candidate:
        like = [i for i, other in enumerate(reference) if i > last and _shape(other) == _shape(value)][:WINDOW]
        if not like:
            continue
        ratios = {i: sqnr_db(_flat(reference[i].real), _flat(value.real)) for i in like}
        best = max(ratios, key=ratios.__getitem__)
        if ratios[best] < SAME:
            named = [i for i in like if reference[i].label == value.label]
            best = named[-1] if named else best
        else:
            last = best
        yield reference[best], value, ratios[best]


def _shape(value: Value) -> tuple[int, ...]:
    return tuple(size for size in value.real.shape[1:] if size != 1)


def _flat(real: Array) -> Array:
    return np.nan_to_num(real.reshape(len(real), -1))
