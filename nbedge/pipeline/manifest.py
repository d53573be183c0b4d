"""manifest.json: what each stage of a run was made from, what it wrote, and how it ended."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nbedge import __version__, files
from nbedge.errors import InputError

SCHEMA_VERSION = 1
FILE = "manifest.json"
#: inputs of a stage that no stage writes
SOURCES = ("recipe", "data")


@dataclass(frozen=True, slots=True)
class Entry:
    """One finished stage.

    Attributes:
        inputs: what it depends on -> sha256.
        outputs: path in the run directory -> sha256.
        seconds: it took, wall clock, of the attempt that finished.
        versions: package -> version that ran it.
        verdict: "PASS" or "FAIL" where the stage judges something.
    """

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    seconds: float
    versions: Mapping[str, str]
    verdict: str | None = None


@dataclass(slots=True)
class Manifest:
    """The stages of one run directory that are finished."""

    folder: Path
    name: str
    stages: dict[str, Entry] = field(default_factory=dict)

    def is_current(self, stage: str, inputs: Mapping[str, str]) -> bool:
        """Return whether `stage` was finished with these inputs and its outputs still are what it wrote."""
        entry = self.stages.get(stage)
        if entry is None or dict(entry.inputs) != dict(inputs) or entry.verdict == "FAIL":
            return False
        return all((self.folder / p).is_file() and files.sha256(self.folder / p) == s for p, s in entry.outputs.items())

    def finish(self, stage: str, entry: Entry) -> None:
        """Add a finished stage and write the file."""
        self.stages[stage] = entry
        self.write()

    def forget(self, stage: str) -> None:
        """Remove a stage and what it wrote, so that nothing old stands beside what takes its place."""
        for path in self.stages.pop(stage).outputs:
            (self.folder / path).unlink(missing_ok=True)
        self.write()

    def forget_stale(self) -> None:
        """Remove every stage that was fed other files than the run holds now, and what was fed by those."""
        while stale := [name for name, entry in self.stages.items() if self._is_stale(entry)]:
            self.forget(stale[0])

    def _is_stale(self, entry: Entry) -> bool:
        made = {path: sha for other in self.stages.values() for path, sha in other.outputs.items()}
        own = {name: sha for name, sha in entry.inputs.items() if name not in SOURCES and not Path(name).is_absolute()}
        return any(made.get(name) != sha for name, sha in own.items())

    def write(self) -> None:
        """Write the file, whole or not at all."""
        stages = {name: asdict(entry) for name, entry in self.stages.items()}
        content = {"schema_version": SCHEMA_VERSION, "nbedge": __version__, "name": self.name, "stages": stages}
        files.write_json(self.folder / FILE, content)


def read(folder: Path) -> Manifest:
    """Read the manifest of a run directory.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        raise InputError(f"{folder} is no run directory: it has no {FILE}; choose the folder given to nbedge run --out")
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Manifest(folder, values["name"], {name: Entry(**entry) for name, entry in values["stages"].items()})
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error!r}); run again with --overwrite") from error
