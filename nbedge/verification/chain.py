"""The chain of files from the model to the device: every link its own edge, in every kernels that the file claims."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge.artifact import SCHEMES
from nbedge.errors import InputError, MissingDependencyError
from nbedge.runtime import Arrays, Runner, open_file
from nbedge.subject import Subject
from nbedge.task import task_of
from nbedge.verification.agreement import REAL, Limits
from nbedge.verification.equivalence import SCHEMA_VERSION, Check, Equivalence, Verdict, at_most, not_checked, together
from nbedge.verification.families import Families, foremost
from nbedge.verification.judging import REPEATED, verify
from nbedge.verification.levels import levels_agree

#: the kernels without tricks of speed run a few ms an input: so many real inputs are enough for them
SLOW, SLOW_INPUTS = ("reference", "tflm"), 100
#: what a file of these schemes is meant for runs in TFLite Micro
MICRO = ("int8",)
#: inputs, as bytes -> what a runner answered
Answers = dict[bytes, Arrays]
#: name of the check that was not made because what runs the file is not installed
RUNTIME = "runtime"


@dataclass(frozen=True, slots=True)
class Chain:
    """The verdicts on all edges. `bool()` is the verdict of the whole.

    Attributes:
        edges: in the order in which they were judged.
    """

    edges: tuple[Equivalence, ...]

    @property
    def verdict(self) -> Verdict:
        """FAIL if an edge failed or there is none, else NOT CHECKED if one was not checked, else PASS."""
        return together(edge.verdict for edge in self.edges)

    def __bool__(self) -> bool:
        return self.verdict is Verdict.PASS

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        edges = [edge.to_dict() for edge in self.edges]
        return {"schema_version": SCHEMA_VERSION, "verdict": str(self.verdict), "edges": edges}


def links(subjects: Sequence[Subject]) -> list[tuple[Subject, Subject]]:
    """Return the pairs to compare: each subject with the one that its sidecar names, or else with the one before it."""
    found = []
    for index, candidate in enumerate(subjects[1:], 1):
        known = {subject.name: subject for subject in subjects[:index]}
        found.append((known.get(candidate.derived_from, subjects[index - 1]), candidate))
    return found


def claimed_kernels(subject: Subject, target: str = "") -> tuple[str, ...]:
    """Return the kernels that a file is judged in if nobody says which: those of the devices that it is meant for.

    Args:
        subject: the file.
        target: what it is meant for, if that was said; "litert" is no microcontroller.
    """
    if subject.path is None or subject.path.suffix != ".tflite":
        return ("",)
    return ("xnnpack", "reference", *(("tflm",) if subject.scheme in MICRO and target != "litert" else ()))


def verify_edges(
    before: Subject,
    after: Subject,
    given: Families,
    *,
    labels: NDArray[Any] | None = None,
    limits: Limits | None = None,
    kernels: Sequence[str] = (),
) -> Iterator[Equivalence]:
    """Judge one link, in each of the kernels; TFLite Micro and the reference kernels must also agree step by step.

    Args:
        before: what is believed, in its usual kernels.
        after: what is judged.
        given: inputs by family.
        labels: (n, ...) of the real ones.
        limits: of the answers.
        kernels: names; none: those that the file claims.

    Raises:
        InputError: the file does not run in the kernels asked for, or the inputs do not fit.
    """
    limits, task = limits or Limits(), task_of(before.task or after.task)
    runners: dict[str, Runner] = {}
    told: dict[str, Answers] = {}
    for name in kernels or claimed_kernels(after):
        if not name:
            quantized = _tolerant(before, after, after.model)
            judged = verify(
                before.model, after.model, given, labels=labels, quantized=quantized, limits=limits, task=task
            )
            yield replace(
                judged.named(before.name, after.name), checks=(*judged.checks, *_levels(after, given, limits))
            )
            continue
        try:
            runners[name] = noting(open_file(_path(after, name), name), told.setdefault(name, {}))
        except MissingDependencyError as error:
            yield Equivalence(before.name, after.name, name, (not_checked(RUNTIME, str(error)),))
            continue
        some = _fewer(given) if name in SLOW else given
        judged = verify(
            before.model,
            runners[name],
            some,
            labels=None if labels is None else labels[: len(some[REAL])],
            quantized=_tolerant(before, after, runners[name]),
            limits=limits,
            task=task,
        )
        yield judged.named(before.name, after.name)
    if {"reference", "tflm"} <= runners.keys() and SCHEMES[after.scheme][2].startswith("int"):
        check = steps_apart(told["reference"], told["tflm"], limits)
        yield Equivalence(f"{after.name} in reference kernels", after.name, "tflm", (check,))


def _levels(after: Subject, given: Families, limits: Limits) -> list[Check]:
    """Judge an ONNX file at every level of optimization, on a few inputs."""
    if after.path is None or after.path.suffix != ".onnx":
        return []
    return [levels_agree(after.path, foremost(given)[:REPEATED], after.quantized, limits)]


def _tolerant(before: Subject, after: Subject, runner: object) -> bool:
    """Return whether rounding sets the two apart: against a float model, or between kernels that round otherwise."""
    contract = before.model.kernels if isinstance(before.model, Runner) else ""
    same = before.quantized and isinstance(runner, Runner) and contract == runner.kernels
    return after.quantized and not same


def _path(subject: Subject, kernels: str) -> Path:
    if subject.path is None:
        raise InputError(f"{subject.name} is no exported file, so it does not run in the kernels {kernels!r}")
    return subject.path


def _fewer(given: Families) -> Families:
    return {family: x[:SLOW_INPUTS] for family, x in given.items()}


def noting(runner: Runner, told: Answers) -> Runner:
    """Return a runner that writes down what it answers to what."""

    def run(arrays: Arrays) -> Arrays:
        found = runner.run(arrays)
        told[b"".join(array.tobytes() for array in arrays.values())] = found
        return found

    return replace(runner, run=run)


def steps_apart(wanted: Answers, found: Answers, limits: Limits) -> Check:
    """Compare the integers that two kernels gave for the same file, wherever both were asked the same."""
    worst = differing = total = 0
    for asked in wanted.keys() & found.keys():
        for name, integers in wanted[asked].items():
            apart = np.abs(integers.astype(np.int64) - found[asked][name].astype(np.int64))
            worst, differing, total = (
                max(worst, int(apart.max())),
                differing + int((apart > 0).sum()),
                total + apart.size,
            )
    if not total:
        return not_checked("steps apart", "the two kernels were never asked the same")
    return at_most("steps apart", worst, limits.steps, "steps", f"{differing} of {total} values differ")
