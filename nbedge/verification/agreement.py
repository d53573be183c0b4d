"""Do two runners give the same answers? Scale-aware figures on several families of inputs."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge.errors import InputError
from nbedge.evaluation import Outputs
from nbedge.task import CLASSIFICATION, Differing, Lost, Task
from nbedge.verification.equivalence import Check, Verdict, at_least, at_most, reported

Array = NDArray[np.floating[Any]]
#: the family of the user's own inputs, such as pictures; quantized files are judged on it
REAL = "real"
#: a loss fails if it is above its limit at this many standard errors: few pictures alone are no failure
ONE_SIDED_95 = 1.645


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a candidate may be from its reference; defaults with their source.

    Attributes:
        float_error: max|Δ| / RMS of a float candidate. Correct conversions showed 1e-6 to 3e-5 (measured, 3 networks).
        sqnr_db: of an integer candidate on real inputs, in dB. Good files of small trained networks show 20 to 35,
            a per-tensor one that lost its accuracy -2 (measured).
        cosine: of an integer candidate on real inputs. Noise that is independent of the signal leaves
            1 / sqrt(1 + 10^-1.5) = 0.984 at 15 dB; a drift of scale, which SQNR counts as noise, leaves 1.
        flips: of an integer candidate, percent of the real inputs that may get another first answer. Good files of two
            trained networks showed 0 to 1, one that lost its accuracy 90 (measured); 5 is a choice.
        accuracy_loss: of an integer candidate, in percentage points (a choice: good files of 2
            trained networks lost at most 0.2, measured).
        steps: between the reference kernels and TFLite Micro, in integer steps. Some operators round otherwise by one
            step, which adds up: 2 on the autoencoder of MLPerf Tiny (ten fully connected layers), 0 to 1 on its other
            networks and on the samples (measured); a file that TFLite Micro misreads is 247 apart. 4 is a choice.
    """

    float_error: float = 1e-4
    sqnr_db: float = 15.0
    cosine: float = 0.98
    flips: float = 5.0
    accuracy_loss: float = 1.0
    steps: float = 4.0

    def __post_init__(self) -> None:
        """Refuse what is no limit."""
        for limit in fields(self):
            value = getattr(self, limit.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
                raise InputError(f"{limit.name} is {value!r}; give a number as limit")
        for name in ("float_error", "flips", "steps"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; give 0 or more as limit")


def agreement(
    wanted: Mapping[str, Outputs],
    found: Mapping[str, Outputs],
    *,
    quantized: bool,
    limits: Limits,
    task: Task = CLASSIFICATION,
    labels: NDArray[Any] | None = None,
) -> list[Check]:
    """Compare the outputs, family by family, and the answers to real inputs as their task understands them.

    Args:
        wanted: family name -> outputs (n, ...) of the reference by name; the family `REAL` holds real inputs.
        found: likewise of the candidate, under the same names.
        quantized: the candidate computes with integers where the reference does not.
        limits: what is allowed.
        task: what the outputs mean.
        labels: (n, ...) of the family `REAL`, for the score.
    """
    names = list(next(iter(wanted.values()), {}))
    checks = [
        check
        for name in names
        for family, reference in wanted.items()
        for check in _family(
            family, f"{family}, {name}" if len(names) > 1 else family, reference[name], found[family][name], quantized,
            limits,
        )
    ]  # fmt: skip
    if REAL in wanted:
        checks += _answers(wanted[REAL], found[REAL], quantized, limits, task, labels)
    return checks


def _answers(
    wanted: Outputs, found: Outputs, quantized: bool, limits: Limits, task: Task, labels: NDArray[Any] | None
) -> Iterator[Check]:  # fmt: skip
    if any(y.shape != found[name].shape for name, y in wanted.items()):
        return  # judged as such
    for name, differ in task.differing(wanted, found).items():
        yield _flips(differ, quantized, limits, name if len(wanted) > 1 else "")
    lost = None if labels is None else task.lost(wanted, found, labels)
    if lost is not None:
        yield _accuracy(lost, quantized, limits)


def _family(family: str, where: str, wanted: Array, found: Array, quantized: bool, limits: Limits) -> list[Check]:
    what = f"{len(wanted)} {family} inputs"
    if not len(wanted) or wanted.shape != found.shape:
        return [Check("same shape", Verdict.FAIL, math.nan, None, "", f"{wanted.shape} against {found.shape}, {where}")]
    if not (np.isfinite(wanted).all() and np.isfinite(found).all()):
        bad = int((~np.isfinite(found)).sum() + (~np.isfinite(wanted)).sum())
        return [at_most(f"finite outputs, {where}", bad, 0, "values", what)]
    error, sqnr = relative_error(wanted, found), sqnr_db(wanted, found)
    if not quantized:
        return [at_most(f"float error, {where}", error, limits.float_error, "max|Δ|/RMS", what)]
    if family == REAL:
        return [
            at_least(f"SQNR, {where}", sqnr, limits.sqnr_db, "dB", what),
            at_least(f"cosine, {where}", cosine(wanted, found), limits.cosine, "", what),
            reported(f"error, {where}", error, "max|Δ|/RMS", what),
        ]
    return [reported(f"SQNR, {where}", sqnr, "dB", f"{what}; reported: quantizers see real inputs only")]


def _flips(differ: Differing, quantized: bool, limits: Limits, output: str) -> Check:
    name = f"answers that differ, {output}" if output else "answers that differ"
    if not quantized:
        return reported(name, differ.count, differ.what, f"of {differ.of}")
    share = 100 * differ.count / differ.of
    # few inputs alone are no failure: the limit must lie below the lower end of the share's interval
    error = 100 * math.sqrt(share / 100 * (1 - share / 100) / differ.of)
    passed = Verdict.PASS if share - ONE_SIDED_95 * error <= limits.flips else Verdict.FAIL
    detail = f"{differ.count} of {differ.of}, standard error {error:.2f}"
    return Check(name, passed, share, limits.flips, "%", detail)


def _accuracy(lost: Lost, quantized: bool, limits: Limits) -> Check:
    loss, error = 100 * (lost.before - lost.after), 100 * lost.error
    detail = f"{100 * lost.before:.2f} % -> {100 * lost.after:.2f} %, standard error {error:.2f}"
    if not quantized:
        return reported("accuracy loss", loss, "points", detail)
    # a standard error that few pictures do not give makes no allowance
    allowance = 0.0 if math.isnan(error) else ONE_SIDED_95 * error
    passed = Verdict.PASS if loss - allowance <= limits.accuracy_loss else Verdict.FAIL
    return Check("accuracy loss", passed, loss, limits.accuracy_loss, "points", detail)


def cosine(wanted: Array, found: Array) -> float:
    """Return the cosine of the angle between two arrays; 1 where both are 0 throughout."""
    one, other = (y.astype(np.float64).ravel() for y in (wanted, found))
    sizes = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / sizes if sizes else float(np.array_equal(one, other))


def relative_error(wanted: Array, found: Array) -> float:
    """Return max|Δ| / RMS(wanted)."""
    wanted, found = wanted.astype(np.float64), found.astype(np.float64)
    return float(np.abs(found - wanted).max() / max(math.sqrt(float(np.square(wanted).mean())), 1e-30))


def sqnr_db(wanted: Array, found: Array) -> float:
    """Return the signal-to-quantization-noise ratio 10 log10(sum y² / sum Δ²) in dB; 300: no noise, -300: no signal."""
    noise = float(np.square(found.astype(np.float64) - wanted).sum())
    signal = float(np.square(wanted.astype(np.float64)).sum())
    if noise <= signal * 1e-30:
        return 300.0
    return 10 * math.log10(signal / noise) if signal > noise * 1e-30 else -300.0
