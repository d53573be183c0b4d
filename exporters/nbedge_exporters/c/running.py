"""Running the generated C on this machine: compiled by its C compiler, fed through a pipe."""

import json
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nbedge.artifact import TensorSpec
from nbedge.errors import ExportError, InputError, MissingDependencyError, NbedgeError
from nbedge.runtime.runner import Arrays, Runner

COMPILERS = ("cc", "gcc", "clang")
#: what the sources promise to pass
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-pedantic")
#: files of the folder that are no part of the library
BESIDE = ("example.c", "golden.c")
_MAIN = """
#include <stdio.h>
#include "{name}.h"
int main(void) {{
  while (fread({name}_input(), 1, {upper}_INPUT_BYTES, stdin) == {upper}_INPUT_BYTES) {{
    {name}_invoke();
    {writes}
  }}
  return 0;
}}
"""


def of_c(path: Path, flags: Sequence[str] = ("-O2",)) -> Runner:
    """Compile the folder of a NAME.c, and return what runs it.

    Args:
        path: NAME.c; NAME.json lies beside it.
        flags: of the compiler.

    Raises:
        ExportError: the compiler refuses it.
        InputError: NAME.json is missing or no manifest.
        MissingDependencyError: there is no C compiler.
    """
    try:
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        (entry,) = (TensorSpec.from_dict(spec) for spec in about["inputs"])
        exits = tuple(TensorSpec.from_dict(spec) for spec in about["outputs"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} has no manifest {path.stem}.json beside it; let nbedge deploy write the folder"
        ) from error
    folder = tempfile.TemporaryDirectory(prefix="nbedge-c-")
    try:
        program = _compiled(path, Path(folder.name), len(exits), flags)
    except NbedgeError:
        folder.cleanup()
        raise

    def run(arrays: Arrays) -> Arrays:
        done = subprocess.run([program], input=np.ascontiguousarray(arrays[entry.name]).tobytes(),
                              capture_output=True, check=False)  # fmt: skip
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise InputError(f"{path} stopped with status {done.returncode}: {' '.join(said[:3]) or 'no message'}")
        return _parted(done.stdout, exits)

    runner = Runner((entry,), exits, "tflm", run)
    weakref.finalize(run, folder.cleanup)
    return runner


def _parted(said: bytes, exits: Sequence[TensorSpec]) -> Arrays:
    """Return the outputs, which come one after the other for each input."""
    sizes = [int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize for spec in exits]
    rows = np.frombuffer(said, np.uint8).reshape(-1, sum(sizes))
    parts = np.split(rows, np.cumsum(sizes)[:-1], axis=1)
    return {
        spec.name: np.ascontiguousarray(part).view(spec.dtype).reshape(-1, *spec.shape[1:])
        for spec, part in zip(exits, parts, strict=True)
    }


def _compiled(path: Path, folder: Path, outputs: int, flags: Sequence[str]) -> Path:
    compiler = next((found for name in COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        raise MissingDependencyError("there is no C compiler here to check the generated C with; install gcc or clang")
    name, upper = path.stem, path.stem.upper()
    numbers = ["" if i == 0 else f"_{i}" for i in range(outputs)]
    writes = " ".join(f"fwrite({name}_output{n}(), 1, {upper}_OUTPUT{n}_BYTES, stdout);" for n in numbers)
    main = folder / "main.c"
    main.write_text(_MAIN.format(name=name, upper=upper, writes=writes), encoding="utf-8")
    sources = [str(source) for source in sorted(path.parent.glob("*.c")) if source.name not in BESIDE]
    program = folder / "program"
    command = [compiler, *WARNINGS, *flags, f"-I{path.parent}", *sources, str(main), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or done.stderr:
        what = next((line for line in done.stderr.splitlines() if "error" in line or "warning" in line), done.stderr)
        raise ExportError(f"{compiler} is not content with {path}: {what.strip()}")
    return program
