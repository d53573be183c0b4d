"""Two stored sessions side by side: rows of the same file in the same runtime, and what has no partner."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nbedge.benchmark.baseline import DETERMINISTIC, Row, Rows, engine

#: what is shown of two stored sessions -> its key
SHOWN = {"latency": "latency_median_ms", "end to end": "end_to_end_median_ms", "first inference": "first_inference_ms",
         "peak memory": "peak_rss_bytes", **DETERMINISTIC}  # fmt: skip
#: what two sessions should have in common
ALIKE = ("on", "cpu_model", "governor", "kernel", "compiler", "optimization")


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of a row in two sessions.

    Attributes:
        row: the newer one.
        metric: the figure, one of `SHOWN`.
        old: its older value.
        new: its newer one.
    """

    row: Row
    metric: str
    old: float
    new: float

    @property
    def unit(self) -> str:
        """The unit, as the key has it; empty for a count."""
        return {"ms": "ms", "bytes": "B"}.get(SHOWN[self.metric].rpartition("_")[2], "")

    @property
    def times(self) -> float:
        """New over old; nan over nothing."""
        return self.new / self.old if self.old else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; `key` is the key of the figure in both sessions, with its unit."""
        return {**named(self.row), "metric": self.metric, "key": SHOWN[self.metric], "old": self.old, "new": self.new,
                "times": self.times if self.old else None}  # fmt: skip


def named(row: Row) -> dict[str, Any]:
    """Return what tells a row from others of its session."""
    return {"file": row["file"], "runtime": engine(row), "kernels": row.get("kernels"), "threads": row.get("threads")}


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(named(row).values())


def differences(old: Rows, new: Rows) -> Iterator[Difference]:
    """Yield every figure that both sessions have of the same file in the same runtime, kernels and threads."""
    before = {_key(row): row for row in reversed(old)}
    for row in new:
        for metric, key in SHOWN.items():
            stored = before.get(_key(row), {}).get(key)
            if row.get(key) is not None and stored is not None:
                yield Difference(row, metric, stored, row[key])


def alone(rows: Rows, others: Rows) -> list[Row]:
    """Return the rows that have no partner among `others`."""
    known = {_key(row) for row in others}
    return [row for row in rows if _key(row) not in known]


def caveats(old: Rows, new: Rows) -> list[str]:
    """Return in what the two sessions differ besides the files."""
    found = []
    for key in ALIKE:
        values = [{str(_about(row).get(key)) for row in session} for session in (old, new)]
        if values[0] != values[1]:
            found.append(f"{key}: {', '.join(sorted(values[0]))} before, {', '.join(sorted(values[1]))} now")
    return found


def _about(row: Row) -> dict[str, Any]:
    return {"on": row.get("on"), **(row.get("conditions") or {})}
