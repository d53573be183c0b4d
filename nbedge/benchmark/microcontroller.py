"""An emulated microcontroller: it counts the instructions of generated C. Its clock says nothing; no time is taken."""

import contextlib
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nbedge.artifact import SCHEMES
from nbedge.benchmark.case import GENERATED
from nbedge.benchmark.place import COMPILED
from nbedge.device import image
from nbedge.device.cores import Core, core_of
from nbedge.device.inference import Inference, inferred
from nbedge.device.microcontroller import GCC, toolchain
from nbedge.errors import ExportError, InputError, NbedgeError
from nbedge.exporter import Job, exporter_of

#: of the generated C
NAME = "model"
#: made-up inputs, where none are given
INPUTS = 8
#: types of tensors inside files that hold integers
INTEGERS = ("int8", "int16")


class MicrocontrollerMachine:
    """A Cortex-M core by qemu, `emulated:CORE`."""

    seconds = 0.0
    timed = False
    compiles = True
    runtimes = COMPILED

    def __init__(self, core: str, optimization: str = image.OPTIMIZATIONS[0]) -> None:
        """Take one of `nbedge.device.cores.CORES`, and the compiler's level of optimization.

        Raises:
            InputError: there is no such core or level.
            MissingDependencyError: the compiler or the emulator is not here.
        """
        self.name, self._core, self._optimization = f"emulated:{core}", core_of(core), optimization
        image.refuse_optimization(optimization)
        self._tools = toolchain()

    def __enter__(self) -> "MicrocontrollerMachine":
        return self

    def __exit__(self, *_exception: object) -> None:
        pass

    def run(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Generate the C of a file, build it, run it on its golden vectors, and count.

        Raises:
            DeviceError: it stops before its end.
            ExportError: its C cannot be generated or built.
            GateError: an answer is not the golden one.
            InputError: it holds no integers, or is too large for the board.
        """
        with tempfile.TemporaryDirectory(prefix="nbedge-bench-") as folder:
            generated, build = Path(folder) / "c", Path(folder) / "build"
            build.mkdir()
            generate_c(job, self._core, generated)
            library = image.compiled(generated, NAME, self._core, self._optimization, self._tools, build)
            found = inferred(library, build)
            about = json.loads((generated / f"{NAME}.json").read_text(encoding="utf-8"))
        return self._outcome(found, layers_of(about["layers"], found.layers))

    def _outcome(self, found: Inference, layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {
            "runtime": f"{GENERATED} ({GCC} {_version(self._tools.gcc)} {self._optimization})",
            "kernels": GENERATED, "answers_sha256": hashlib.sha256(found.answer).hexdigest(),
            "instructions": max(found.instructions), "layers": layers, "flash_bytes": found.image.flash_bytes,
            "code_bytes": found.image.code_bytes, "arena_bytes": found.image.arena_bytes,
            "stack_bytes": found.stack_bytes, "conditions": self._conditions(found),
        }  # fmt: skip

    def _conditions(self, found: Inference) -> dict[str, Any]:
        return {
            "emulated": True, "cpu_model": self._core.name, "board": self._core.board, "note": self._core.note or None,
            "compiler": f"{GCC} {_version(self._tools.gcc)}", "optimization": self._optimization,
            "flags": list(self._core.flags), "golden_vectors": len(found.instructions),
            "instructions_least": min(found.instructions),
        }  # fmt: skip


def generate_c(job: Mapping[str, Any], core: Core, folder: Path) -> None:
    """Write the C of a job's file into a new folder, as the exporter of C does.

    Raises:
        ExportError: it cannot be generated.
        InputError: the file holds no integers.
    """
    path, about = Path(job["file"]), job["sidecar"]
    scheme = json.loads(Path(about).read_text(encoding="utf-8"))["scheme"] if about else "int8"
    if path.suffix != ".tflite" or SCHEMES.get(scheme, ("",) * 3)[1] not in INTEGERS:
        raise InputError(
            f"{path.name} holds no integers, which microcontrollers compute with; give an int8 .tflite file, see "
            "nbedge export --quant int8"
        )
    _, exporter = exporter_of("c", scheme)
    folder.mkdir()
    work = folder.with_name("work")
    work.mkdir()
    source = Path(shutil.copy(path, work / path.name))
    calibration = work / "calibration.npy"
    np.save(calibration, _inputs(path, job["inputs"]))
    asked = Job(source, {scheme: folder / f"{NAME}.c"}, calibration, work, {"core": core.name})
    try:
        with contextlib.redirect_stdout(sys.stderr):
            exporter.convert(asked)
    except NbedgeError:
        raise
    except Exception as error:
        raise ExportError(f"{path.name} could not become C: {type(error).__name__}: {error}") from error


def layers_of(told: Sequence[Mapping[str, Any]], counted: Sequence[int]) -> list[dict[str, Any]]:
    """Return what the exporter tells of each layer with the instructions that it executes.

    Raises:
        ExportError: there are not as many.
    """
    if len(told) != len(counted):
        raise ExportError(f"{NAME}.json names {len(told)} layers, and {NAME}.c marks {len(counted)}")
    keys = ("index", "operator", "output", "macs")
    return [{**{key: layer[key] for key in keys}, "instructions": n} for layer, n in zip(told, counted, strict=True)]


def _inputs(path: Path, real: str | None) -> Any:
    """Return inputs (n, c, h, w) or (n, ...) float32: the given one, else some that span what the file takes."""
    from nbedge.device.golden import noise
    from nbedge.runtime import channels_first, dequantize, open_file

    (spec,) = open_file(path).inputs[:1]
    if real is None:
        return noise(spec, INPUTS)
    with np.load(real) as held:
        return channels_first(dequantize(held[spec.name], spec), spec.layout)


def _version(gcc: str) -> str:
    done = subprocess.run([gcc, "-dumpversion"], capture_output=True, text=True, check=True)
    return done.stdout.strip()
