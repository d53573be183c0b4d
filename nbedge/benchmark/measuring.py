"""measure: time files on a machine, each in fresh processes, interleaved."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from nbedge.artifact import sidecar
from nbedge.benchmark.case import Case, cases
from nbedge.benchmark.machines import machine_of, place_of
from nbedge.benchmark.measurement import Measurement, summarize
from nbedge.benchmark.place import fitting
from nbedge.errors import InputError

#: samples in each process, at least
LEAST = 100

Progress = Callable[[int, int], None]
File = str | os.PathLike[str]


class Machine(Protocol):
    """Where files are measured.

    Attributes:
        name: as the user gives it.
        seconds: of sampling in each process, unless something else is asked for.
        timed: whether its clock says anything: that of an emulator does not.
        compiles: whether it runs generated C, the runtime `c`, and nothing else.
        runtimes: that may be there.
    """

    name: str
    seconds: float
    timed: bool
    compiles: bool
    runtimes: tuple[str, ...]

    def run(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Do a job (see `nbedge.agent.perform`) in a fresh process there, and return what it found.

        Raises:
            DeviceError: the machine did not answer.
            InputError: the file could not be run.
            MissingDependencyError: its runtime is not installed.
        """


def measure(
    given: File | Sequence[File],
    *,
    processes: int = 5,
    seconds: float | None = None,
    threads: int | Sequence[int] = 1,
    runtimes: str | Sequence[str] = (),
    inputs: Mapping[Path, Path] | None = None,
    on: str | Machine = "local",
    progress: Progress | None = None,
) -> list[Measurement]:
    """Measure latency, memory and size of files, in their order.

    Each repeat runs every case once, in turn, so that a drift of the machine (heat, other work) hits all alike.

    Args:
        given: `.onnx`, `.tflite` and `.safetensors` files: paths, or what `nbedge.export` returned; or one of them.
        processes: fresh processes a case.
        seconds: least time of sampling in each process; there are at least 100 samples in any case. None: what the
            machine needs, 2 s here, 10 s on a Raspberry Pi.
        threads: for the runtime; several: each file is measured with each.
        runtimes: names, see `nbedge.benchmark.RUNTIMES`, or one; none: the usual one of each file.
        inputs: file -> .npz of its inputs by name; of files that are not in it, seeded numbers.
        on: where: "local", "emulated:CPU", "ssh://user@host:port" (which gets the runtimes), or a machine.
        progress: called after each process with (processes done, processes in all).

    Raises:
        DeviceError: the machine did not answer.
        InputError: a file is missing or of an unknown kind, or it could not be run.
        MissingDependencyError: the runtime of a file is not installed.
    """
    paths = [Path(file) for file in ([given] if isinstance(given, str | os.PathLike) else given)]
    names = [runtimes] if isinstance(runtimes, str) else runtimes
    asked = cases(paths, names, [threads] if isinstance(threads, int) else threads)
    if processes < 1 or not 0 < (1 if seconds is None else seconds) < math.inf:
        raise InputError(f"processes={processes}, seconds={seconds}: give at least 1 process and more than 0 seconds")
    asked = tuple(fitting(case, place_of(on) if isinstance(on, str) else on) for case in asked)
    if isinstance(on, str):
        with machine_of(on, setup=True) as machine:
            return _measured(asked, processes, seconds, inputs or {}, machine, progress)
    return _measured(asked, processes, seconds, inputs or {}, on, progress)


def _measured(
    asked: Sequence[Case], processes: int, seconds: float | None, inputs: Mapping[Path, Path], machine: Machine,
    progress: Progress | None,
) -> list[Measurement]:  # fmt: skip
    repeats = processes if machine.timed else 1
    outcomes: list[list[dict[str, Any]]] = [[] for _ in asked]
    for repeat in range(repeats):
        for index, case in enumerate(asked):
            outcomes[index].append(machine.run(job_of(case, machine, seconds, inputs.get(case.path))))
            if progress is not None:
                progress(repeat * len(asked) + index + 1, repeats * len(asked))
    return [summarize(case, machine.name, found) for case, found in zip(asked, outcomes, strict=True)]


def job_of(case: Case, machine: Machine, seconds: float | None = None, inputs: Path | None = None) -> dict[str, Any]:
    """Return what the agent is told of a case.

    Raises:
        InputError: the machine has no runtime for it.
    """
    case = fitting(case, machine)
    about = sidecar(case.path)
    return {
        "file": str(case.path.resolve()), "runtime": case.runtime, "threads": case.threads,
        "seconds": machine.seconds if seconds is None else seconds, "least": LEAST,
        "inputs": None if inputs is None else str(inputs.resolve()),
        "sidecar": str(about.resolve()) if about.exists() else None,
    }  # fmt: skip
