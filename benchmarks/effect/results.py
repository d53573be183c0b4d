"""The lines of results: one JSON object a finished run, so that what several processes and machines write adds up."""

import fcntl
import json
import os
import statistics
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nbedge.errors import InputError

RESULTS = Path(__file__).with_name("results")
HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Line:
    """One finished run.

    Attributes:
        key: of the job.
        method: name in the study.
        told: the method's record, in words.
        ends: what it ends with: tiny, no larger, or giant.
        network: name; the sizes are those of what is left at the end.
        parameters: trainable numbers.
        macs: multiply-accumulates of one input.
        data: name of the pictures.
        fingerprint: of the pictures.
        seed: of weights, order and augmentation.
        learning_rate: at the top of the cosine.
        epochs: of all phases on the pictures.
        phases: a row a phase: name, epochs, multiply-accumulates of training for one input, validation accuracy.
        training_macs: forward x 3 of what is trained, and forward of teachers, over all inputs of all steps.
        seconds: of training, by the clock; information, no measure.
        device: that trained, with the number of its threads.
        validation: accuracy, a share.
        test: accuracy, a share; None for trials of learning rates.
        diverged: the loss was not finite; the accuracies are those of chance.
        revision: of git; + where files were changed.
        torch: its version.
        tuning: whether it is a trial of a learning rate.
    """

    key: str
    method: str
    told: str
    ends: str
    network: str
    parameters: int
    macs: int
    data: str
    fingerprint: str
    seed: int
    learning_rate: float
    epochs: float
    phases: Sequence[dict[str, Any]]
    training_macs: int
    seconds: float
    device: str
    validation: float
    test: float | None
    diverged: bool
    revision: str
    torch: str
    tuning: bool


def append(path: Path, line: Line) -> None:
    """Append `line` to the file at `path`, whole, also while other processes do so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(line)) + "\n"
    with path.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def lines(path: Path) -> list[Line]:
    """Return the lines of the file at `path`, of each key the first; none if there is no file.

    Raises:
        InputError: a line is damaged; the message names it.
    """
    found: dict[str, Line] = {}
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines() if path.exists() else (), 1):
        try:
            line = Line(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}, line {number} is no result ({error}); remove it") from error
        found.setdefault(line.key, line)
    return list(found.values())


def best_rates(trials: Iterable[Line]) -> dict[tuple[str, str, str], float]:
    """Return the learning rate of the best mean validation accuracy by (method, network, pictures)."""
    cases: dict[tuple[str, str, str], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in trials:
        if line.tuning:
            cases[line.method, line.network, line.data][line.learning_rate].append(line.validation)
    return {case: max(sorted(rates), key=lambda rate: statistics.mean(rates[rate])) for case, rates in cases.items()}


def revision() -> str:
    """Return the short hash of the commit, with + where code has been changed since."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=HERE, capture_output=True, text=True, check=False).stdout.strip()

    root = git("rev-parse", "--show-toplevel")
    changed = git("status", "--porcelain", "--", f"{root}/nbedge", "*.py") if root else ""
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + ("+" if changed else "")
