"""Energy, where the machine tells it: Intel's and AMD's RAPL counters, and the power chip of a Raspberry Pi 5."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

_POWERCAP = Path("/sys/class/powercap")
#: calls are repeated for so long: RAPL counts in steps of 1 ms, the power chip is read a few times a second
SECONDS = 2.0
#: reads of the power chip
READS = 10


def measured(invoke: Callable[[], object]) -> dict[str, object] | None:
    """Return `joules_per_inference` and its `source`; None where the machine does not tell.

    RAPL counts the whole processor package, the power chip the whole board: other work is in it.
    """
    for source in (_rapl, _board):
        found = source(invoke)
        if found is not None:
            return found
    return None


def _rapl(invoke: Callable[[], object]) -> dict[str, object] | None:
    package = _POWERCAP / "intel-rapl:0"
    before = _number(package / "energy_uj")
    if before is None:
        return None
    calls = _repeated(invoke, SECONDS)
    after = _number(package / "energy_uj") or 0
    span = _number(package / "max_energy_range_uj") or 0
    used = after - before if after >= before else after + span - before  # the counter starts again
    return {"joules_per_inference": used / 1e6 / calls, "source": "RAPL, processor package"}


def _board(invoke: Callable[[], object]) -> dict[str, object] | None:
    if board_watts() is None:
        return None
    watts, calls, seconds = [], 0, 0.0
    for _ in range(READS):
        began = time.perf_counter()
        calls += _repeated(invoke, SECONDS / READS)
        seconds += time.perf_counter() - began
        watts.append(board_watts() or 0.0)
    joules = sum(watts) / READS * seconds / calls
    return {"joules_per_inference": joules, "source": "power chip of the board (pmic_read_adc)"}


def board_watts() -> float | None:
    """Return the sum over the rails of the power chip of volts times amperes; None where there is none."""
    try:
        said = subprocess.run(
            ["vcgencmd", "pmic_read_adc"], capture_output=True, encoding="ascii", timeout=10, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return watts_of(said)


def watts_of(said: str) -> float | None:
    """Return the power that a report of the power chip amounts to; None if it holds no rail."""
    amperes = dict(re.findall(r"(\w+)_A current\(\d+\)=([\d.]+)A", said))
    volts = dict(re.findall(r"(\w+)_V volt\(\d+\)=([\d.]+)V", said))
    rails = amperes.keys() & volts.keys()
    return sum(float(amperes[rail]) * float(volts[rail]) for rail in rails) if rails else None


def _repeated(invoke: Callable[[], object], seconds: float) -> int:
    end, calls = time.perf_counter() + seconds, 0
    while time.perf_counter() < end or not calls:
        invoke()
        calls += 1
    return calls


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # since 2020 only root may read it
        return None
