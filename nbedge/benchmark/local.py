"""This machine: a fresh process for each job, in the environment that has the runtime."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbedge.agent import SENTINEL
from nbedge.benchmark.archive import write_agent
from nbedge.benchmark.place import NATIVE
from nbedge.environments import ENVIRONMENTS
from nbedge.errors import InputError, MissingDependencyError, named_error

#: runtime -> the environment of its own that it lives in
ELSEWHERE = {"tflite-runtime": "tflite-runtime"}
#: runtime -> the extra that brings it
EXTRAS = {"onnxruntime": "onnx", "torch": "train", "tflite-micro": "micro"}
#: runtimes that take more than the agent: they need nbedge itself to open a file
WITHIN = {"torch": "nbedge.torch_agent"}


class LocalMachine:
    """The machine that this runs on."""

    name = "local"
    seconds = 2.0
    timed = True
    compiles = False
    runtimes = NATIVE

    def __init__(self) -> None:
        """Write the agent into a temporary folder."""
        self._folder = tempfile.TemporaryDirectory(prefix="nbedge-bench-")
        self._agent = write_agent(Path(self._folder.name) / "agent.pyz")

    def __enter__(self) -> "LocalMachine":
        return self

    def __exit__(self, *_exception: object) -> None:
        self._folder.cleanup()

    def run(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Do a job in a fresh process.

        Raises:
            InputError: the file could not be run.
            MissingDependencyError: its runtime is not installed.
        """
        done = subprocess.run(
            self._command(job["runtime"]), input=json.dumps({**job, "parent": os.getpid()}),
            capture_output=True, encoding="utf-8", errors="replace", check=False,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )  # fmt: skip
        cure = f"run: pip install 'nbedge[{EXTRAS.get(job['runtime'], 'tflite')}]'"
        return result_of(done.stdout, job, f"exit status {done.returncode}: {last_line(done.stderr)}", cure)

    def _command(self, runtime: str) -> list[str]:
        if runtime in WITHIN:
            return [sys.executable, "-m", WITHIN[runtime]]
        own = ENVIRONMENTS.get(ELSEWHERE.get(runtime, ""))
        if own is not None and not own.ready:
            raise MissingDependencyError(
                f"{runtime} has an environment of its own, which is not there; run: nbedge doctor --install {own.name}"
            )
        return [str(own.python) if own else sys.executable, str(self._agent)]


def result_of(output: str, job: Mapping[str, Any], otherwise: str, cure: str) -> dict[str, Any]:
    """Return what the agent found, read from the last line that it printed.

    Args:
        output: of the agent.
        job: that it was given.
        otherwise: what is known if it never got so far.
        cure: what to do where the runtime is missing.

    Raises:
        InputError: the file could not be run.
        MissingDependencyError: its runtime is not installed.
    """
    lines = [line for line in output.splitlines() if line.startswith(SENTINEL)]
    return found_in(
        json.loads(lines[-1].removeprefix(SENTINEL)) if lines else {"error": otherwise, "kind": ""}, job, cure
    )


def found_in(said: Mapping[str, Any], job: Mapping[str, Any], cure: str) -> dict[str, Any]:
    """Return what the agent found, of what it said of a job; `cure` is what to do where the runtime is missing.

    Raises:
        InputError: the file could not be run.
        MissingDependencyError: its runtime is not installed.
    """
    name = Path(job["file"]).name
    if said.get("kind") == "missing":
        raise MissingDependencyError(f"{name} cannot be measured: {said['error']}; {cure}")
    own = named_error(said.get("kind", ""))
    if own is not None:  # it says itself what to do
        raise own(f"{name} cannot be measured: {said['error']}")
    if "error" in said:
        raise InputError(
            f"{name} could not be run in {job['runtime']} ({said['error']}); check that the file is whole, or export "
            "it again"
        )
    found: dict[str, Any] = said["result"]
    return found


def last_line(text: str) -> str:
    """Return the last line of `text` that holds something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
