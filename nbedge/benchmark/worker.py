"""One process, one file: load it, warm it up, time it, and print one JSON object.

    python -m nbedge.benchmark.worker FILE --seconds 1 --threads 1

A process of its own, because what an earlier file left behind (allocator, caches, thread pools) changes both
figures. Exit status 3: the runtime is not installed.
"""

import argparse
import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge.benchmark import memory
from nbedge.benchmark.engines import ENGINES
from nbedge.errors import NbedgeError

#: below this many ms a call is timed in batches: reading the clock twice costs some 0.1 µs
SHORTEST_MS = 0.1
#: samples that are printed, as evenly spaced order statistics; they keep minimum, median, p90 and maximum
PRINTED = 2000
_SAMPLES = 100
_WINDOW_CALLS = 5
_WINDOW_SECONDS = 0.1
_WINDOWS = 20
_AGREE = 0.05


def time_calls(invoke: Callable[[], object], calls: int) -> float:
    """Return the ms that one of `calls` calls in a row took on average."""
    start = perf_counter_ns()
    for _ in range(calls):
        invoke()
    return (perf_counter_ns() - start) / calls / 1e6


def warm_up(invoke: Callable[[], object]) -> float:
    """Call until the medians of two successive windows agree within 5 %, 20 windows at most; return the last, in ms."""
    last = _window(invoke)
    for _ in range(_WINDOWS - 1):
        previous, last = last, _window(invoke)
        if abs(last - previous) <= _AGREE * previous:
            break
    return last


def _window(invoke: Callable[[], object]) -> float:
    return float(np.median(sample(invoke, _WINDOW_SECONDS, calls=1, least=_WINDOW_CALLS)))


def sample(invoke: Callable[[], object], seconds: float, calls: int, least: int = _SAMPLES) -> NDArray[np.float64]:
    """Return ms per call for at least `seconds` and at least `least` samples, each the mean of `calls` calls."""
    times: list[float] = []
    end = perf_counter_ns() + seconds * 1e9
    while len(times) < least or perf_counter_ns() < end:
        times.append(time_calls(invoke, calls))
    return np.asarray(times)


def thinned(times: NDArray[np.float64]) -> list[float]:
    """Return `times` sorted; if they are more than `PRINTED`, that many order statistics of them."""
    if len(times) > PRINTED:
        times = np.quantile(times, np.linspace(0, 1, PRINTED))
    return [round(float(t), 6) for t in np.sort(times)]


def run(path: Path, seconds: float, threads: int) -> dict[str, Any]:
    """Measure `path`; times in ms, memory in bytes."""
    engine = ENGINES[path.suffix]()
    gc.collect()
    gc.disable()
    baseline = memory.reset_peak()
    start = perf_counter_ns()
    opened = engine.open(path, threads)
    init = (perf_counter_ns() - start) / 1e6
    first = time_calls(opened.invoke, 1)
    calls = max(1, int(np.ceil(SHORTEST_MS / max(warm_up(opened.invoke), 1e-6))))
    peak = memory.peak_over(baseline)  # now, before the samples themselves take memory
    times = sample(opened.invoke, seconds, calls)
    return {
        "runtime": engine.runtime,
        "kernels": opened.kernels,
        "init_ms": init,
        "first_ms": first,
        "samples": len(times),
        "calls_per_sample": calls,
        "samples_ms": thinned(times),
        "peak_rss_bytes": peak,
        "baseline_rss_bytes": baseline,
    }


def main() -> int:
    """Read the command line, measure, print; return the exit status."""
    parser = argparse.ArgumentParser(prog="nbedge.benchmark.worker")
    parser.add_argument("path", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--threads", type=int, required=True)
    job = parser.parse_args()
    try:
        found = run(job.path, job.seconds, job.threads)
    except NbedgeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
