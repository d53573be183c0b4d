"""The process of one exporter: `python -m nbedge.exporter_process MODULE...`, then the path of its job on stdin.

It imports no torch of its own: not every exporter needs it.
"""

import contextlib
import gc
import json
import os
import re
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, version
from pathlib import Path
from typing import Any

from nbedge.errors import NbedgeError
from nbedge.exporter import Job
from nbedge.preprocessing import Preprocessing

COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def main(request: Path) -> int:
    """Do the job that `request` describes; on an error write what it was beside it."""
    values: dict[str, Any] = json.loads(request.read_text(encoding="utf-8"))
    prepared = values["preprocessing"]
    job = Job(
        Path(values["source"]), {scheme: Path(path) for scheme, path in values["targets"].items()},
        Path(values["calibration"]), Path(values["workdir"]), values["settings"],
        Preprocessing.from_dict(prepared) if prepared else None, tuple(values["classes"]), tuple(values["exempt"]),
    )  # fmt: skip
    try:
        EntryPoint("exporter", values["plugin"], "nbedge.exporters").load().convert(job)
    except BaseException as error:  # converters raise whatever they like, SystemExit included
        traceback.print_exc()
        while error.__cause__ is not None and not isinstance(error, NbedgeError):  # what began it says most
            error = error.__cause__
        lines = COLOURS.sub("", str(error)).strip().splitlines() or ["no message"]
        answer = {"kind": type(error).__name__, "message": lines[0]}
        Path(values["answer"]).write_text(json.dumps(answer), encoding="utf-8")
        return 1
    versions = {package: version(package) for package in values["packages"]}
    Path(values["answer"]).write_text(json.dumps({"versions": versions}), encoding="utf-8")
    return 0


def import_early(modules: Sequence[str]) -> None:
    """Import what the exporter will use; what fails here fails again, and is told, when it is used.

    The collector has nothing to find in modules: kept from looking, torch's ONNX export takes a quarter less.
    """
    gc.disable()
    for module in modules:
        with contextlib.suppress(Exception):
            import_module(module)
    gc.freeze()
    gc.enable()


if __name__ == "__main__":
    import_early(sys.argv[1:])
    said = sys.stdin.read()
    status = main(Path(said)) if said else 0
    sys.stdout.flush()
    sys.stderr.flush()
    # everything is written: taking torch or tensorflow down in an orderly way takes 0.7 s
    os._exit(status)
