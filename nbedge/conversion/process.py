"""Run one exporter in a process of its own, with its output in a log."""

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
#: what keeps converters quiet, and their files the same in every process
ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "ORT_DISABLE_TELEMETRY": "1", "PYTHONHASHSEED": "0"}


def run(name: str, exporter: Exporter, job: Job, log: Path) -> dict[str, str]:
    """Let the exporter `name` do `job`; everything it prints goes to `log`.

    Returns:
        The versions of its packages, where it ran.

    Raises:
        ExportError: it failed, crashed or took longer than half an hour; the message names the log.
        MissingDependencyError: a package that it needs is not installed.
    """
    request, answer = job.workdir / "job.json", job.workdir / "answer.json"
    request.write_text(json.dumps(to_dict(name, exporter, job, answer)), encoding="utf-8")
    python, variables = _interpreter(exporter, job)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        try:
            done = subprocess.run(
                [python, "-m", "nbedge.conversion.worker", str(request)], stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, cwd=job.workdir, env={**os.environ, **ENVIRONMENT, **variables},
                timeout=TIMEOUT_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise ExportError(
                f"the exporter {name} took longer than {TIMEOUT_S} s and was stopped; see {log}"
            ) from error
    said = json.loads(answer.read_text(encoding="utf-8")) if answer.exists() else {}
    if "kind" in said:
        _raise_answer(name, said, log)
    if done.returncode:
        raise ExportError(f"the exporter {name} {_ended(done.returncode)}; see {log}")
    missing = [str(path) for path in job.targets.values() if not path.exists()]
    if missing:
        raise ExportError(f"the exporter {name} ended without an error but did not write {missing[0]}; see {log}")
    return dict(said["versions"])


def _ended(status: int) -> str:
    """Return how a process ended that said nothing; who runs out of memory is killed from outside."""
    if status == -signal.SIGKILL:
        return "was killed, as the system does when memory runs out"
    return f"died with status {status}"


def _interpreter(exporter: Exporter, job: Job) -> tuple[str, dict[str, str]]:
    """Return the interpreter that has the exporter's packages, and what it needs to find this package."""
    python = python_with(exporter.packages, exporter.extra)
    if python == sys.executable:
        return python, {}
    return python, {"PYTHONPATH": str(carry(SOURCES, job.workdir / "sources.zip"))}


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
    raise ExportError(f"the exporter {name} failed: {answer['kind']}: {answer['message']}; see {log}")
