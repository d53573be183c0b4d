"""The folder for a microcontroller without a runtime: C99 that computes TFLite Micro's bytes."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from nbedge.deployment.boards import Board, board_of, core_for
from nbedge.deployment.chart import draw
from nbedge.deployment.detecting import write_boxes
from nbedge.deployment.fit import Fit, Need, fit_of, refuse_misfit
from nbedge.deployment.micro import CORE, Subject, file_of, refuse_scheme, subject_of
from nbedge.deployment.request import Request, Used
from nbedge.deployment.timeline import Timeline, of_manifest
from nbedge.device import image
from nbedge.device.cores import Core
from nbedge.device.inference import inferred
from nbedge.device.microcontroller import Toolchain, toolchain
from nbedge.errors import GateError
from nbedge.exporter import exporter_of
from nbedge.runtime.runner import batches

#: of the compiler, for the figures of a board: the Makefile's own
OPTIMIZATION = "-O2"
#: that the C exporter computes
SCHEMES = ("int8", "int8-float-io")


def write(request: Request, folder: Path) -> Used:
    """Write the folder, and compare what it computes here with TFLite Micro.

    Raises:
        ExportError: the file cannot become C.
        GateError: the C computes something else than TFLite Micro.
        InputError: the file, the name, the core or the board does not do, or the board is too small.
        MissingDependencyError: tflite-micro or a C compiler is not here, or for a board the one for its core.
    """
    board = board_of(request.board) if request.board is not None else None
    core = core_for(request.core, board, CORE)
    tools = toolchain() if board else None
    refuse_scheme(file_of(request), request.target, SCHEMES)
    subject = subject_of(request)
    target = folder / f"{subject.name}.c"
    with TemporaryDirectory() as work:
        _, exporter = exporter_of("c", subject.scheme)
        exporter.convert(subject.job(target, Path(work), {"core": core.name}))
        compared = compare(subject, target)
        boxes = write_boxes(subject, folder, lambda i: f"{subject.name}_output{f'_{i}' if i else ''}()")
        steps = of_manifest(json.loads(target.with_suffix(".json").read_text(encoding="utf-8")))
        fit = fit_on(board, target, core, tools, steps, Path(work)) if board and tools else None
    findings = (
        f"equal to TFLite Micro, byte by byte, on {compared} inputs",
        boxes,
        draw(steps, subject.name, board, folder),
    )
    return Used(subject.name, target.name, tuple(filter(None, findings)), fit)


def fit_on(board: Board, target: Path, core: Core, tools: Toolchain, steps: Timeline, work: Path) -> Fit:
    """Compile NAME.c for the core of a board, run its golden vectors there, and compare what it takes with the board.

    Raises:
        InputError: the board has too little.
    """
    build = work / "build"
    build.mkdir()
    found = inferred(image.compiled(target.parent, target.stem, core, OPTIMIZATION, tools, build), build)
    needs = (
        Need("code and constants", "flash", found.image.flash_bytes),
        Need("the arena", "RAM", found.image.arena_bytes),
        Need("the stack", "RAM", found.stack_bytes),
    )
    fit = fit_of(board, needs, steps)
    refuse_misfit(fit, board, target.stem)
    return fit


def compare(subject: Subject, target: Path) -> int:
    """Compare the answers of C, compiled for this machine, with those of TFLite Micro; return on how many inputs.

    Raises:
        GateError: a byte differs.
    """
    _, exporter = exporter_of("c", subject.scheme)
    runner = exporter.open(target)
    entry = runner.inputs[0]
    fed = np.concatenate([part[:count] for part, count in batches(subject.inputs, subject.runner.inputs[0])])
    found = runner.run({entry.name: fed})
    for i, x in enumerate(fed):
        for name, wanted in subject.runner.run({entry.name: x[None]}).items():
            differ = int((found[name][i : i + 1].view(np.uint8) != wanted.view(np.uint8)).sum())
            if differ:
                raise GateError(
                    f"{target.name} does not compute what {subject.path.name} does: {differ} of {wanted.nbytes} bytes "
                    f"of {name} differ from TFLite Micro at input {i}; please report it with the file"
                )
    return len(fed)
