"""Workshop: files are made in a temporary folder, each verified; those that pass are moved to where they are wanted."""

import math
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nbedge import __version__, files
from nbedge.artifact import SCHEMES, Artifact, sidecar
from nbedge.conversion.asked import Asked
from nbedge.conversion.chain import Step
from nbedge.conversion.diagnosis import traced_back
from nbedge.conversion.line import Line
from nbedge.conversion.places import Places
from nbedge.errors import ExportError, GateError, InputError, MissingDependencyError, first_line
from nbedge.graph import read
from nbedge.runtime import open_file
from nbedge.subject import Subject
from nbedge.task import task_of
from nbedge.tracing import evaluating
from nbedge.verification import (
    REAL,
    TARGETS,
    Check,
    Equivalence,
    Families,
    Limits,
    Verdict,
    claimed_kernels,
    declared,
    linted,
    statistics,
    verify,
    verify_edges,
)
from nbedge.verification.chain import RUNTIME
from nbedge.verification.lint import lacking

Progress = Callable[[str], None]
#: setting of a batch of any size
DYNAMIC = "dynamic"
#: name of the check that a file failed which its runtime does not load
LOADS = "loads"


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that was kept, and the verdicts that let it through; usable wherever a path is.

    Attributes:
        artifact: the file.
        edges: one in each kernels that the file claims.
    """

    artifact: Artifact
    edges: tuple[Equivalence, ...]

    def __fspath__(self) -> str:
        return str(self.artifact.path)


@dataclass(slots=True, eq=False)
class Workshop:
    """Makes every file in a temporary folder; nothing reaches `out` before all have passed.

    Attributes:
        asked: what is exported.
        inputs: that files are judged on, by family.
        classes: names of the outputs.
        labels: (n, ...) of the real inputs.
        places: where everything lies; a file that is there already is not made again.
        out: where the log is, and where files go in the end.
        derived_from: what the first file's sidecar names as its origin.
        limits: of the comparison.
        task: what the outputs mean; empty: something else.
        floats: format -> float file of the network before any remedy, which integer files are compared with.
        edges: verdicts on the network itself.
        origins: file -> float file that it was made from.
    """

    asked: Asked
    inputs: Families
    classes: tuple[str, ...]
    labels: NDArray[Any] | None
    places: Places
    out: Path
    derived_from: str
    limits: Limits
    task: str = ""
    floats: Mapping[str, Path] = field(default_factory=dict)
    edges: tuple[Equivalence, ...] = ()
    origins: dict[Path, Path] = field(default_factory=dict)

    def make_all(self, chain: Sequence[Step], progress: Progress) -> list[Exported]:
        """Run all exporters, judge their files, and return what was asked for."""
        self.places.folder.mkdir(exist_ok=True)
        made: list[Exported] = []
        logs, asked = self.out / "logs", self.asked
        with Line(chain, self.places, logs, asked.preprocessing, self.classes, progress) as line:
            self.prepare(chain)
            for step in line.finished():
                made += self.made(step)
        return made

    def agreeing(self, exported: Exported, other: Exported, backend: str) -> Exported:
        """Return a file with one edge more: against the one that another backend has made of the same network.

        Raises:
            GateError: the two do not agree.
        """
        path, second = exported.artifact.path, other.artifact.path
        for edge in () if loads(other) else other.edges:
            self._refuse_failed(edge, second, self.out / "logs")
        quantized = exported.artifact.scheme != "fp32"
        edge = verify(
            open_file(second),
            open_file(path),
            self.inputs,
            labels=self.labels,
            quantized=quantized,
            limits=self.limits,
            task=task_of(self.task),
        ).named(f"{second.name} of {backend}", path.name)
        self._refuse_failed(edge, path, self.out / "logs")
        artifact = replace(exported.artifact, verdicts=(*exported.artifact.verdicts, _verdict(edge)))
        return Exported(artifact, (*exported.edges, edge))

    def prepare(self, chain: Sequence[Step]) -> None:
        """Write what every chain starts from: torch.export programs of each batch, and the calibration inputs."""
        np.save(self.places.calibration, self.asked.shown)
        batches = {step.batch for step in chain if step.source is None}
        for batch in (batch for batch in batches if not self.places.program(batch).exists()):
            # a plain contiguous example: channels-last strides would leave Gather operators in the ONNX graph
            example = torch.zeros(2 if batch == DYNAMIC else 1, *self.asked.shape)
            sizes = ({0: torch.export.Dim("batch")},) if batch == DYNAMIC else None
            with warnings.catch_warnings(), evaluating(self.asked.model):
                warnings.simplefilter("ignore", FutureWarning)
                torch.export.save(_traced(self.asked.model, example, sizes), self.places.program(batch))

    def made(self, step: Step) -> list[Exported]:
        """Judge the files of a step, and return those that were asked for.

        Raises:
            GateError: a file failed that the accuracy ladder can do nothing for.
        """
        versions = self.places.versions(step)
        judged = []
        for scheme in step.ordered:
            judged.append(self._judged(step, scheme, versions))
            if not within_ladder(scheme):  # at once: what comes next is compared with it
                self.refuse(judged[-1], self._log(step))
        return [exported for exported in judged if exported.artifact.scheme in step.kept]

    def _log(self, step: Step) -> Path:
        return self.out / "logs" / f"{step.name}.log"

    def _judged(self, step: Step, scheme: str, versions: Mapping[str, str]) -> Exported:
        path, origin = self.places.path(step, scheme), self._origin(step, scheme)
        before = self._without_remedies(origin, step, scheme)
        if origin.path is not None:
            self.origins[path] = origin.path
        try:
            runner = step.exporter.open(path)
        except InputError as error:
            return self._unloadable(step, scheme, before, str(error).partition("; export")[0])
        made = Artifact(
            path, step.exporter.produces, scheme, runner.inputs, runner.outputs, self.asked.preprocessing, self.classes,
            before.name,
            {"nbedge": __version__, **versions},
            self.asked.head, statistics(self.asked.calibration) if within_ladder(scheme) else {}, task=self.task,
        )  # fmt: skip
        after = replace(self._subject(path, scheme, before.name), calibration=made.calibration, exempt=step.exempt)
        kernels = claimed_kernels(after, step.settings.get("target", ""))
        target = _meant_for(step) if scheme in step.kept else None  # a file to go on from goes nowhere
        bytes_of_it = linted(origin, after, self.inputs[REAL], target)
        if bytes_of_it is not None:
            extra = lacking(read(path), "tflm") if "tflm" in kernels and target is None else []
            program = self.places.program(step.batch)
            checks = tuple(traced_back(check, program) for check in (*bytes_of_it.checks, *extra))
            bytes_of_it = replace(bytes_of_it, checks=checks)
            # before it is run: what TFLite Micro cannot run, it may not even load
            self._refuse_failed(bytes_of_it, path, self._log(step))
        unreadable = _unreadable(path, kernels)
        if unreadable:
            return self._unloadable(step, scheme, before, unreadable)
        first, *others = verify_edges(
            before, after, self.inputs, labels=self.labels, limits=self.limits, kernels=tuple(filter(None, kernels))
        )
        judged = (replace(first, checks=(*declared(before, after), *first.checks)), *others)
        edges = (*self.edges, *(() if bytes_of_it is None else (bytes_of_it,)), *judged)
        return Exported(replace(made, verdicts=tuple(map(_verdict, edges))), edges)

    def _unloadable(self, step: Step, scheme: str, before: Subject, reason: str) -> Exported:
        """Return a file that its runtime does not load, which is one more way to fail."""
        path = self.places.path(step, scheme)
        check = Check(LOADS, Verdict.FAIL, math.nan, detail=reason.replace(str(path), "it"))
        edges = (*self.edges, Equivalence(before.name, path.name, step.exporter.produces, (check,)))
        made = Artifact(
            path, step.exporter.produces, scheme, (), (), self.asked.preprocessing, self.classes, before.name,
            head=self.asked.head, task=self.task,
        )  # fmt: skip
        return Exported(made, edges)

    def refuse(self, exported: Exported, log: Path) -> None:
        """Refuse a file that has failed.

        Raises:
            GateError: it has; it holds what was tried on the accuracy ladder.
        """
        try:
            for edge in exported.edges:
                self._refuse_failed(edge, exported.artifact.path, log)
        except GateError as error:
            raise GateError(str(error), exported.artifact.ladder) from error

    def passed(self, exported: Exported) -> bool:
        """Return whether a file has not failed; what was not checked for want of a runtime is no failure."""
        return all(edge or edge.failures()[0].name == RUNTIME for edge in exported.edges)

    def pair(self, exported: Exported) -> tuple[Subject, Subject]:
        """Return the float file that a file was quantized from, and the file."""
        path, source = exported.artifact.path, self.origins[exported.artifact.path]
        return self._subject(source, "fp32", ""), self._subject(path, exported.artifact.scheme, source.name)

    def float_files(self, chain: Sequence[Step]) -> dict[str, Path]:
        """Return format -> float file that quantized ones of it are compared with."""
        return {step.exporter.produces: self.places.path(step, "fp32") for step in chain if "fp32" in step.schemes}

    def _refuse_failed(self, edge: Equivalence, path: Path, log: Path) -> None:
        if not edge and edge.failures()[0].name != RUNTIME:
            worst = edge.failures()[0]
            if worst.name == LOADS:
                raise GateError(
                    f"{path.name} is not kept: it was written, but cannot be run ({worst.detail}); allow more rungs of "
                    f"the accuracy ladder or export other schemes; see {log}"
                )
            raise GateError(
                f"{path.name} is not kept: {worst.name} is {worst.value:.4g} {worst.unit} (limit {worst.limit}), "
                f"{worst.detail}, in {edge.kernels} against {edge.reference}; see {log}"
            )

    def _origin(self, step: Step, scheme: str) -> Subject:
        """Return what a file is compared with: the fp32 file of its format if it is quantized, else its source."""
        if scheme != "fp32" and "fp32" in step.schemes:
            return self._subject(self.places.path(step, "fp32"), "fp32", "")
        if step.source is None:
            return self.subject()
        return self._subject(self.places.path(step.source, "fp32"), "fp32", "")

    def subject(self) -> Subject:
        """Return the network."""
        asked = self.asked
        return Subject(
            self.derived_from, asked.model, asked.preprocessing, self.classes, "fp32", asked.shape,
            task=self.task,
        )  # fmt: skip

    def _without_remedies(self, origin: Subject, step: Step, scheme: str) -> Subject:
        """Return the float file before any remedy, for a quantized file: what it was quantized from is judged alike."""
        plain = self.floats.get(step.exporter.produces)
        return origin if scheme == "fp32" or plain is None else self._subject(plain, "fp32", "")

    def _subject(self, path: Path, scheme: str, derived_from: str) -> Subject:
        return Subject(
            path.name, open_file(path), self.asked.preprocessing, self.classes, scheme,
            self.asked.shape, path, derived_from, task=self.task,
        )  # fmt: skip

    def keep(self, exported: Exported) -> Exported:
        """Move the file into `out`, whole, and write its sidecar."""
        target = self.out / exported.artifact.path.name
        # the sidecar of an older file must never describe the new one
        sidecar(target).unlink(missing_ok=True)
        with files.appearing(target) as part:
            shutil.copyfile(exported.artifact.path, part)
        kept = replace(exported.artifact, path=target).sealed()
        kept.write_sidecar()
        return Exported(kept, exported.edges)


def _unreadable(path: Path, kernels: Sequence[str]) -> str:
    """Return why some kernels cannot load a file; empty if all that are installed can."""
    for name in filter(None, kernels):
        try:
            open_file(path, name)
        except MissingDependencyError:
            continue
        except InputError as error:
            return f"{name} kernels: {str(error).partition('; export')[0]}"
    return ""


def loads(exported: Exported) -> bool:
    """Return whether the runtime of a file loads it."""
    return all(check.name != LOADS for edge in exported.edges for check in edge.checks)


def within_ladder(scheme: str) -> bool:
    """Return whether files of a scheme are on the accuracy ladder: those whose activations are integers."""
    return SCHEMES[scheme][1].startswith("int")


def _traced(model: nn.Module, example: Tensor, sizes: Any) -> torch.export.ExportedProgram:
    """Return the program of a model.

    Raises:
        ExportError: torch cannot write it down.
    """
    try:
        return torch.export.export(model, (example,), dynamic_shapes=sizes)
    except Exception as error:  # whatever the model's own code raises under it
        reason = first_line(error)
        raise ExportError(
            f"torch.export cannot trace the model ({reason}); its forward may not depend on the values of its input"
        ) from error


def _verdict(edge: Equivalence) -> dict[str, str]:
    return {"reference": edge.reference, "kernels": edge.kernels, "verdict": str(edge.verdict)}


def _meant_for(step: Step) -> str | None:
    """Return the target that a file is linted against."""
    target = step.settings.get("target")
    return target if target in TARGETS else None
