"""The machine that a figure was measured on, as far as it can be read without rights."""

import os
import platform
from pathlib import Path
from typing import Any

_CPUINFO = Path("/proc/cpuinfo")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def conditions() -> dict[str, Any]:
    """Return what to state beside every figure; a value that cannot be read is None.

    Keys: cpu_model, cores (that this process may use), machine, kernel, os, python, load_average_1min, governor.
    """
    return {
        "cpu_model": cpu_model(),
        "cores": _cores(),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "os": _system(),
        "python": platform.python_version(),
        "load_average_1min": _load(),
        "governor": _read(_GOVERNOR) or None,
    }


def cpu_model() -> str | None:
    """Return the name of the processor; a Raspberry Pi calls it "Model" (the board)."""
    return _cpuinfo("model name") or _cpuinfo("Model") or platform.processor() or None


def onnxruntime_kernels() -> str:
    """Return the kernel contract that ONNX Runtime's int8 kernels fall under on this machine."""
    if platform.machine() in ("aarch64", "arm64", "armv7l"):
        return "ort-arm"
    flags = (_cpuinfo("flags") or "").split()
    # without VNNI the u8s8 kernels saturate: their results differ, so the name must too
    if "avx512_vnni" in flags or "avx_vnni" in flags:
        return "ort-vnni"
    return "ort-avx2" if "avx2" in flags else "ort"


def _cpuinfo(key: str) -> str | None:
    for line in _read(_CPUINFO).splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def _cores() -> int | None:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows do not tell which cores a process may use
        return os.cpu_count()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform()


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):  # Windows
        return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
