"""Runners in another interpreter: a file is run where its runtime is installed, and its answers come back."""

import os
import subprocess
import sys
import tempfile
import threading
import weakref
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from nbedge.artifact import TensorSpec
from nbedge.environments import SOURCES, carry, python_with
from nbedge.errors import InputError, named_error
from nbedge.runtime.frames import read_frame, write_frame
from nbedge.runtime.runner import Arrays, Runner

#: seconds that a process has to end by itself
PATIENCE_S = 10
#: name of the file that holds what a process says beside its answers
SAID = "said.txt"


def open_where_installed(opener: str, path: Path, packages: tuple[str, ...], extra: str) -> Runner:
    """Return the runner of a file, opened in the interpreter that has `packages`: here, or in an environment.

    Args:
        opener: function that opens it, MODULE:FUNCTION, of nbedge or nbedge_exporters; it takes a path and returns a
            Runner.
        path: the file.
        packages: distributions that the function needs.
        extra: of nbedge that has them; an environment of this name is where they are if they are not here.

    Raises:
        MissingDependencyError: they are neither here nor there.
        InputError: the file cannot be opened, or the process that runs it has died; `run` raises it too.
    """
    python = python_with(packages, extra)
    if python == sys.executable:
        module, _, function = opener.partition(":")
        runner: Runner = getattr(import_module(module), function)(path)
        return runner
    return _started(python).open(opener, path)


class Elsewhere:
    """A process of another interpreter that opens files and runs them; it ends with this object, or with its parent."""

    def __init__(self, python: str) -> None:
        """Start it; it imports nothing but this package before it is asked."""
        folder = tempfile.TemporaryDirectory(prefix="nbedge-elsewhere-")
        self._said = Path(folder.name) / SAID
        sources = carry(SOURCES, Path(folder.name) / "sources.zip")
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [python, "-m", "nbedge.runtime.answering"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said,
                cwd=folder.name, env={**os.environ, "PYTHONPATH": str(sources)},
            )  # fmt: skip
        self._turn = threading.Lock()
        self._end = weakref.finalize(self, _end, self.process, folder)

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""
        return self._end.alive and self.process.poll() is None

    def open(self, opener: str, path: Path) -> Runner:
        """Let it open a file, and return a runner that asks it.

        Raises:
            InputError: it cannot, or has died.
        """
        said, _ = self._ask(path, {"opener": opener, "path": str(path.absolute())}, {})
        inputs, outputs = (tuple(map(TensorSpec.from_dict, said[end])) for end in ("inputs", "outputs"))

        def run(arrays: Arrays) -> Arrays:
            return self._ask(path, {"file": said["file"]}, arrays)[1]

        return Runner(inputs, outputs, said["kernels"], run)

    def _ask(self, path: Path, asked: dict[str, Any], arrays: Arrays) -> tuple[dict[str, Any], Arrays]:
        with self._turn:
            found = self._exchange(path, asked, arrays)
        if found is None:
            self._raise_dead(path)
        if "kind" in found[0]:
            _raise_answer(path, found[0])
        return found

    def _exchange(self, path: Path, asked: dict[str, Any], arrays: Arrays) -> tuple[dict[str, Any], Arrays] | None:
        if not self._end.alive or self.process.stdin is None or self.process.stdout is None:
            return None
        try:
            write_frame(self.process.stdin, asked, arrays)
            return read_frame(self.process.stdout)
        except OSError:  # nobody reads any more
            return None
        except BaseException:  # interrupted: its answer would be taken for that to the next question
            self._end()
            raise

    def _raise_dead(self, path: Path) -> NoReturn:
        words = self._said.read_text(encoding="utf-8", errors="replace").split("\n") if self._said.exists() else []
        last = next((line for line in reversed(words) if line.strip()), "")
        self._end()
        told = f" ({last.strip()})" if last else ""
        raise InputError(
            f"{path}: the process that runs it ended with status {self.process.returncode}{told}; run the command again"
        )


#: interpreter -> its process: one takes seconds to import a runtime, and hundreds of MB
_PROCESSES: dict[str, Elsewhere] = {}


def _started(python: str) -> Elsewhere:
    """Return the process of an interpreter, a new one if there is none or it has died."""
    if python not in _PROCESSES or not _PROCESSES[python].alive:
        _PROCESSES[python] = Elsewhere(python)
    return _PROCESSES[python]


def _end(process: "subprocess.Popen[bytes]", folder: "tempfile.TemporaryDirectory[str]") -> None:
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):  # what it was not told any more
            pipe.close()  # type: ignore[union-attr]
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    folder.cleanup()


def _raise_answer(path: Path, said: dict[str, Any]) -> NoReturn:
    kind = named_error(said["kind"])
    if kind is not None:
        raise kind(said["message"])
    raise InputError(f"{path} cannot be run: {said['kind']}: {said['message']}; export it again")
