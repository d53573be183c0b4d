"""What a few processes say: intervals by Student's t, percentiles that the number of samples supports."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: Student's 97.5 % quantile by degrees of freedom, from 1
STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
NORMAL = 1.959964
CONFIDENCE = 0.95


def student(freedom: int) -> float:
    """Return Student's 97.5 % quantile; beyond the table its expansion in 1 / `freedom` (Abramowitz, Stegun 26.7.5)."""
    if freedom < 1:
        return math.inf
    if freedom <= len(STUDENT):
        return STUDENT[freedom - 1]
    z = NORMAL
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return mean, and the ends of its 95 % interval by Student's t; of one value nobody knows the interval (nan)."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, math.nan, math.nan
    margin = student(len(values) - 1) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return mean, mean - margin, mean + margin


def geometric_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the geometric mean of positive values, and its 95 % interval: Student's t on their logarithms.

    Times are positive, and what disturbs them multiplies them: on this scale no interval reaches below zero.
    """
    mean, low, high = mean_interval([float(value) for value in np.log(values)])
    return math.exp(mean), math.exp(low), math.exp(high)


def ratio_interval(before: Sequence[float], after: Sequence[float]) -> tuple[float, float, float]:
    """Return after / before and the ends of its 95 % interval: Student's t on the logarithms of the pairs' ratios."""
    return geometric_interval([new / old for old, new in zip(before, after, strict=True)])


def least_samples(percentile: float) -> int:
    """Return how many independent samples it takes until the largest one is above a percentile with 95 % confidence.

    The smallest n with (percentile / 100)^n <= 0.05: 29 for p90, 59 for p95, 299 for p99. With fewer an upper bound of
    the percentile is not in the samples at all.
    """
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(percentile / 100))


def percentile(values: NDArray[np.float64], which: float, number: int) -> float | None:
    """Return a percentile of samples (n,), of which `number` were taken; None if those are too few for it."""
    return float(np.percentile(values, which)) if number >= least_samples(which) else None
