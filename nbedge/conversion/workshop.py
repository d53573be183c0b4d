"""Workshop: files are made in a temporary folder, each verified; those that pass are moved to where they are wanted."""

import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nbedge import __version__, files
from nbedge.artifact import SCHEMES, Artifact, sidecar
from nbedge.conversion import process
from nbedge.conversion.asked import Asked
from nbedge.conversion.chain import Step
from nbedge.conversion.diagnosis import suspects
from nbedge.errors import ExportError, GateError
from nbedge.exporter import Job
from nbedge.graph import read
from nbedge.runtime import open_file
from nbedge.subject import Subject
from nbedge.tracing import evaluating
from nbedge.verification import (
    REAL,
    TARGETS,
    Equivalence,
    Families,
    Limits,
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


def file_name(name: str, scheme: str, format: str) -> str:
    """Return NAME.SCHEME.FORMAT."""
    return f"{name}.{scheme}.{format}"


@dataclass(slots=True, eq=False)
class Workshop:
    """Makes every file in a temporary folder; nothing reaches `out` before all have passed."""

    asked: Asked
    inputs: Families
    classes: tuple[str, ...]
    labels: NDArray[np.int64] | None
    folder: Path
    out: Path
    name: str
    derived_from: str
    limits: Limits | None

    @property
    def calibration(self) -> Path:
        """The inputs that quantizers see."""
        return self.folder / "calibration.npy"

    def make_all(self, chain: Sequence[Step], example_input: Tensor, progress: Progress) -> list[Exported]:
        """Run all exporters, and return what was asked for."""
        self.folder.mkdir(exist_ok=True)
        self.prepare(example_input, chain)
        return [exported for step in chain for exported in self.make(step, progress)]

    def compared(self, made: Sequence[Exported], others: Sequence[Exported], backend: str) -> list[Exported]:
        """Return the files with one edge more each: against the one that another backend has made of the same network.

        Raises:
            GateError: the two do not agree.
        """
        second = {exported.artifact.path.name: exported.artifact.path for exported in others}
        return [
            self._agreeing(exported, second[exported.artifact.path.name], backend)
            if exported.artifact.path.name in second
            else exported
            for exported in made
        ]

    def _agreeing(self, exported: Exported, other: Path, backend: str) -> Exported:
        path = exported.artifact.path
        quantized = exported.artifact.scheme != "fp32"
        edge = verify(
            open_file(other), open_file(path), self.inputs, labels=self.labels, quantized=quantized, limits=self.limits
        ).named(f"{other.name} of {backend}", path.name)
        self._refuse_failed(edge, path, self.out / "logs")
        artifact = replace(exported.artifact, verdicts=(*exported.artifact.verdicts, _verdict(edge)))
        return Exported(artifact, (*exported.edges, edge))

    def prepare(self, example_input: Tensor, chain: Sequence[Step]) -> None:
        """Write what every chain starts from: torch.export programs of each batch, and the calibration inputs."""
        np.save(self.calibration, self.asked.calibration)
        for batch in {_batch(step) for step in chain if step.source is None}:
            # a plain contiguous example: channels-last strides would leave Gather operators in the ONNX graph
            example = torch.zeros(2 if batch == DYNAMIC else 1, *example_input.shape[1:])
            sizes = ({0: torch.export.Dim("batch")},) if batch == DYNAMIC else None
            with warnings.catch_warnings(), evaluating(self.asked.model):
                warnings.simplefilter("ignore", FutureWarning)
                torch.export.save(_traced(self.asked.model, example, sizes), self._program(batch))

    def _program(self, batch: str) -> Path:
        return self.folder / f"program-{batch}.pt2"

    def make(self, step: Step, progress: Progress) -> list[Exported]:
        """Run one exporter, verify what it wrote, and return what was asked for."""
        progress(f"{step.name}: {', '.join(sorted(step.schemes))}")
        workdir = self._files(step) / "work"
        workdir.mkdir(parents=True)
        source = self._program(_batch(step)) if step.source is None else self._path(step.source, "fp32")
        copied = Path(shutil.copy(source, workdir / f"source{source.suffix}"))
        # fp32 first: the others are compared with it
        schemes = sorted(step.schemes, key=lambda scheme: (scheme != "fp32", scheme))
        job = Job(
            copied, {scheme: self._path(step, scheme) for scheme in schemes}, self.calibration, workdir, step.settings,
            self.asked.preprocessing, self.classes,
        )  # fmt: skip
        try:
            versions = process.run(step.name, step.exporter, job, self.out / "logs" / f"{step.name}.log")
        except ExportError as error:
            raise ExportError(f"{error}{suspects(self._program(self._batch_of(step)))}") from error
        judged = [self._judged(step, scheme, versions) for scheme in schemes]
        return [exported for exported in judged if exported.artifact.scheme in step.kept]

    def _batch_of(self, step: Step) -> str:
        """Return the batch of the program that a step starts from in the end."""
        while step.source is not None:
            step = step.source
        return _batch(step)

    def _files(self, step: Step) -> Path:
        """Return the folder of a step; the same exporter may run with other settings."""
        return self.folder / "-".join((step.name, *step.settings.values()))

    def _path(self, step: Step, scheme: str) -> Path:
        return self._files(step) / file_name(self.name, scheme, step.exporter.produces)

    def _judged(self, step: Step, scheme: str, versions: Mapping[str, str]) -> Exported:
        path, before = self._path(step, scheme), self._origin(step, scheme)
        runner = step.exporter.open(path)
        made = Artifact(
            path, step.exporter.produces, scheme, runner.inputs, runner.outputs, self.asked.preprocessing, self.classes,
            before.name,
            {"nbedge": __version__, **versions},
            self.asked.head, statistics(self.asked.calibration) if SCHEMES[scheme][1].startswith("int") else {},
        )  # fmt: skip
        after = replace(self._subject(path, scheme, before.name), calibration=made.calibration)
        log = self.out / "logs" / f"{step.name}.log"
        kernels = claimed_kernels(after, step.settings.get("target", ""))
        bytes_of_it = linted(before, after, self.inputs[REAL], _meant_for(step))
        if bytes_of_it is not None:
            extra = lacking(read(path), "tflm") if "tflm" in kernels and _meant_for(step) is None else []
            bytes_of_it = replace(bytes_of_it, checks=(*bytes_of_it.checks, *extra))
            self._refuse_failed(bytes_of_it, path, log)
        first, *others = verify_edges(
            before, after, self.inputs, labels=self.labels, limits=self.limits, kernels=tuple(filter(None, kernels))
        )
        judged = (replace(first, checks=(*declared(before, after), *first.checks)), *others)
        edges = judged if bytes_of_it is None else (bytes_of_it, *judged)
        for edge in edges:
            self._refuse_failed(edge, path, log)
        return Exported(replace(made, verdicts=tuple(map(_verdict, edges))), edges)

    def _refuse_failed(self, edge: Equivalence, path: Path, log: Path) -> None:
        if not edge and edge.failures()[0].name != RUNTIME:
            worst = edge.failures()[0]
            raise GateError(
                f"{path.name} is not kept: {worst.name} is {worst.value:.4g} {worst.unit} (limit {worst.limit}), "
                f"{worst.detail}, in {edge.kernels} against {edge.reference}; see {log}"
            )

    def _origin(self, step: Step, scheme: str) -> Subject:
        """Return what a file is compared with: the fp32 file of its format if it is quantized, else its source."""
        if scheme != "fp32" and "fp32" in step.schemes:
            return self._subject(self._path(step, "fp32"), "fp32", "")
        if step.source is None:
            asked = self.asked
            shape = asked.preprocessing.shape
            return Subject(self.derived_from, asked.model, asked.preprocessing, self.classes, "fp32", shape)
        return self._subject(self._path(step.source, "fp32"), "fp32", "")

    def _subject(self, path: Path, scheme: str, derived_from: str) -> Subject:
        return Subject(
            path.name, open_file(path), self.asked.preprocessing, self.classes, scheme,
            self.asked.preprocessing.shape, path, derived_from,
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


def _traced(model: nn.Module, example: Tensor, sizes: Any) -> torch.export.ExportedProgram:
    """Return the program of a model.

    Raises:
        ExportError: torch cannot write it down.
    """
    try:
        return torch.export.export(model, (example,), dynamic_shapes=sizes)
    except Exception as error:  # whatever the model's own code raises under it
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExportError(
            f"torch.export cannot trace the model ({reason}); its forward may not depend on the values of its input"
        ) from error


def _verdict(edge: Equivalence) -> dict[str, str]:
    return {"reference": edge.reference, "kernels": edge.kernels, "verdict": str(edge.verdict)}


def _batch(step: Step) -> str:
    return step.settings.get("batch", "1")


def _meant_for(step: Step) -> str | None:
    """Return the target that a file is linted against."""
    target = step.settings.get("target")
    return target if target in TARGETS else None
