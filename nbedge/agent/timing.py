"""Clocks: how long a call takes, once it takes the same time again and again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

import numpy as np

#: below this many ms calls are timed in batches of about as long: reading the clock twice costs some 0.1 µs
SHORTEST_MS = 0.5
#: samples that are handed on, as evenly spaced order statistics; they keep minimum, quartiles and maximum
KEPT = 2000
#: a window of the warm-up: calls and seconds, at least; how many there are, at most; and how near two medians must be
WINDOW_CALLS, WINDOW_SECONDS, WINDOWS, AGREE = 5, 0.1, 20, 0.05
#: empty calls that the overhead is measured with
EMPTY = 100_000

Call = Callable[[], object]


@dataclass(frozen=True)
class Samples:
    """Times of one process.

    Attributes:
        ms: of a call, sorted; each is the mean of `calls` calls in a row. At most `KEPT` of them.
        number: of samples that were taken.
        calls: in each.
        warm_up_windows: until two of them agreed.
        warmed_up: whether two of them agreed at all.
    """

    ms: tuple[float, ...]
    number: int
    calls: int
    warm_up_windows: int
    warmed_up: bool


def time_calls(invoke: Call, calls: int) -> float:
    """Return the ms that one of `calls` calls in a row took on average."""
    start = perf_counter_ns()
    for _ in range(calls):
        invoke()
    return (perf_counter_ns() - start) / calls / 1e6


def overhead_ms() -> float:
    """Return what a call that does nothing costs: it is part of every sample."""
    return min(time_calls(lambda: None, EMPTY // 10) for _ in range(10))


def warm_up(invoke: Call) -> tuple[float, int, bool]:
    """Call until the medians of two windows in a row agree within 5 %.

    Returns:
        The last median in ms, how many windows there were, and whether two agreed.
    """
    last = _window(invoke)
    for number in range(2, WINDOWS + 1):
        previous, last = last, _window(invoke)
        if abs(last - previous) <= AGREE * previous:
            return last, number, True
    return last, WINDOWS, False


def _window(invoke: Call) -> float:
    return float(np.median(sampled(invoke, WINDOW_SECONDS, 1, WINDOW_CALLS)))


def samples(invoke: Call, seconds: float, least: int) -> Samples:
    """Warm up, then take samples for at least `seconds`, and at least `least` of them."""
    typical, windows, warmed = warm_up(invoke)
    calls = max(1, int(np.ceil(SHORTEST_MS / max(typical, 1e-6))))
    times = sampled(invoke, seconds, calls, least)
    return Samples(thinned(times), len(times), calls, windows, warmed)


def sampled(invoke: Call, seconds: float, calls: int, least: int) -> Any:
    """Return ms per call (n,) float64 for at least `seconds` and at least `least` samples of `calls` calls each."""
    times: list[float] = []
    end = perf_counter_ns() + seconds * 1e9
    while len(times) < least or perf_counter_ns() < end:
        times.append(time_calls(invoke, calls))
    return np.asarray(times)


def thinned(times: Any) -> tuple[float, ...]:
    """Return `times` sorted; if they are more than `KEPT`, that many order statistics of them."""
    if len(times) > KEPT:
        times = np.quantile(times, np.linspace(0, 1, KEPT))
    return tuple(round(float(t), 6) for t in np.sort(times))
