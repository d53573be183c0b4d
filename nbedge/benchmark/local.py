"""measure: time files on this machine, each in fresh processes, interleaved."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nbedge import files
from nbedge.benchmark.engines import ENGINES
from nbedge.benchmark.measurement import Measurement, summarize
from nbedge.errors import InputError, MissingDependencyError


def measure(
    given: Sequence[str | os.PathLike[str]],
    *,
    processes: int = 5,
    seconds: float = 1.0,
    threads: int = 1,
    on: str = "local",
    progress: Callable[[int, int], None] | None = None,
) -> list[Measurement]:
    """Measure latency, memory and size of files, in their order.

    Each repeat runs every file once, in turn, so that a drift of the machine (heat, other work) hits all alike.

    Args:
        given: `.onnx` and `.tflite` files: paths, or what `nbedge.export` returned.
        processes: fresh processes a file.
        seconds: least time of sampling in each process; there are at least 100 samples in any case.
        threads: for the runtime.
        on: the machine; "local" is this one.
        progress: called after each process with (processes done, processes in all).

    Raises:
        InputError: `on` is not supported, a file is missing or of an unknown kind, or it could not be run.
        MissingDependencyError: the runtime of a file is not installed.
    """
    paths = [Path(file) for file in given]
    _check(paths, processes, seconds, threads, on)
    outcomes: list[list[dict[str, Any]]] = [[] for _ in paths]
    for repeat in range(processes):
        for index, path in enumerate(paths):
            outcomes[index].append(_spawn(path, seconds, threads))
            if progress is not None:
                progress(repeat * len(paths) + index + 1, processes * len(paths))
    return [summarize(path, threads, found) for path, found in zip(paths, outcomes, strict=True)]


def _check(paths: Sequence[Path], processes: int, seconds: float, threads: int, on: str) -> None:
    if on != "local":
        raise InputError(f"cannot measure on {on!r}; supported is 'local', the machine that this runs on")
    if not paths:
        raise InputError("there is no file to measure; name at least one .onnx or .tflite file")
    if processes < 1 or threads < 1 or not 0 < seconds < math.inf:
        raise InputError(
            f"processes={processes}, threads={threads}, seconds={seconds:g} cannot be measured with; "
            "give at least 1 process, 1 thread and more than 0 seconds"
        )
    for path in paths:
        files.existing(path, "the file")
        if path.suffix not in ENGINES:
            raise InputError(f"{path} cannot be measured; files that can end in {' or '.join(ENGINES)}")


def _spawn(path: Path, seconds: float, threads: int) -> dict[str, Any]:
    """Measure `path` in a fresh process and return what it printed."""
    command = [sys.executable, "-m", "nbedge.benchmark.worker", str(path.resolve())]
    done = subprocess.run(
        [*command, "--seconds", str(seconds), "--threads", str(threads)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode == MissingDependencyError.exit_status:
        raise MissingDependencyError(f"{path} cannot be measured: {_last_line(done.stderr)}")
    if done.returncode != 0:
        raise InputError(
            f"{path} could not be run (exit status {done.returncode}: {_last_line(done.stderr)}); "
            "check that the file is whole, or export it again"
        )
    # a runtime may print lines of its own before
    outcome: dict[str, Any] = json.loads(_last_line(done.stdout))
    return outcome


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
