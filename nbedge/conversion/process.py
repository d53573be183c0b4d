"""Run one exporter in a process of its own, with its output in a log."""

import json
import os
import subprocess
import sys
from pathlib import Path

from nbedge import errors
from nbedge.errors import ExportError, NbedgeError
from nbedge.exporter import Job

TIMEOUT_S = 1800
#: what keeps converters quiet, and their files the same in every process
ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "ORT_DISABLE_TELEMETRY": "1", "PYTHONHASHSEED": "0"}


def run(name: str, job: Job, log: Path) -> None:
    """Let the exporter `name` do `job`; everything it prints goes to `log`.

    Raises:
        ExportError: it failed, crashed or took longer than half an hour; the message names the log.
        MissingDependencyError: a package that it needs is not installed.
    """
    request, answer = job.workdir / "job.json", job.workdir / "answer.json"
    request.write_text(json.dumps(to_dict(name, job, answer)), encoding="utf-8")
    command = [sys.executable, "-m", "nbedge.conversion.worker", str(request)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=job.workdir,
                env={**os.environ, **ENVIRONMENT}, timeout=TIMEOUT_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise ExportError(
                f"the exporter {name} took longer than {TIMEOUT_S} s and was stopped; see {log}"
            ) from error
    if answer.exists():
        _raise_answer(name, json.loads(answer.read_text(encoding="utf-8")), log)
    elif done.returncode:
        raise ExportError(f"the exporter {name} died with status {done.returncode}; see {log}")
    missing = [str(path) for path in job.targets.values() if not path.exists()]
    if missing:
        raise ExportError(f"the exporter {name} ended without an error but did not write {missing[0]}; see {log}")


def to_dict(name: str, job: Job, answer: Path) -> dict[str, object]:
    """Return the request that the worker reads."""
    return {
        "exporter": name, "source": str(job.source), "targets": {s: str(p) for s, p in job.targets.items()},
        "calibration": str(job.calibration), "workdir": str(job.workdir), "settings": dict(job.settings),
        "preprocessing": job.preprocessing.to_dict() if job.preprocessing else None, "classes": job.classes,
        "answer": str(answer),
    }  # fmt: skip


def _raise_answer(name: str, answer: dict[str, str], log: Path) -> None:
    kind = getattr(errors, answer["kind"], None)
    if isinstance(kind, type) and issubclass(kind, NbedgeError):
        raise kind(f"{answer['message']}; see {log}")
    raise ExportError(f"the exporter {name} failed: {answer['kind']}: {answer['message']}; see {log}")
