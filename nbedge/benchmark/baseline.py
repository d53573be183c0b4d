"""Baseline: figures that were stored earlier. Only those that no machine's mood changes may fail a check."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbedge import files
from nbedge.errors import InputError

Row = Mapping[str, Any]
Rows = Sequence[Row]

#: metric -> its key; the same file gives the same figure on any day
DETERMINISTIC = {"size": "size_bytes", "arena": "arena_bytes", "flash": "flash_bytes", "stack": "stack_bytes",
                 "instructions": "instructions_per_inference"}  # fmt: skip
#: the metric of two files that are measured in turn
RATIO = "ratio"
#: what is shown of two stored sessions
SHOWN = {"latency": "latency_median_ms", "end to end": "end_to_end_median_ms", "first inference": "first_inference_ms",
         "peak memory": "peak_rss_bytes", **DETERMINISTIC}  # fmt: skip
#: what two sessions should have in common
ALIKE = ("cpu_model", "governor", "kernel", "compiler", "optimization")


@dataclass(frozen=True, slots=True)
class Limit:
    """How many times the old figure the new one may be."""

    metric: str
    times: float

    @classmethod
    def parse(cls, text: str) -> "Limit":
        """Read METRIC:TIMES, such as ratio:1.05.

        Raises:
            InputError: the metric is unknown, or the number is below 1 (ratio: not above it).
        """
        metric, _, number = text.partition(":")
        known = (RATIO, *DETERMINISTIC)
        try:
            times = float(number)
        except ValueError:
            times = 0.0
        if metric not in known or not (times > 1 if metric == RATIO else times >= 1):
            raise InputError(f"{text!r} is no limit; write METRIC:TIMES of {', '.join(known)}, for example ratio:1.05")
        return cls(metric, times)


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of one file in two sessions; `times` is new / old."""

    file: str
    metric: str
    old: float
    new: float

    @property
    def times(self) -> float:
        """New over old."""
        return self.new / self.old if self.old else float("inf")


def rows(path: Path) -> list[Row]:
    """Read what `nbedge bench --json` printed, or a run's bench.json.

    Raises:
        InputError: it is missing or something else.
    """
    try:
        content = json.loads(files.existing(path, "the baseline").read_text(encoding="utf-8"))
        found: list[Row] = content["rows"]
        if all({"file", "size_bytes"} <= row.keys() for row in found) and found:
            return found
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise InputError(f"{path} holds no measurements; give the output of nbedge bench --json")


def matching(row: Row, stored: Sequence[Row]) -> Row:
    """Return the stored row of the same file, runtime and threads, else of the same file, else the only one.

    Raises:
        InputError: none of them can be it.
    """
    same = [old for old in stored if old["file"] == row["file"]]
    alike = [old for old in same if (_engine(old), old.get("threads")) == (_engine(row), row.get("threads"))]
    for found in (alike, same, stored):
        if len(found) == 1:
            return found[0]
    raise InputError(
        f"the baseline has {len(same)} rows of {row['file']}; compare files of the same name, one runtime at a time"
    )


def _engine(row: Row) -> str:
    return str(row.get("runtime", "")).split(" ")[0]


def deterministic(limit: Limit, new: Row, old: Row) -> Difference:
    """Return a figure that may be compared with a stored one.

    Raises:
        InputError: it is a time, or one of the two rows lacks it.
    """
    if limit.metric == RATIO:
        raise InputError(
            "times of another day are no baseline: give the old file itself to --against, so that both are measured "
            "in turn"
        )
    key = DETERMINISTIC[limit.metric]
    if new.get(key) is None or old.get(key) is None:
        raise InputError(
            f"{limit.metric} of {new['file']} is not measured here or not stored; the arena is told by "
            "--runtime tflite-micro, instructions by --on emulated:cortex-a72, both, flash and stack by "
            "--on emulated:cortex-m4"
        )
    return Difference(new["file"], limit.metric, old[key], new[key])


def differences(old: Sequence[Row], new: Sequence[Row]) -> Iterator[Difference]:
    """Yield every figure that both sessions have."""
    for row in new:
        before = matching(row, old)
        for metric, key in SHOWN.items():
            if row.get(key) is not None and before.get(key) is not None:
                yield Difference(row["file"], metric, before[key], row[key])


def caveats(old: Sequence[Row], new: Sequence[Row]) -> list[str]:
    """Return in what the two sessions differ besides the files."""
    found = []
    for key in ALIKE:
        values = [{str(row.get("conditions", {}).get(key)) for row in session} for session in (old, new)]
        if values[0] != values[1]:
            found.append(f"{key}: {', '.join(sorted(values[0]))} before, {', '.join(sorted(values[1]))} now")
    return found
