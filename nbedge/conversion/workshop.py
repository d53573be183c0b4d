"""export(): a trained model to files in the formats and schemes asked for, each verified against its source."""

import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nbedge import __version__, files
from nbedge.artifact import SCHEMES, Artifact, sidecar
from nbedge.conversion import process
from nbedge.conversion.asked import Asked
from nbedge.conversion.chain import Step, require, steps
from nbedge.conversion.options import Options
from nbedge.errors import GateError, InputError
from nbedge.exporter import Job
from nbedge.preprocessing import Preprocessing
from nbedge.runtime import open_file
from nbedge.subject import Subject
from nbedge.tracing import evaluating
from nbedge.verification import (
    REAL,
    TARGETS,
    Equivalence,
    Families,
    Limits,
    declared,
    families,
    linted,
    statistics,
    verify_edges,
)
from nbedge.verification.chain import RUNTIME

Progress = Callable[[str], None]
#: pictures that a file is judged on, at most: as inputs at 3x224x224 they take 1.2 GB
CHECKED = 2_000
#: setting of a batch of any size
DYNAMIC = "dynamic"


Inputs = Tensor | NDArray[np.float32] | Iterable[Tensor | NDArray[np.float32]]


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


def export(
    model: nn.Module,
    example_input: Tensor,
    *,
    calibration: Inputs,
    preprocess: Preprocessing,
    classes: Sequence[str],
    out: Path | str,
    formats: Iterable[str] = ("onnx", "tflite"),
    quant: Iterable[str] = ("fp32", "int8"),
    check_on: Inputs | None = None,
    labels: NDArray[np.int64] | None = None,
    name: str = "model",
    derived_from: str = "model",
    options: Options | None = None,
    limits: Limits | None = None,
    overwrite: bool = False,
    progress: Progress = lambda _text: None,
) -> list[Exported]:
    """Write `out/NAME.SCHEME.FORMAT` with its sidecar for every format and scheme.

    A file is kept only if it computes with the types that its scheme names and gives the answers of what it was made
    from: the model for the first file of a chain, that file for the next ones, the float32 file of its own format for a
    quantized one. So the error of a conversion and that of a quantization are two figures.

    Args:
        model: any module of one input and one output; it is exported in eval mode and left as it is.
        example_input: (1, c, h, w); files take a batch of 1, unless `options.batch` is "dynamic".
        calibration: preprocessed inputs (n, c, h, w) float32, or batches of them: what quantizers see.
        preprocess: how a picture became such an input; the sidecars keep it.
        classes: names of the outputs, in order.
        out: folder.
        formats: "onnx", "tflite", or what a plug-in adds.
        quant: scheme names, see `nbedge.artifact.SCHEMES`.
        check_on: inputs for the comparison, best disjoint from `calibration`, which serves if there are none.
        labels: (n,) of `check_on`, for the accuracy.
        name: of the files.
        derived_from: what the first file's sidecar names as its origin.
        options: how the files are made: backend, opset, batch, calibration method, target, input and head.
        limits: of the comparison.
        overwrite: replace files of the same name.
        progress: told what is being done.

    Raises:
        ExportError: nothing makes what was asked for, or a converter failed.
        GateError: a file did not pass; it is not kept.
        InputError: a file is there already, or there are no inputs.
    """
    out, formats, quant, options = Path(out), list(formats), list(quant), options or Options()
    if Path(name).name != name:
        raise InputError(f"{name!r} is no name of a file; give letters, numbers and signs other than '/'")
    chain = steps(formats, quant, options)
    for step in chain:
        require(step.exporter)
    for step in chain:
        for scheme in sorted(step.kept):
            files.refuse_existing(out / file_name(name, scheme, step.exporter.produces), overwrite)
    _refuse_other_outputs(model, example_input, len(classes))
    seen = stacked(calibration, "calibration")
    held = seen if check_on is None else stacked(check_on, "check_on")
    asked = Asked(model, preprocess, seen, held).with_head(options.head).with_input(options.input_type)
    with tempfile.TemporaryDirectory(prefix="nbedge-export-") as folder:
        work = _Workshop(
            asked, families(preprocess.shape, asked.preprocessing, asked.held), tuple(classes), labels, Path(folder),
            out, name, derived_from, limits,
        )  # fmt: skip
        work.prepare(example_input, chain)
        made = [exported for step in chain for exported in work.make(step, progress)]
        return [work.keep(exported) for exported in made]


def _refuse_other_outputs(model: nn.Module, example_input: Tensor, classes: int) -> None:
    with evaluating(model), torch.inference_mode():
        output = model(example_input)
    found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    fits = isinstance(found, tuple) and len(found) == 2 and classes in (0, found[1])
    if not fits:
        raise InputError(
            f"the model gives {found} for one picture; (1, {classes or 'outputs'}) is expected: one output a class"
        )


def stacked(inputs: Inputs, what: str) -> NDArray[np.float32]:
    """Return inputs, or batches of them, as one array (n, c, h, w).

    Raises:
        InputError: there are none; `what` names them.
    """
    batches = [inputs] if isinstance(inputs, Tensor | np.ndarray) else list(inputs)
    arrays = [np.asarray(batch, np.float32) for batch in batches]
    if not sum(map(len, arrays)):
        raise InputError(f"export needs inputs as {what}; there are none: give at least one")
    return np.concatenate(arrays)


def file_name(name: str, scheme: str, format: str) -> str:
    """Return NAME.SCHEME.FORMAT."""
    return f"{name}.{scheme}.{format}"


@dataclass(slots=True, eq=False)
class _Workshop:
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
        return self.folder / "calibration.npy"

    def prepare(self, example_input: Tensor, chain: Sequence[Step]) -> None:
        """Write what every chain starts from: torch.export programs of each batch, and the calibration inputs."""
        np.save(self.calibration, self.asked.calibration)
        for batch in {_batch(step) for step in chain if step.source is None}:
            # a plain contiguous example: channels-last strides would leave Gather operators in the ONNX graph
            example = torch.zeros(2 if batch == DYNAMIC else 1, *example_input.shape[1:])
            sizes = ({0: torch.export.Dim("batch")},) if batch == DYNAMIC else None
            with warnings.catch_warnings(), evaluating(self.asked.model):
                warnings.simplefilter("ignore", FutureWarning)
                program = torch.export.export(self.asked.model, (example,), dynamic_shapes=sizes)
                torch.export.save(program, self._program(batch))

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
        process.run(step.name, job, self.out / "logs" / f"{step.name}.log")
        judged = [self._judged(step, scheme) for scheme in schemes]
        return [exported for exported in judged if exported.artifact.scheme in step.kept]

    def _files(self, step: Step) -> Path:
        """Return the folder of a step; the same exporter may run with other settings."""
        return self.folder / "-".join((step.name, *step.settings.values()))

    def _path(self, step: Step, scheme: str) -> Path:
        return self._files(step) / file_name(self.name, scheme, step.exporter.produces)

    def _judged(self, step: Step, scheme: str) -> Exported:
        path, before = self._path(step, scheme), self._origin(step, scheme)
        inputs, outputs = step.exporter.signature(path)
        made = Artifact(
            path, step.exporter.produces, scheme, inputs, outputs, self.asked.preprocessing, self.classes, before.name,
            {"nbedge": __version__, **{package: _version(package) for package in step.exporter.packages}},
            self.asked.head, statistics(self.asked.calibration) if SCHEMES[scheme][1].startswith("int") else {},
        )  # fmt: skip
        after = replace(self._subject(path, scheme, before.name), calibration=made.calibration)
        first, *others = verify_edges(before, after, self.inputs, labels=self.labels, limits=self.limits)
        judged = (replace(first, checks=(*declared(before, after), *first.checks)), *others)
        bytes_of_it = linted(before, after, self.inputs[REAL], _meant_for(step))
        edges = judged if bytes_of_it is None else (bytes_of_it, *judged)
        for edge in edges:
            if not edge and edge.failures()[0].name != RUNTIME:
                worst = edge.failures()[0]
                raise GateError(
                    f"{path.name} is not kept: {worst.name} is {worst.value:.4g} {worst.unit} (limit {worst.limit}), "
                    f"{worst.detail}, in {edge.kernels} against {edge.reference}; "
                    f"see {self.out / 'logs' / step.name}.log"
                )
        verdicts = tuple(
            {"reference": edge.reference, "kernels": edge.kernels, "verdict": str(edge.verdict)} for edge in edges
        )
        return Exported(replace(made, verdicts=verdicts), edges)

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


def _batch(step: Step) -> str:
    return step.settings.get("batch", "1")


def _meant_for(step: Step) -> str | None:
    """Return the target that a file is linted against."""
    target = step.settings.get("target")
    return target if target in TARGETS else None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
