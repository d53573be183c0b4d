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
from nbedge.artifact import SCHEMES, Artifact, Job, sidecar
from nbedge.conversion import process
from nbedge.conversion.chain import TORCH, Step, require, steps
from nbedge.errors import GateError, InputError
from nbedge.preprocessing import Preprocessing
from nbedge.runtime import open_file
from nbedge.subject import Subject
from nbedge.tracing import evaluating
from nbedge.verification import (
    REAL,
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
        example_input: (1, c, h, w); files take a batch of 1.
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
        limits: of the comparison.
        overwrite: replace files of the same name.
        progress: told what is being done.

    Raises:
        ExportError: nothing makes what was asked for, or a converter failed.
        GateError: a file did not pass; it is not kept.
        InputError: a file is there already, or there are no inputs.
    """
    out, formats, quant = Path(out), list(formats), list(quant)
    if Path(name).name != name:
        raise InputError(f"{name!r} is no name of a file; give letters, numbers and signs other than '/'")
    chain = steps(formats, quant)
    wanted = {file_name(name, scheme, format) for format in formats for scheme in quant}
    for step in chain:
        require(step.exporter)
    for file in sorted(wanted):
        files.refuse_existing(out / file, overwrite)
    _refuse_other_outputs(model, example_input, len(classes))
    seen = stacked(calibration, "calibration")
    held = seen if check_on is None else stacked(check_on, "check_on")
    with tempfile.TemporaryDirectory(prefix="nbedge-export-") as folder:
        work = _Workshop(
            model, preprocess, tuple(classes), families(preprocess.shape, preprocess, held), labels, Path(folder), out,
            name, derived_from, limits,
        )  # fmt: skip
        work.prepare(example_input, seen)
        made = [exported for step in chain for exported in work.make(step, progress)]
        return [work.keep(exported) for exported in made if exported.artifact.path.name in wanted]


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

    model: nn.Module
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    inputs: Families
    labels: NDArray[np.int64] | None
    folder: Path
    out: Path
    name: str
    derived_from: str
    limits: Limits | None

    @property
    def program(self) -> Path:
        return self.folder / "program.pt2"

    @property
    def calibration(self) -> Path:
        return self.folder / "calibration.npy"

    def prepare(self, example_input: Tensor, calibration: NDArray[np.float32]) -> None:
        """Write what every chain starts from: the torch.export program, and the calibration inputs."""
        np.save(self.calibration, calibration)
        # a plain contiguous example: channels-last strides would leave Gather operators in the ONNX graph
        example = torch.zeros(1, *example_input.shape[1:])
        with warnings.catch_warnings(), evaluating(self.model):
            warnings.simplefilter("ignore", FutureWarning)
            program = torch.export.export(self.model, (example,))
            torch.export.save(program, self.program)

    def make(self, step: Step, progress: Progress) -> list[Exported]:
        """Run one exporter and verify what it wrote."""
        progress(f"{step.name}: {', '.join(sorted(step.schemes))}")
        workdir = self.folder / step.name
        workdir.mkdir()
        source = self.program if step.exporter.consumes == TORCH else self._fp32(step.exporter.consumes)
        copied = Path(shutil.copy(source, workdir / f"source{source.suffix}"))
        # fp32 first: the others are compared with it
        schemes = sorted(step.schemes, key=lambda scheme: (scheme != "fp32", scheme))
        targets = {s: self.folder / file_name(self.name, s, step.exporter.produces) for s in schemes}
        process.run(step.name, Job(copied, targets, self.calibration, workdir), self.out / "logs" / f"{step.name}.log")
        return [self._judged(step, scheme, path, source) for scheme, path in targets.items()]

    def _fp32(self, format: str) -> Path:
        return self.folder / file_name(self.name, "fp32", format)

    def _judged(self, step: Step, scheme: str, path: Path, source: Path) -> Exported:
        before = self._origin(step, scheme, source)
        inputs, outputs = step.exporter.signature(path)
        made = Artifact(
            path, step.exporter.produces, scheme, inputs, outputs, self.preprocessing, self.classes, before.name,
            {"nbedge": __version__, **{package: _version(package) for package in step.exporter.packages}},
            statistics(np.load(self.calibration)) if SCHEMES[scheme][1].startswith("int") else {},
        )  # fmt: skip
        after = replace(self._subject(path, scheme, before.name), calibration=made.calibration)
        first, *others = verify_edges(before, after, self.inputs, labels=self.labels, limits=self.limits)
        judged = (replace(first, checks=(*declared(before, after), *first.checks)), *others)
        bytes_of_it = linted(before, after, self.inputs[REAL])
        edges = judged if bytes_of_it is None else (bytes_of_it, *judged)
        for edge in edges:
            if not edge and edge.failures()[0].name != RUNTIME:
                worst = edge.failures()[0]
                raise GateError(
                    f"{path.name} is not kept: {worst.name} is {worst.value:.4g} {worst.unit} (limit {worst.limit}), "
                    f"{worst.detail}, in {edge.kernels} against {edge.reference}; "
                    f"see {self.out / 'logs' / step.name}.log"
                )
        return Exported(made, edges)

    def _origin(self, step: Step, scheme: str, source: Path) -> Subject:
        """Return what a file is compared with: the fp32 file of its format if it is quantized, else its source."""
        float_file = self._fp32(step.exporter.produces)
        if scheme != "fp32" and float_file.exists():
            return self._subject(float_file, "fp32", "")
        if source == self.program:
            return Subject(
                self.derived_from, self.model, self.preprocessing, self.classes, "fp32", self.preprocessing.shape
            )
        return self._subject(source, "fp32", "")

    def _subject(self, path: Path, scheme: str, derived_from: str) -> Subject:
        return Subject(
            path.name, open_file(path), self.preprocessing, self.classes, scheme, self.preprocessing.shape, path,
            derived_from,
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


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
