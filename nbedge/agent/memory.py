"""Memory of this process, phase by phase, read from Linux.

`ru_maxrss` is of no use: a child starts with its parent's peak. The peak of the kernel (VmHWM) is set back at the start
of each phase instead. Private dirty pages are those that this process alone has written to; of a file that is mapped
they hold nothing until it is written to.
"""

from __future__ import annotations

from pathlib import Path

_STATUS = Path("/proc/self/status")
_ROLLUP = Path("/proc/self/smaps_rollup")
_CLEAR = Path("/proc/self/clear_refs")


def begin_phase() -> bool:
    """Set the peak back to what is resident now; return whether the kernel can."""
    try:
        _CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def end_phase(began: bool) -> dict[str, int | None]:
    """Return bytes at the end of a phase: `peak_rss` within it, `rss` and `private_dirty` now; None where unknown."""
    peak, now = _field(_STATUS, "VmHWM"), _field(_STATUS, "VmRSS")
    return {
        # the kernel counts in batches a core: what is resident may read a few pages above its own peak
        "peak_rss": max(peak, now) if began and peak is not None and now is not None else None,
        "rss": now,
        "private_dirty": _field(_ROLLUP, "Private_Dirty"),
    }


def _field(source: Path, name: str) -> int | None:
    try:
        lines = source.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kibibytes = [int(line.split()[1]) for line in lines if line.startswith(f"{name}:")]
    return kibibytes[0] * 1024 if kibibytes else None
