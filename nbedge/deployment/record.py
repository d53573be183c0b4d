"""Deployment: what was written, and the file in the folder that says so."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nbedge import files
from nbedge.artifact import SCHEMA_VERSION
from nbedge.deployment.fit import Fit

#: the file by which a folder is known as one of nbedge's
RECORD = "deployment.json"


@dataclass(frozen=True, slots=True)
class Deployment:
    """A folder that was written.

    Attributes:
        folder: it.
        target: name of what it is for.
        name: of the network.
        uses: name of the network's file that the page or program opens.
        contents: path in the folder -> sha256, of every file but `RECORD`.
        size_bytes: of all of them.
        findings: what is to be known of it, in sentences.
        fit: what it needs of the board beside what that has; None where no board was named.
    """

    folder: Path
    target: str
    name: str
    uses: str
    contents: dict[str, str]
    size_bytes: int
    findings: tuple[str, ...] = ()
    fit: Fit | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "folder": str(self.folder), "fit": self.fit.to_dict() if self.fit else None}

    def write(self, folder: Path) -> None:
        """Write the record into `folder`, where the contents lie."""
        values = self.to_dict()
        del values["folder"]
        files.write_json(folder / RECORD, {"schema_version": SCHEMA_VERSION, "written_by": "nbedge deploy", **values})


def inventory(folder: Path) -> dict[str, str]:
    """Return path in the folder -> sha256 of every file under it but `RECORD`."""
    found = sorted(path for path in folder.rglob("*") if not path.is_dir())
    return {path.relative_to(folder).as_posix(): files.sha256(path) for path in found if path != folder / RECORD}


def written(folder: Path) -> dict[str, str] | None:
    """Return the contents of a folder as its record has them; None where nbedge has written none."""
    try:
        values = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return dict(values["contents"]) if values["written_by"] == "nbedge deploy" else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
