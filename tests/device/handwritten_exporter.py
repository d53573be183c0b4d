"""An exporter of the format `c` that writes the hand-written model, whatever it is given."""

import os
from pathlib import Path
from types import SimpleNamespace

import handwritten


def _convert(job: object) -> None:
    (target,) = job.targets.values()  # type: ignore[attr-defined]
    handwritten.write(Path(target).parent, os.environ.get("HANDWRITTEN", ""))


exporter = SimpleNamespace(
    consumes="tflite", produces="c", schemes=frozenset({"int8"}), backend="hand", options={}, needs={}, extra="",
    packages=(), imports=(), convert=_convert, open=None,
)  # fmt: skip
