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
from torch import nn

from nbedge import __version__, files
from nbedge.artifact import SCHEMES, Artifact, Job, sidecar
from nbedge.conversion import process
from nbedge.conversion.chain import TORCH, Step, steps
from nbedge.errors import GateError, InputError
from nbedge.preprocessing import Preprocessing
from nbedge.runtime import Runner, open_file
from nbedge.tracing import evaluating
from nbedge.verification import Equivalence, Limits, integer_checks, verify
from nbedge.verification.families import families

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that was kept, and the verdict that let it through."""

    artifact: Artifact
    equivalence: Equivalence


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """The pictures that an export works with: (n, h, w, c) uint8.

    Attributes:
        calibration: what quantizers see.
        verification: what each file is compared on; disjoint from calibration.
        labels: (n,) of `verification`, for the accuracy; None if unknown.
    """

    calibration: NDArray[np.uint8]
    verification: NDArray[np.uint8]
    labels: NDArray[np.int64] | None = None


def export(
    model: nn.Module,
    examples: Examples,
    *,
    preprocessing: Preprocessing,
    classes: Sequence[str],
    out: Path,
    name: str = "model",
    formats: Iterable[str] = ("onnx", "tflite"),
    quant: Iterable[str] = ("fp32", "int8"),
    derived_from: str = "model",
    limits: Limits | None = None,
    overwrite: bool = False,
    progress: Progress = lambda _text: None,
) -> list[Exported]:
    """Write `out/NAME.SCHEME.FORMAT` with its sidecar for every format and scheme.

    A file is kept only if it computes with the types that its scheme names and gives the answers of what it was made
    from: the model for the first file of a chain, that file for the next ones.

    Args:
        model: any module of one input and one output; it is exported in eval mode and left as it is.
        examples: pictures for calibration and for the comparison.
        preprocessing: of the pictures.
        classes: names of the outputs, in order.
        out: folder.
        name: of the files.
        formats: "onnx", "tflite", or what a plug-in adds.
        quant: scheme names, see `nbedge.artifact.SCHEMES`.
        derived_from: what the first file's sidecar names as its origin.
        limits: of the comparison.
        overwrite: replace files of the same name.
        progress: told what is being done.

    Raises:
        ExportError: nothing makes what was asked for, or a converter failed.
        GateError: a file did not pass; it is not kept.
        InputError: a file is there already, or there are no pictures.
    """
    formats, quant = list(formats), list(quant)
    chain = steps(formats, quant)
    wanted = {file_name(name, scheme, format) for format in formats for scheme in quant}
    for file in sorted(wanted):
        files.refuse_existing(out / file, overwrite)
    if not len(examples.calibration) or not len(examples.verification):
        raise InputError("export needs pictures for calibration and for the comparison; give at least one of each")
    with tempfile.TemporaryDirectory(prefix="nbedge-export-") as folder:
        work = _Workshop(model, examples, preprocessing, tuple(classes), Path(folder), out, name, derived_from, limits)
        work.prepare()
        made = [exported for step in chain for exported in work.make(step, progress)]
        return [work.keep(exported) for exported in made if exported.artifact.path.name in wanted]


def file_name(name: str, scheme: str, format: str) -> str:
    """Return NAME.SCHEME.FORMAT."""
    return f"{name}.{scheme}.{format}"


@dataclass(slots=True, eq=False)
class _Workshop:
    """Makes every file in a temporary folder; nothing reaches `out` before all have passed."""

    model: nn.Module
    examples: Examples
    preprocessing: Preprocessing
    classes: tuple[str, ...]
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

    def prepare(self) -> None:
        """Write what every chain starts from: the torch.export program, and the calibration inputs."""
        np.save(self.calibration, self.preprocessing(self.examples.calibration))
        # a plain contiguous example: channels-last strides would leave Gather operators in the ONNX graph
        example = torch.zeros(1, *self.preprocessing.shape)
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
        targets = {s: self.folder / file_name(self.name, s, step.exporter.produces) for s in sorted(step.schemes)}
        process.run(step.name, Job(copied, targets, self.calibration, workdir), self.out / "logs" / f"{step.name}.log")
        return [self._judged(step, scheme, path, source) for scheme, path in targets.items()]

    def _fp32(self, format: str) -> Path:
        return self.folder / file_name(self.name, "fp32", format)

    def _judged(self, step: Step, scheme: str, path: Path, source: Path) -> Exported:
        inputs, outputs = step.exporter.signature(path)
        origin = self.derived_from if source == self.program else source.name
        made = Artifact(
            path, step.exporter.produces, scheme, inputs, outputs, self.preprocessing, self.classes, origin,
            {"nbedge": __version__, **{package: _version(package) for package in step.exporter.packages}},
        )  # fmt: skip
        equivalence = self._equivalence(made, self.model if source == self.program else open_file(source))
        if not equivalence:
            worst = equivalence.failures()[0]
            raise GateError(
                f"{path.name} is not kept: {worst.name} is {worst.value:.4g} {worst.unit} (limit {worst.limit}), "
                f"{worst.detail}; see {self.out / 'logs' / step.name}.log"
            )
        return Exported(made, equivalence)

    def _equivalence(self, made: Artifact, reference: nn.Module | Runner) -> Equivalence:
        given = families(self.preprocessing, self.examples.verification)
        quantized = SCHEMES[made.scheme][1] != "fp32"
        judged = verify(
            reference, open_file(made.path), given, labels=self.examples.labels, quantized=quantized, limits=self.limits
        )
        checks = (*integer_checks(made.path, made.scheme), *judged.checks)
        return Equivalence(made.derived_from, made.path.name, judged.kernels, checks)

    def keep(self, exported: Exported) -> Exported:
        """Move the file into `out`, whole, and write its sidecar."""
        target = self.out / exported.artifact.path.name
        # the sidecar of an older file must never describe the new one
        sidecar(target).unlink(missing_ok=True)
        with files.appearing(target) as part:
            shutil.copyfile(exported.artifact.path, part)
        kept = replace(exported.artifact, path=target).sealed()
        kept.write_sidecar()
        return Exported(kept, exported.equivalence)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
