"""`python agent.pyz < job.json`: do the job, and print `NBEDGE-RESULT {json}` as the last line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from nbedge.agent import SENTINEL
from nbedge.agent.engines import ENGINES, Engine, MissingRuntimeError
from nbedge.agent.perform import perform
from nbedge.agent.tie import die_with


def main(engines: dict[str, Callable[[], Engine]] = ENGINES) -> None:
    """Read a job from standard input, and print what came of it: `result`, or `error` with its `kind`."""
    job: dict[str, Any] = json.load(sys.stdin)
    if "parent" in job:
        die_with(job["parent"])
    try:
        said: dict[str, Any] = {"result": perform(job, engines)}
    except MissingRuntimeError as error:
        said = {"error": str(error), "kind": "missing", "name": error.name}
    except Exception as error:  # a runtime raises what it likes on a file that it cannot run
        lines = str(error).strip().splitlines() or [type(error).__name__]
        said = {"error": lines[0], "kind": type(error).__name__}
    sys.stdout.write(f"\n{SENTINEL}{json.dumps(said)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
