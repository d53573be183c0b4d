"""The folder for a microcontroller without a runtime: C99 that computes TFLite Micro's bytes."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from nbedge.deployment.micro import Subject, subject_of
from nbedge.deployment.request import Request, Used
from nbedge.device.cores import core_of
from nbedge.errors import GateError
from nbedge.exporter import exporter_of
from nbedge.runtime.runner import batches

#: of the microcontroller, where neither a core nor a board is named
CORE = "cortex-m4"


def write(request: Request, folder: Path) -> Used:
    """Write the folder, and compare what it computes here with TFLite Micro.

    Raises:
        ExportError: the file cannot become C.
        GateError: the C computes something else than TFLite Micro.
        InputError: the file, the name or the core does not do.
        MissingDependencyError: tflite-micro or a C compiler is not here.
    """
    core = core_of(request.core or CORE)
    subject = subject_of(request)
    target = folder / f"{subject.name}.c"
    with TemporaryDirectory() as work:
        _, exporter = exporter_of("c", subject.scheme)
        exporter.convert(subject.job(target, Path(work), {"core": core.name}))
        compared = compare(subject, target)
    return Used(subject.name, target.name, (f"equal to TFLite Micro, byte by byte, on {compared} inputs",))


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
