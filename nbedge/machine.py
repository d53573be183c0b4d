"""The machine that a figure was measured on, as far as it can be read without rights.

A part of the measuring agent: it runs on Python 3.9 and imports nothing else of nbedge.
"""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

_CPUINFO = Path("/proc/cpuinfo")
_CPUS = Path("/sys/devices/system/cpu")
_THERMAL = Path("/sys/class/thermal/thermal_zone0/temp")
_BOARD = Path("/proc/device-tree/model")
_OS = Path("/etc/os-release")
_PROGRAM = Path("/proc/thread-self/exe")
#: number of a processor in an ELF file -> what `uname -m` calls machines that run it; 64-bit ones run 32-bit programs
_ELF = {
    62: ("x86_64",), 183: ("aarch64",), 40: ("armv7l", "armv6l", "armv8l", "aarch64"), 3: ("i386", "i686", "x86_64")
}  # fmt: skip
#: instruction sets that decide how fast integers are: flag in /proc/cpuinfo -> its usual name
_SETS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx_vnni": "AVX-VNNI", "avx512_vnni": "AVX512-VNNI", "asimd": "NEON",
         "neon": "NEON", "asimddp": "dot product", "i8mm": "int8 matrix"}  # fmt: skip
#: bits of vcgencmd get_throttled: now, and 16 higher since the start of the machine
#: (raspberrypi.com, documentation of vcgencmd)
THROTTLED = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")


def conditions() -> dict[str, Any]:
    """Return what to state beside every figure; a value that cannot be read is None.

    Keys: emulated (whether an emulator runs this process: its clock says nothing), board (a Raspberry Pi's model),
    cpu_model, instruction_sets, cores, affinity (numbers of those that this process may use), machine, kernel, os,
    python, load_average_1min, governor, frequency_mhz and frequency_max_mhz (of the first core), temperature_c,
    throttled (the flags of a Raspberry Pi, a number).
    """
    affinity = _affinity()
    return {
        "emulated": emulated(),
        "board": _read(_BOARD).rstrip("\0") or None,
        "cpu_model": cpu_model(),
        "instruction_sets": instruction_sets(),
        "cores": os.cpu_count() if affinity is None else len(affinity),
        "affinity": affinity,
        "machine": platform.machine(),
        "kernel": platform.release(),
        "os": _system(),
        "python": platform.python_version(),
        "load_average_1min": _load(),
        "governor": _read(_CPUS / "cpu0/cpufreq/scaling_governor") or None,
        "frequency_mhz": _thousandth(_CPUS / "cpu0/cpufreq/scaling_cur_freq"),
        "frequency_max_mhz": _thousandth(_CPUS / "cpu0/cpufreq/scaling_max_freq"),
        "temperature_c": _thousandth(_THERMAL),
        "throttled": throttled(),
    }


def emulated() -> bool:
    """Return whether the program that the kernel runs is one for another processor than this process sees: qemu's.

    qemu shows its guest the guest's program at /proc/self/exe, but not at this path.
    """
    try:
        with _PROGRAM.open("rb") as program:
            head = program.read(20)
    except OSError:
        return False
    kind = _ELF.get(int.from_bytes(head[18:20], "little")) if head[:4] == b"\x7fELF" else None
    return kind is not None and platform.machine() not in kind


def cpu_model() -> str | None:
    """Return the name of the processor; a Raspberry Pi calls it "Model" (the board)."""
    return _cpuinfo("model name") or _cpuinfo("Model") or platform.processor() or None


def instruction_sets() -> list[str]:
    """Return the names of those that decide how fast small networks are."""
    flags = (_cpuinfo("flags") or _cpuinfo("Features") or "").split()
    return list(dict.fromkeys(name for flag, name in _SETS.items() if flag in flags))


def onnxruntime_kernels() -> str:
    """Return the kernel contract that ONNX Runtime's int8 kernels fall under on this machine."""
    if platform.machine() in ("aarch64", "arm64", "armv7l"):
        return "ort-arm"
    flags = (_cpuinfo("flags") or "").split()
    # without VNNI the u8s8 kernels saturate: their results differ, so the name must too
    if "avx512_vnni" in flags or "avx_vnni" in flags:
        return "ort-vnni"
    return "ort-avx2" if "avx2" in flags else "ort"


def throttled() -> int | None:
    """Return the flags of a Raspberry Pi, see `THROTTLED`; None on any other machine."""
    try:
        said = subprocess.run(
            ["vcgencmd", "get_throttled"], capture_output=True, encoding="ascii", timeout=10, check=True
        ).stdout
        return int(said.partition("=")[2], 16)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def why_throttled(before: int | None, after: int | None) -> list[str]:
    """Return what slowed a Raspberry Pi down: what holds before or after a run, or has come up in between."""
    if before is None or after is None:
        return []
    came = (after & ~before) >> 16
    return [name for bit, name in enumerate(THROTTLED) if (after | before | came) & 1 << bit]


def _cpuinfo(key: str) -> str | None:
    for line in _read(_CPUINFO).splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def _affinity() -> list[int] | None:
    try:
        return sorted(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows do not tell which cores a process may use
        return None


def _system() -> str:
    for line in _read(_OS).splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return platform.platform()


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):  # Windows
        return None


def _thousandth(path: Path) -> float | None:
    text = _read(path)
    return int(text) / 1000 if text.isdigit() else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
