"""What the targets for microcontrollers share: the file, its name in C, its inputs, and what it answers to them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nbedge import artifact, files
from nbedge.artifact import Artifact
from nbedge.deployment.request import Request
from nbedge.device.golden import noise
from nbedge.errors import InputError
from nbedge.exporter import Job
from nbedge.graph import read
from nbedge.runtime import Runner, open_file

#: golden vectors in a folder
GOLDEN = 2
#: inputs on which the generated code is compared with TFLite Micro, golden ones included
COMPARED = 32
#: of the microcontroller, where neither a core nor a board is named
CORE = "cortex-m4"
#: of the network, where no other is given
NAME = "model"
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_KEYWORDS = frozenset({
    "asm", "auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else", "enum", "extern",
    "float", "for", "goto", "if", "inline", "int", "long", "main", "register", "restrict", "return", "short", "signed",
    "sizeof", "static", "struct", "switch", "typedef", "union", "unsigned", "void", "volatile", "while",
})  # fmt: skip
#: names of files that lie beside the network's, and of headers of C
_TAKEN = frozenset({
    "golden", "example", "deployment", "memory", "complex", "ctype", "errno", "fenv", "inttypes", "limits", "locale",
    "math", "setjmp", "stdarg", "stdbool", "stddef", "stdint", "stdio", "stdlib", "string", "tgmath", "time", "wchar",
    "wctype",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Subject:
    """An integer TFLite file that becomes code.

    Attributes:
        path: of the file.
        name: of the network, an identifier of C.
        sidecar: what `export` said of the file; None for a file of somebody else.
        runner: of the file, in TFLite Micro.
        inputs: (n, c, h, w) or (n, ...) float32 as the network takes them.
    """

    path: Path
    name: str
    sidecar: Artifact | None
    runner: Runner
    inputs: NDArray[np.float32]

    @property
    def scheme(self) -> str:
        """Of the file."""
        return "int8" if self.runner.inputs[0].scale else "int8-float-io"

    def job(self, target: Path, work: Path, settings: dict[str, str]) -> Job:
        """Return the job of an exporter: to write `target`, with the first inputs as golden ones.

        Args:
            target: the file that is written.
            work: an empty folder.
            settings: of the exporter.
        """
        calibration = work / "golden.npy"
        np.save(calibration, self.inputs[:GOLDEN])
        about = self.sidecar
        return Job(
            self.path, {self.scheme: target}, calibration, work, settings, about.preprocessing if about else None,
            about.classes if about else (),
        )  # fmt: skip


def file_of(request: Request) -> Path:
    """Return the path of the one TFLite file of a request.

    Raises:
        InputError: there are several files, or it is another file, or missing.
    """
    if len(request.paths) > 1:
        raise InputError(
            f"--target {request.target} takes one file, not {len(request.paths)}; name the int8 .tflite one"
        )
    (path,) = request.paths
    if files.existing(path, "the file").suffix != ".tflite":
        raise InputError(f"{path}: the target {request.target} takes a .tflite file; nbedge export writes it")
    return path


def refuse_scheme(path: Path, target: str, schemes: Sequence[str]) -> None:
    """Refuse a file of ours that is of another scheme; a file without a sidecar is judged by its operators.

    Raises:
        InputError: it is one.
    """
    if artifact.sidecar(path).exists() and (scheme := artifact.read(path).scheme) not in schemes:
        raise InputError(
            f"{path} is of the scheme {scheme}, and the target {target} takes {' or '.join(schemes)}; export it with "
            f"--quant {schemes[0]}"
        )


def subject_of(request: Request) -> Subject:
    """Return the file of a request.

    Raises:
        InputError: there are several files, one is no TFLite file of one input, or the name is no identifier of C.
        MissingDependencyError: tflite-micro is not installed.
    """
    path = file_of(request)
    name = NAME if request.name is None else request.name
    if not _IDENTIFIER.fullmatch(name) or name in _KEYWORDS:
        raise InputError(
            f"--name {name!r} is no name of C; use letters, digits and _, a letter first, and no word of the language"
        )
    if name in _TAKEN or name.startswith("nbedge"):
        raise InputError(f"--name {name!r} is the name of another file or of a header of C; choose another one")
    _refuse_open_sizes(path)
    about = artifact.read(path) if artifact.sidecar(path).exists() else None
    runner = open_file(path, "tflm")
    if len(runner.inputs) != 1:
        raise InputError(f"{path} takes {len(runner.inputs)} inputs; only files of one can be deployed")
    return Subject(path, name, about, runner, _inputs(request, about, runner))


def _refuse_open_sizes(path: Path) -> None:
    """Refuse a file some of whose sizes are told when it is run: nothing could be planned.

    Raises:
        InputError: it is one.
    """
    graph = read(path)
    for name in graph.inputs:
        shape = graph.tensors[name].shape
        if 0 in shape:
            sizes = "x".join(str(size or "?") for size in shape)
            raise InputError(
                f"{path}: its input is {sizes}; a microcontroller needs sizes that are known: export it with fixed ones"
            )


def _inputs(request: Request, about: Artifact | None, runner: Runner) -> NDArray[np.float32]:
    """Return pictures of the user's, and as many made-up inputs as it takes to compare on."""
    spec = runner.inputs[0]
    made = noise(spec, COMPARED)
    if request.data is None:
        return made
    if about is None:
        raise InputError(
            f"{request.paths[0]} has no sidecar, which says how a picture becomes its input; leave --data out"
        )
    from nbedge.data import load

    prepare = about.prepared()
    pictures = load(request.data, prepare.shape).test.images[: COMPARED // 2]
    return np.concatenate([prepare(pictures), made])
