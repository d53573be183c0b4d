"""Resident memory of this process, read from Linux.

`ru_maxrss` is of no use: a child starts with its parent's peak. VmHWM is reset instead, then read.
"""

from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def reset_peak() -> int | None:
    """Set the peak back to what is resident now and return that in bytes; None where the kernel has no such thing."""
    try:
        _CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return None
    return _field("VmRSS")


def peak_over(baseline: int | None) -> int | None:
    """Return by how many bytes the peak since `reset_peak` exceeds `baseline`, what `reset_peak` gave."""
    peak = _field("VmHWM")
    return None if baseline is None or peak is None else max(0, peak - baseline)


def _field(name: str) -> int | None:
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kibibytes = [int(line.split()[1]) for line in lines if line.startswith(f"{name}:")]
    return kibibytes[0] * 1024 if kibibytes else None
