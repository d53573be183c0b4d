"""The process that runs files for another one: `python -m nbedge.runtime.answering`, asked on standard input.

It is asked to open a file, `{"opener": "MODULE:FUNCTION", "path": ...}`, and says the signature of its Runner; or to
run one, `{"file": NUMBER}` with arrays, and gives arrays. It ends with its standard input.
"""

import os
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from nbedge.runtime.frames import read_frame, write_frame
from nbedge.runtime.runner import Arrays, Runner


def main() -> int:
    """Answer until nobody asks any more."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print there must not come between
    opened: list[Runner] = []
    while (asked := read_frame(sys.stdin.buffer)) is not None:
        said, arrays = _answer(*asked, opened)
        write_frame(answers, said, arrays)
    return 0


def _answer(asked: dict[str, Any], arrays: Arrays, opened: list[Runner]) -> tuple[dict[str, Any], Arrays]:
    try:
        if "file" in asked:
            return {}, opened[asked["file"]].run(arrays)
        return _open(asked, opened), {}
    except Exception as error:  # runtimes raise whatever they like
        lines = str(error).strip().splitlines() or ["no message"]
        return {"kind": type(error).__name__, "message": lines[0]}, {}


def _open(asked: dict[str, Any], opened: list[Runner]) -> dict[str, Any]:
    """Open a file, and return its number and its signature."""
    module, _, function = asked["opener"].partition(":")
    runner: Runner = getattr(import_module(module), function)(Path(asked["path"]))
    inputs, outputs = ([asdict(spec) for spec in specs] for specs in (runner.inputs, runner.outputs))
    opened.append(runner)
    return {"file": len(opened) - 1, "inputs": inputs, "outputs": outputs, "kernels": runner.kernels}


if __name__ == "__main__":
    sys.exit(main())
