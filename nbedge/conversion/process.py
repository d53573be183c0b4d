"""Exporters run in processes of their own, with their output in a log."""

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

    Keras would write its settings into the user's home, and obey those it finds there; torch's inductor into /tmp.
    """
    return {
        "TF_CPP_MIN_LOG_LEVEL": "3", "ORT_DISABLE_TELEMETRY": "1", "PYTHONHASHSEED": "0",
        "KERAS_HOME": str(workdir / "keras"), "TORCHINDUCTOR_CACHE_DIR": str(workdir / "inductor"),
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
                [python, "-m", "nbedge.conversion.worker", *exporter.imports], stdin=subprocess.PIPE, stdout=output,
                stderr=subprocess.STDOUT, cwd=workdir, env={**os.environ, **environment(workdir), **variables},
            )  # fmt: skip

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def run(self, job: Job) -> dict[str, str]:
        """Let the exporter do `job`; return the versions of its packages, where it ran.

        Raises:
            ExportError: it failed, crashed or took longer than half an hour; the message names the log.
        """
        name, log = self._name, self._log
        request, answer = job.workdir / "job.json", job.workdir / "answer.json"
        request.write_text(json.dumps(to_dict(name, self._exporter, job, answer)), encoding="utf-8")
        try:
            self._process.communicate(str(request).encode(), timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise ExportError(
                f"the exporter {name} took longer than {TIMEOUT_S} s and was stopped; see {log}"
            ) from error
        said = json.loads(answer.read_text(encoding="utf-8")) if answer.exists() else {}
        if "kind" in said:
            _raise_answer(name, said, log)
        if self._process.returncode:
            raise ExportError(f"the exporter {name} {_ended(self._process.returncode)}; see {log}")
        missing = [str(path) for path in job.targets.values() if not path.exists()]
        if missing:
            raise ExportError(f"the exporter {name} ended without an error but did not write {missing[0]}; see {log}")
        return dict(said["versions"])


def run(name: str, exporter: Exporter, job: Job, log: Path) -> dict[str, str]:
    """Let the exporter `name` do `job` in a process of its own, see `Worker`."""
    with Worker(name, exporter, job.workdir, log) as worker:
        return worker.run(job)


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
