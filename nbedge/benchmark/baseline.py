"""Baseline: figures that were stored earlier. Only those that no machine's mood changes may fail a check."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbedge import files
from nbedge.benchmark.case import MICRO, Case
from nbedge.benchmark.place import Place
from nbedge.errors import InputError

Row = Mapping[str, Any]
Rows = Sequence[Row]

#: metric -> its key; the same file gives the same figure on any day
DETERMINISTIC = {"size": "size_bytes", "arena": "arena_bytes", "flash": "flash_bytes", "stack": "stack_bytes",
                 "instructions": "instructions_per_inference"}  # fmt: skip
#: the metric of two files that are measured in turn
RATIO = "ratio"
#: how the name of an emulator begins
EMULATED = "emulated:"
_TELLERS = (
    "the arena is told by --runtime tflite-micro, instructions by --on emulated:cortex-a72, both, flash and stack by "
    "--on emulated:cortex-m4"
)


@dataclass(frozen=True, slots=True)
class Limit:
    """How many times the old figure the new one may be."""

    metric: str
    times: float

    @classmethod
    def parse(cls, text: str) -> "Limit":
        """Read METRIC:TIMES, such as ratio:1.05.

        Raises:
            InputError: the metric is unknown, or the number is not finite or below 1 (ratio: not above it).
        """
        metric, _, number = text.partition(":")
        known = (RATIO, *DETERMINISTIC)
        try:
            times = float(number)
        except ValueError:
            times = math.nan
        if metric not in known or not math.isfinite(times):
            raise InputError(f"{text!r} is no limit; write METRIC:TIMES of {', '.join(known)}, for example ratio:1.05")
        if times < 1 or (metric == RATIO and times == 1):
            least = "above 1: two runs of one file differ" if metric == RATIO else "1 or more"
            raise InputError(f"the limit {text!r} is too low; TIMES must be {least}")
        return cls(metric, times)


@dataclass(frozen=True, slots=True)
class Growth:
    """A figure of a row beside that of the row that it is measured against."""

    limit: Limit
    row: Row
    before: Row

    @property
    def key(self) -> str:
        """Of the figure in both rows."""
        return DETERMINISTIC[self.limit.metric]

    @property
    def times(self) -> float:
        """New over old."""
        old = self.before[self.key]
        return float(self.row[self.key] / old) if old else math.inf if self.row[self.key] else 1.0

    def __str__(self) -> str:
        """Return a sentence without the verdict."""
        of = "" if self.row["file"] == self.before["file"] else f" {self.before['file']}"
        unit = " bytes" if self.key.endswith("_bytes") else ""
        return (
            f"{self.limit.metric} of {label(self.row)} is {self.row[self.key]}{unit}, {self.times:.3f} times the "
            f"{self.before[self.key]} of the baseline{of}"
        )


def label(row: Row) -> str:
    """Return the file, and what sets it apart from other rows of the same file."""
    threads = row["threads"]
    return f"{row['file']} ({row['kernels']}{f', {threads} threads' if threads > 1 else ''})"


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


def matching(row: Row, stored: Rows) -> Row:
    """Return the stored row of the same file, runtime, kernels and threads, else of the same file, else the only one.

    Raises:
        InputError: none of them can be it.
    """
    same = [old for old in stored if old["file"] == row["file"]]
    threads = [old for old in same if (engine(old), old.get("threads")) == (engine(row), row.get("threads"))]
    alike = [old for old in threads if old.get("kernels") == row.get("kernels")]
    for found in (alike, threads, same, stored):
        if len(found) == 1:
            return found[0]
    raise _unmatched(row["file"], len(same))


def refuse_unmatched(case: Case, stored: Rows) -> None:
    """Refuse a file that is not in the baseline, unless that holds one row: before it is measured.

    Raises:
        InputError: it is so.
    """
    if len(stored) > 1 and case.path.name not in {row["file"] for row in stored}:
        raise _unmatched(case.path.name, 0)


def _unmatched(file: str, rows: int) -> InputError:
    return InputError(f"the baseline has {rows} rows of {file}; compare files of the same name, one runtime at a time")


def engine(row: Row) -> str:
    """Return the runtime of a row without its version."""
    return str(row.get("runtime", "")).split(" ")[0]


def refuse_untold(limit: Limit, case: Case, place: Place, stored: Rows = ()) -> None:
    """Refuse a limit on what will not be known of a case, or is not in any of the stored rows: before it is measured.

    Raises:
        InputError: it is so.
    """
    if limit.metric == RATIO:
        if not place.timed:
            raise InputError("an emulator measures no time; use --fail-if instructions:TIMES there")
        if stored:
            raise _no_baseline()
        return
    unknown = stored and all(row.get(DETERMINISTIC[limit.metric]) is None for row in stored)
    if unknown or limit.metric not in _told(case, place):
        raise _untold(limit, case.path.name)


def _told(case: Case, place: Place) -> set[str]:
    if place.compiles:
        return set(DETERMINISTIC)
    return {"size", *(["arena"] if case.runtime == MICRO else []), *([] if place.timed else ["instructions"])}


def _untold(limit: Limit, file: str) -> InputError:
    return InputError(f"{limit.metric} of {file} is not measured here or not stored; {_TELLERS}")


def _no_baseline() -> InputError:
    return InputError(
        "times of another day are no baseline: give the old file itself to --against, so that both are measured in turn"
    )


def growth(limit: Limit, row: Row, before: Row) -> Growth:
    """Return how a figure grew that may be compared with a stored one.

    Raises:
        InputError: it is a time, one of the two rows lacks it, or it was counted on another processor or by another
            compiler.
    """
    if limit.metric == RATIO:
        raise _no_baseline()
    found = Growth(limit, row, before)
    if row.get(found.key) is None or before.get(found.key) is None:
        raise _untold(limit, row["file"])
    if limit.metric != "size":
        _refuse_other_origin(found)
    return found


def _refuse_other_origin(found: Growth) -> None:
    """Refuse figures of two processors, compilers or levels of optimization; rows that do not tell are believed."""
    for here, there in zip(_origin(found.row), _origin(found.before), strict=True):
        if here and there and here != there:
            raise InputError(
                f"{found.limit.metric} of {found.row['file']} cannot be compared: {here} here, {there} in the "
                "baseline; store a baseline of the same"
            )


def _origin(row: Row) -> tuple[str, ...]:
    """Return where figures of a row come from: an emulator's processor (any other one together), compiler, level."""
    on, about = str(row.get("on") or ""), row.get("conditions") or {}
    place = on if on.startswith(EMULATED) else "a machine that is not emulated" if on else ""
    return (place, *(str(about.get(key) or "") for key in ("compiler", "optimization")))
