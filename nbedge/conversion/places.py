"""Places: where in a temporary folder everything lies that is made on the way to a file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from nbedge.conversion.chain import Step

#: the file that says that the files beside it are whole, and what made them
KNOWN = "versions.json"


def file_name(name: str, scheme: str, format: str) -> str:
    """Return NAME.SCHEME.FORMAT."""
    return f"{name}.{scheme}.{format}"


@dataclass(frozen=True, slots=True)
class Places:
    """The files of one network.

    Attributes:
        folder: for everything.
        name: of the files.
    """

    folder: Path
    name: str

    @property
    def calibration(self) -> Path:
        """The inputs that quantizers see."""
        return self.folder / "calibration.npy"

    def program(self, batch: str) -> Path:
        """Return the `torch.export` program of a batch."""
        return self.folder / f"program-{batch}.pt2"

    def of(self, step: Step) -> Path:
        """Return the folder of a step; the same exporter may run with other settings."""
        exempt = (sha256("\n".join(step.exempt).encode()).hexdigest()[:8],) if step.exempt else ()
        return self.folder / "-".join((step.name, *step.settings.values(), *exempt))

    def workdir(self, step: Step) -> Path:
        """Return where the process of a step works."""
        return self.of(step) / "work"

    def path(self, step: Step, scheme: str) -> Path:
        """Return the file that a step makes of a scheme."""
        return self.of(step) / file_name(self.name, scheme, step.exporter.produces)

    def source(self, step: Step) -> Path:
        """Return what a step starts from."""
        return self.program(step.batch) if step.source is None else self.path(step.source, "fp32")

    def made(self, step: Step) -> bool:
        """Return whether the files of a step are there already."""
        return (self.of(step) / KNOWN).exists() and all(self.path(step, scheme).exists() for scheme in step.schemes)

    def versions(self, step: Step) -> dict[str, str]:
        """Return the versions of the packages that made the files of a step."""
        return dict(json.loads((self.of(step) / KNOWN).read_text(encoding="utf-8")))

    def finish(self, step: Step, versions: Mapping[str, str]) -> None:
        """Say that the files of a step are whole, and what made them."""
        (self.of(step) / KNOWN).write_text(json.dumps(versions), encoding="utf-8")
