"""What is said of an edge that failed: where the candidate goes wrong, layer by layer."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from nbedge.cli.screen import Screen
from nbedge.errors import InputError
from nbedge.subject import Subject

if TYPE_CHECKING:
    from nbedge.localization import Layer, Localization
    from nbedge.verification import Equivalence, Families

#: SQNR in dB that fills a bar: float files stand at 100 and more
FULL = 100.0
WIDTH = 20
#: layers that are shown, unless -v
SHOWN = 10


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """An edge, and what was compared on it; None where something is not installed."""

    edge: "Equivalence"
    before: Subject | None = None
    after: Subject | None = None
    given: "Families | None" = None


@dataclass(frozen=True, slots=True, eq=False)
class Failure:
    """The first edge that failed, and where its candidate goes wrong."""

    edge: "Equivalence"
    before: Subject
    after: Subject
    given: "Families"
    said: "Localization"

    def show(self, screen: Screen) -> None:
        """Print the first bad tensor, and the layers that are furthest off."""
        first = self.said.first_bad
        named = f"{first.candidate} ({first.label})" if first else "none: every layer is within its limit"
        screen.say(Text(f"first bad tensor: {named}", "bold"))
        number = len(self.said.layers) if screen.verbosity > 0 else SHOWN
        columns = ("layer", "operator", "SQNR, dB", "", "max|Δ|/RMS", "in the reference")
        screen.table(f"layers of {self.edge.candidate}, the worst first", columns, map(_row, self.said.worst(number)))

    def write(self, folder: Path, overwrite: bool) -> Path:
        """Write the bundle that repeats the failure, and return its folder."""
        from nbedge.localization import write_bundle
        from nbedge.verification.families import foremost

        x = foremost(self.given)
        return write_bundle(folder, self.edge, self.said, self.before, self.after, x, overwrite=overwrite)


def first_failure(judged: Iterable[Judged]) -> Failure | None:
    """Return the first edge that failed, located; None if there is none, or none can be looked into."""
    from nbedge.localization import localize
    from nbedge.verification import Verdict
    from nbedge.verification.families import foremost

    for each in judged:
        if each.edge.verdict is not Verdict.FAIL or not (each.before and each.after and each.given):
            continue
        try:
            said = localize(each.before, each.after, foremost(each.given), each.edge.kernels)
        except InputError:  # what is inside of one of the two cannot be read
            continue
        return Failure(each.edge, each.before, each.after, each.given, said)
    return None


def _row(layer: "Layer") -> tuple[str, ...]:
    filled = round(WIDTH * min(1.0, max(0.0, layer.sqnr_db / FULL)))
    bar = "█" * filled + "·" * (WIDTH - filled)
    return layer.candidate, layer.kind, f"{layer.sqnr_db:.1f}", bar, f"{layer.error:.2g}", layer.reference
