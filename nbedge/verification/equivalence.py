"""Equivalence: the verdict on a pair (reference, candidate), with the checks behind it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from nbedge import files

SCHEMA_VERSION = 1


class Verdict(StrEnum):
    """PASS, FAIL, or NOT CHECKED, which is never a pass."""

    PASS = "PASS"
    FAIL = "FAIL"
    NOT_CHECKED = "NOT CHECKED"


def together(verdicts: Iterable[Verdict]) -> Verdict:
    """Return FAIL if one is or there is none, else NOT CHECKED if one is, else PASS."""
    found = set(verdicts)
    if Verdict.FAIL in found or not found:
        return Verdict.FAIL
    return Verdict.NOT_CHECKED if Verdict.NOT_CHECKED in found else Verdict.PASS


@dataclass(frozen=True, slots=True)
class Check:
    """One measured number against its limit.

    Attributes:
        name: what was checked.
        verdict: of this check.
        value: what was measured.
        limit: what was allowed; None for a figure that is reported and not judged.
        unit: of value and limit.
        detail: where, on what, and any warning.
    """

    name: str
    verdict: Verdict
    value: float
    limit: float | None = None
    unit: str = ""
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; a number that is not finite is None."""
        return {"name": self.name, "verdict": str(self.verdict), "value": _finite(self.value),
                "limit": _finite(self.limit), "unit": self.unit, "detail": self.detail}  # fmt: skip


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def at_most(name: str, value: float, limit: float, unit: str = "", detail: str = "") -> Check:
    """Return PASS if value <= limit, else FAIL (also for a value that is no number)."""
    return Check(name, Verdict.PASS if value <= limit else Verdict.FAIL, value, limit, unit, detail)


def at_least(name: str, value: float, limit: float, unit: str = "", detail: str = "") -> Check:
    """Return PASS if value >= limit, else FAIL (also for a value that is no number)."""
    return Check(name, Verdict.PASS if value >= limit else Verdict.FAIL, value, limit, unit, detail)


def reported(name: str, value: float, unit: str = "", detail: str = "") -> Check:
    """Return a figure that is not judged."""
    return Check(name, Verdict.PASS, value, None, unit, detail)


def not_checked(name: str, why: str) -> Check:
    """Return a check that could not be made."""
    return Check(name, Verdict.NOT_CHECKED, math.nan, None, "", why)


@dataclass(frozen=True, slots=True)
class Equivalence:
    """The verdict on a pair. `bool()` is the verdict: False for FAIL, for NOT CHECKED, and for no checks at all.

    Attributes:
        reference: name of what is believed.
        candidate: name of what is judged.
        kernels: which kernels ran the candidate.
        checks: in the order in which they were made.
    """

    reference: str
    candidate: str
    kernels: str
    checks: tuple[Check, ...]

    @property
    def verdict(self) -> Verdict:
        """FAIL if a check failed or none was made, else NOT CHECKED if one could not be made, else PASS."""
        return together(check.verdict for check in self.checks)

    def __bool__(self) -> bool:
        return self.verdict is Verdict.PASS

    def named(self, reference: str, candidate: str) -> "Equivalence":
        """Return the same verdict under other names."""
        return replace(self, reference=reference, candidate=candidate)

    def failures(self) -> list[Check]:
        """Return the checks that did not pass, in order."""
        return [check for check in self.checks if check.verdict is not Verdict.PASS]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "schema_version": SCHEMA_VERSION, "reference": self.reference, "candidate": self.candidate,
            "kernels": self.kernels, "verdict": str(self.verdict), "checks": [c.to_dict() for c in self.checks],
        }  # fmt: skip

    def write(self, folder: Path, prefix: str) -> Path:
        """Write the record as `PREFIX-REFERENCE-to-CANDIDATE-in-KERNELS.json` into `folder`."""
        words = (prefix, *self.reference.split(), "to", *self.candidate.split(), "in", self.kernels)
        path = folder / f"{'-'.join(words)}.json"
        files.write_json(path, self.to_dict())
        return path
