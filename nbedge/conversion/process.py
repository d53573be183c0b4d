"""Exporters run in processes of their own, with their output in a log."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from nbedge.environments import SOURCES, carry, python_with
from nbedge.errors import ExportError, named_error
from nbedge.exporter import Exporter, Job, plugin_of

TIMEOUT_S = 1800


def environment(workdir: Path) -> dict[str, str]:
    """Return what keeps converters quiet, in their place, and their files the same in every process.

    Keras would write its settings into the user's home, and obey those it finds there; torch's inductor and TensorFlow
    leave files in the folder for temporary ones.
    """
    return {
        "TF_CPP_MIN_LOG_LEVEL": "3", "ORT_DISABLE_TELEMETRY": "1", "PYTHONHASHSEED": "0",
        "KERAS_HOME": str(workdir / "keras"), "TORCHINDUCTOR_CACHE_DIR": str(workdir / "inductor"),
        "TMPDIR": str(workdir),
    }  # fmt: skip


class Worker:
    """The process of one exporter. It imports what the exporter uses while its source is still being made.

    A context manager: at its end the process is no longer there.
    """

    def __init__(self, name: str, exporter: Exporter, workdir: Path, log: Path) -> None:
        """Start the process in `workdir`; everything it prints goes to `log`.

        Raises:
            MissingDependencyError: a package that the exporter needs is not installed.
        """
        self._name, self._exporter, self._log = name, exporter, log
        workdir.mkdir(parents=True, exist_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        python, variables = _interpreter(exporter, workdir)
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [python, "-m", "nbedge.exporter_process", *exporter.imports], stdin=subprocess.PIPE, stdout=output,
                stderr=subprocess.STDOUT, cwd=workdir, env={**os.environ, **environment(workdir), **variables},
            )  # fmt: skip

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process.wait()

    def begin(self, job: Job) -> None:
        """Let the exporter do `job`."""
        self._job, request = job, job.workdir / "job.json"
        request.write_text(
            json.dumps(to_dict(self._name, self._exporter, job, _answer(job))), encoding="utf-8"
        )  # fmt: skip
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is gone: end() says how
            self._process.stdin.write(str(request).encode())
            self._process.stdin.close()

    def end(self) -> dict[str, str]:
        """Wait until the job is done; return the versions of the exporter's packages, where it ran.

        Raises:
            ExportError: it failed, crashed or took longer than half an hour; the message names the log.
        """
        name, log, answer = self._name, self._log, _answer(self._job)
        try:
            self._process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise ExportError(
                f"the exporter {name} took longer than {TIMEOUT_S} s and was stopped; see {log}"
            ) from error
        said = json.loads(answer.read_text(encoding="utf-8")) if answer.exists() else {}
        if "kind" in said:
            _raise_answer(name, said, log)
        if self._process.returncode:
            raise ExportError(f"the exporter {name} {_ended(self._process.returncode)}; see {log}")
        missing = [str(path) for path in self._job.targets.values() if not path.exists()]
        if missing:
            raise ExportError(f"the exporter {name} ended without an error but did not write {missing[0]}; see {log}")
        return dict(said["versions"])


def _answer(job: Job) -> Path:
    return job.workdir / "answer.json"


def run(name: str, exporter: Exporter, job: Job, log: Path) -> dict[str, str]:
    """Let the exporter `name` do `job` in a process of its own, see `Worker`."""
    with Worker(name, exporter, job.workdir, log) as worker:
        worker.begin(job)
        return worker.end()


def _ended(status: int) -> str:
    """Return how a process ended that said nothing; who runs out of memory is killed from outside."""
    if status == -signal.SIGKILL:
        return "was killed, as the system does when memory runs out"
    if -status in set(signal.Signals):
        return f"crashed with {signal.Signals(-status).name}"
    return f"died with status {status}"


def _interpreter(exporter: Exporter, workdir: Path) -> tuple[str, dict[str, str]]:
    """Return the interpreter that has the exporter's packages, and what it needs to find this package."""
    python = python_with(exporter.packages, exporter.extra)
    if python == sys.executable:
        return python, {}
    return python, {"PYTHONPATH": str(carry(SOURCES, workdir / "sources.zip"))}


def to_dict(name: str, exporter: Exporter, job: Job, answer: Path) -> dict[str, object]:
    """Return the request that the worker reads."""
    return {
        "plugin": plugin_of(name), "packages": exporter.packages, "source": str(job.source),
        "targets": {scheme: str(path) for scheme, path in job.targets.items()},
        "calibration": str(job.calibration), "workdir": str(job.workdir), "settings": dict(job.settings),
        "preprocessing": job.preprocessing.to_dict() if job.preprocessing else None, "classes": job.classes,
        "exempt": job.exempt, "answer": str(answer),
    }  # fmt: skip


def _raise_answer(name: str, answer: dict[str, str], log: Path) -> None:
    kind = named_error(answer["kind"])
    if kind is not None:
        raise kind(f"{answer['message']}; see {log}")
    if answer["kind"] == "MemoryError":
        raise ExportError(f"the exporter {name} ran out of memory; see {log}")
    raise ExportError(f"the exporter {name} failed: {answer['kind']}: {answer['message']}; see {log}")
