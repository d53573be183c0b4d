"""Whether a median latency can be relied on: stable, noisy, unusable, unknown or invalid, and why."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nbedge.benchmark.statistics import geometric_interval
from nbedge.machine import why_throttled

#: spread relative to the median above which a figure is noisy, and above which it is unusable: the thresholds of
#: torch.utils.benchmark for the interquartile range ("could indicate system fluctuation", "significant ... influence")
NOISY, UNUSABLE = 0.10, 0.25
#: samples in all below which there is no figure
LEAST = 100
#: processes below which nobody knows how far they differ
PROCESSES = 2

Outcomes = Sequence[Mapping[str, Any]]


def judged(outcomes: Outcomes) -> tuple[str, str]:
    """Return the verdict on what the processes found, and its reason."""
    slowed = throttled(outcomes)
    if slowed:
        return "invalid", f"the board was slowed down: {', '.join(slowed)}"
    number = sum(outcome["samples"]["number"] for outcome in outcomes)
    if number < LEAST:
        return "unusable", f"{number} samples; {LEAST} are needed"
    if len(outcomes) < PROCESSES:
        return "unknown", f"how far processes differ is not known of {len(outcomes)}; {PROCESSES} or more are needed"
    worst, where = max(
        (_between(outcomes), "from process to process"), (_within(outcomes), "within a process (interquartile range)"),
        (_uncertainty(outcomes), f"up to the end of the 95 % interval of {len(outcomes)} processes"),
    )  # fmt: skip
    said = f"{100 * worst:.1f} % of the median {where}"
    if worst <= NOISY:
        return "stable", said
    return ("unusable" if worst > UNUSABLE else "noisy"), said + _why(outcomes)


def throttled(outcomes: Outcomes) -> list[str]:
    """Return what slowed a Raspberry Pi down in any of the processes."""
    pairs = ((o["conditions"].get("throttled"), o["conditions_after"].get("throttled")) for o in outcomes)
    return sorted({reason for before, after in pairs for reason in why_throttled(before, after)})


def _medians(outcomes: Outcomes) -> list[float]:
    return [float(np.median(outcome["samples"]["ms"])) for outcome in outcomes]


def _uncertainty(outcomes: Outcomes) -> float:
    """Return how far above the median its 95 % interval reaches, over the median."""
    median, _low, high = geometric_interval(_medians(outcomes))
    return high / median - 1


def _between(outcomes: Outcomes) -> float:
    """Return (largest - smallest) / median of the processes' medians."""
    medians = _medians(outcomes)
    return (max(medians) - min(medians)) / float(np.median(medians))


def _within(outcomes: Outcomes) -> float:
    """Return the interquartile range over the median, the median of the processes."""
    quartiles = [np.percentile(outcome["samples"]["ms"], (25, 50, 75)) for outcome in outcomes]
    return float(np.median([(high - low) / middle for low, middle, high in quartiles]))


def _why(outcomes: Outcomes) -> str:
    """Return what may be the cause, if something is to be seen."""
    found = []
    if not all(outcome["samples"]["warmed_up"] for outcome in outcomes):
        found.append("the warm-up never settled")
    loads = [o["conditions"].get("load_average_1min") or 0.0 for o in outcomes]
    cores = outcomes[0]["conditions"].get("cores") or 1
    if max(loads) > cores:
        found.append(f"load average {max(loads):g} on {cores} cores")
    return f"; {', '.join(found)}" if found else ""
