"""Do two runners give the same answers? Scale-aware figures on several families of inputs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge.verification.equivalence import Check, Verdict, at_least, at_most, reported

Array = NDArray[np.floating[Any]]
#: the family whose inputs are pictures; quantized files are judged on it
REAL = "real"
#: a loss fails if it is above its limit at this many standard errors: few pictures alone are no failure
ONE_SIDED_95 = 1.645


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a candidate may be from its reference; defaults with their source.

    Attributes:
        float_error: max|Δ| / RMS of a float candidate. Correct conversions showed 1e-6 to 3e-5 (measured, 3 networks).
        sqnr_db: of an integer candidate on real pictures, in dB. Good files of small trained networks show 20 to 35,
            a per-tensor one that lost its accuracy -2 (measured).
        accuracy_loss: of an integer candidate, in percentage points (a choice: good files of 2
            trained networks lost at most 0.2, measured).
    """

    float_error: float = 1e-4
    sqnr_db: float = 15.0
    accuracy_loss: float = 1.0


def agreement(
    wanted: Mapping[str, Array],
    found: Mapping[str, Array],
    *,
    quantized: bool,
    limits: Limits,
    labels: NDArray[np.int64] | None = None,
) -> list[Check]:
    """Compare outputs (n, k) family by family.

    Args:
        wanted: family name -> outputs of the reference; the family `REAL` holds pictures.
        found: likewise of the candidate.
        quantized: the candidate computes with integers where the reference does not.
        limits: what is allowed.
        labels: (n,) of the family `REAL`, for the accuracy.
    """
    checks: list[Check] = []
    for family, reference in wanted.items():
        checks += _family(family, reference, found[family], quantized, limits)
    if labels is not None and REAL in wanted:
        checks += _accuracy(wanted[REAL], found[REAL], labels, quantized, limits)
    return checks


def _family(family: str, wanted: Array, found: Array, quantized: bool, limits: Limits) -> list[Check]:
    what = f"{len(wanted)} {family} inputs"
    if not len(wanted) or wanted.shape != found.shape:
        return [
            Check("same shape", Verdict.FAIL, math.nan, None, "", f"{wanted.shape} against {found.shape}, {family}")
        ]
    if not (np.isfinite(wanted).all() and np.isfinite(found).all()):
        bad = int((~np.isfinite(found)).sum() + (~np.isfinite(wanted)).sum())
        return [at_most(f"finite outputs, {family}", bad, 0, "values", what)]
    error, sqnr = relative_error(wanted, found), sqnr_db(wanted, found)
    if not quantized:
        return [at_most(f"float error, {family}", error, limits.float_error, "max|Δ|/RMS", what)]
    if family == REAL:
        return [
            at_least("SQNR, real", sqnr, limits.sqnr_db, "dB", what),
            reported("error, real", error, "max|Δ|/RMS", what),
        ]
    return [reported(f"SQNR, {family}", sqnr, "dB", f"{what}; reported: quantizers see pictures only")]


def _accuracy(wanted: Array, found: Array, labels: NDArray[np.int64], quantized: bool, limits: Limits) -> list[Check]:
    flips = reported(
        "answers that differ", int((wanted.argmax(1) != found.argmax(1)).sum()), "inputs", f"of {len(labels)}"
    )
    before, after = (y.argmax(1) == labels for y in (wanted, found))
    loss = 100 * float(before.mean() - after.mean())
    # only pictures that change sides carry noise (McNemar): their number gives the standard error of the difference
    error = 100 * math.sqrt((before != after).sum()) / len(labels)
    detail = f"{100 * before.mean():.2f} % -> {100 * after.mean():.2f} %, standard error {error:.2f}"
    if not quantized:
        return [flips, reported("accuracy loss", loss, "points", detail)]
    passed = Verdict.PASS if loss - ONE_SIDED_95 * error <= limits.accuracy_loss else Verdict.FAIL
    return [flips, Check("accuracy loss", passed, loss, limits.accuracy_loss, "points", detail)]


def relative_error(wanted: Array, found: Array) -> float:
    """Return max|Δ| / RMS(wanted)."""
    return float(np.abs(found - wanted).max() / max(math.sqrt(float(np.square(wanted).mean())), 1e-30))


def sqnr_db(wanted: Array, found: Array) -> float:
    """Return the signal-to-quantization-noise ratio 10 log10(sum y² / sum Δ²) in dB; 300: no noise, -300: no signal."""
    noise = float(np.square(found.astype(np.float64) - wanted).sum())
    signal = float(np.square(wanted.astype(np.float64)).sum())
    if noise <= signal * 1e-30:
        return 300.0
    return 10 * math.log10(signal / noise) if signal > noise * 1e-30 else -300.0
