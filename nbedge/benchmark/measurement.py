"""Measurement: what was measured on one file. The unit of its statistics is the process."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nbedge import files

SCHEMA_VERSION = 1
#: a spread of the processes' medians above this part of the median is called noisy
NOISY = 0.10

#: attribute -> key in JSON, where the key says more than the attribute
_KEYS = {
    "first_ms": "first_inference_ms",
    "median_ms": "latency_median_ms",
    "p90_ms": "latency_p90_ms",
    "min_ms": "latency_min_ms",
    "max_ms": "latency_max_ms",
    "iqr_ms": "latency_iqr_ms",
}


@dataclass(frozen=True, slots=True)
class Measurement:
    """Latency of the invoke alone (nothing copied in or out), memory and size of one file.

    Attributes:
        file: name of the file.
        path: where it lies.
        sha256: of the file.
        runtime: name and version of what ran it.
        kernels: "xnnpack", "builtin", "ort-vnni", "ort-avx2", "ort-arm" or "ort".
        threads: given to the runtime.
        processes: fresh processes that measured it.
        samples: timed in all processes together.
        calls_per_sample: above 1, each sample is the mean of so many calls: one call is too short for the clock.
            The tail (p90, max) is then that of these means.
        init_ms: loading the file, median of the processes.
        first_ms: the first invoke, median of the processes.
        median_ms: median of the processes' medians.
        p90_ms: 90th percentile of all samples.
        min_ms: smallest sample.
        max_ms: largest sample.
        iqr_ms: interquartile range of all samples.
        spread: (largest - smallest) / median of the processes' medians, unitless.
        peak_rss_bytes: peak resident memory of load and runs over the imported runtime; None where it is not known.
            It is dominated by the runtime: no measure of what a microcontroller needs.
        baseline_rss_bytes: resident memory once the runtime is imported; None where it is not known.
        size_bytes: of the file.
        verdict: "stable", or "noisy" for a spread above 10 %.
    """

    file: str
    path: str
    sha256: str
    runtime: str
    kernels: str
    threads: int
    processes: int
    samples: int
    calls_per_sample: int
    init_ms: float
    first_ms: float
    median_ms: float
    p90_ms: float
    min_ms: float
    max_ms: float
    iqr_ms: float
    spread: float
    peak_rss_bytes: int | None
    baseline_rss_bytes: int | None
    size_bytes: int
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, units in the keys."""
        values = {_KEYS.get(name, name): value for name, value in asdict(self).items()}
        return {"schema_version": SCHEMA_VERSION, "timed": "invoke only", **values}


def summarize(path: Path, threads: int, outcomes: Sequence[dict[str, Any]]) -> Measurement:
    """Make one record of what each process (`nbedge.benchmark.worker`) found on `path`."""
    medians = [float(np.median(outcome["samples_ms"])) for outcome in outcomes]
    pooled = np.concatenate([outcome["samples_ms"] for outcome in outcomes])
    low, p90, high = (float(q) for q in np.percentile(pooled, (25, 90, 75)))
    median = float(np.median(medians))
    spread = (max(medians) - min(medians)) / median
    return Measurement(
        file=path.name,
        path=str(path),
        sha256=files.sha256(path),
        runtime=outcomes[0]["runtime"],
        kernels=outcomes[0]["kernels"],
        threads=threads,
        processes=len(outcomes),
        samples=sum(outcome["samples"] for outcome in outcomes),
        calls_per_sample=max(outcome["calls_per_sample"] for outcome in outcomes),
        init_ms=_median(outcomes, "init_ms"),
        first_ms=_median(outcomes, "first_ms"),
        median_ms=median,
        p90_ms=p90,
        min_ms=float(pooled.min()),
        max_ms=float(pooled.max()),
        iqr_ms=high - low,
        spread=spread,
        peak_rss_bytes=_bytes(outcomes, "peak_rss_bytes"),
        baseline_rss_bytes=_bytes(outcomes, "baseline_rss_bytes"),
        size_bytes=path.stat().st_size,
        verdict="noisy" if spread > NOISY else "stable",
    )


def _median(outcomes: Sequence[dict[str, Any]], key: str) -> float:
    return float(np.median([outcome[key] for outcome in outcomes]))


def _bytes(outcomes: Sequence[dict[str, Any]], key: str) -> int | None:
    known = [outcome[key] for outcome in outcomes if outcome[key] is not None]
    return int(np.median(known)) if known else None
