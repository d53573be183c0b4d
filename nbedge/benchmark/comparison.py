"""Comparison: one file against another, in alternating blocks; and a limit on how much slower it may be."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nbedge.benchmark.case import Case
from nbedge.benchmark.measuring import Machine, job_of
from nbedge.benchmark.statistics import ratio_interval
from nbedge.errors import InputError

#: pairs of processes, at least and at most
BLOCKS, MOST = 10, 40
#: a limit of 5 % is not told from the same speed unless the interval is half as wide
PRECISION = 0.5


@dataclass(frozen=True, slots=True)
class Comparison:
    """How much longer `after` takes than `before`.

    Attributes:
        before: the case compared with.
        after: the case.
        on: the machine.
        blocks: pairs of fresh processes, in alternating order.
        ratio: of the medians, the mean of the blocks' on a logarithmic scale; above 1 is slower.
        low: lower end of its 95 % interval, Student's t on the logarithms.
        high: upper end.
    """

    before: Case
    after: Case
    on: str
    blocks: int
    ratio: float
    low: float
    high: float

    def is_precise(self, limit: float) -> bool:
        """Return whether the interval is narrow enough to judge `limit`, a ratio above 1."""
        return self.high / self.low <= math.pow(limit, 2 * PRECISION)

    def exceeds(self, limit: float) -> bool:
        """Return whether it is slower by more than `limit`: the ratio is above it, and its interval above 1."""
        return self.ratio > limit and self.low > 1

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        cases = {"before": self.before, "after": self.after}
        named = {key: {**asdict(case), "path": str(case.path)} for key, case in cases.items()}
        return {**asdict(self), **named}


def compare(
    before: Case,
    after: Case,
    machine: Machine,
    *,
    blocks: int = BLOCKS,
    limit: float | None = None,
    seconds: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Compare two cases in alternating blocks: in each a fresh process of both, in an order that changes.

    With `limit` blocks are added, 40 at most, until the interval is narrow enough to judge it.

    Raises:
        InputError: fewer than 10 blocks are asked for, or the machine's clock says nothing.
    """
    if blocks < BLOCKS:
        raise InputError(f"{blocks} blocks are too few to compare; give {BLOCKS} or more")
    if not machine.timed:
        raise _without_clock(machine)
    jobs = [{**job_of(case, machine, seconds), "sidecar": None} for case in (before, after)]  # the invoke alone
    medians: list[list[float]] = [[], []]
    wanted = blocks
    found = None
    while len(medians[0]) < wanted:
        for which in (0, 1) if len(medians[0]) % 2 == 0 else (1, 0):
            medians[which].append(_median(machine, jobs[which]))
        if progress is not None:
            progress(len(medians[0]), wanted)
        if len(medians[0]) >= blocks:
            found = Comparison(before, after, machine.name, len(medians[0]), *ratio_interval(*medians))
            if limit is not None and not found.is_precise(limit):
                wanted = min(MOST, len(medians[0]) + 1)
    assert found is not None
    return found


def _median(machine: Machine, job: Mapping[str, Any]) -> float:
    found = machine.run(job)
    if "samples" not in found:  # an emulator behind ssh
        raise _without_clock(machine)
    return float(np.median(found["samples"]["ms"]))


def _without_clock(machine: Machine) -> InputError:
    return InputError(f"the clock of {machine.name} says nothing; compare sizes, arenas or instructions there")
