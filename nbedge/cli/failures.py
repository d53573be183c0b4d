"""What is said of an edge that failed: where the candidate goes wrong, layer by layer."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from nbedge.cli.screen import Screen
from nbedge.cli.verdicts import first_bad
from nbedge.errors import InputError
from nbedge.subject import Subject

if TYPE_CHECKING:
    from nbedge.localization import Layer, Located
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


def first_failure(judged: Iterable[Judged]) -> "Located | None":
    """Return the first edge that failed, located; None if there is none, or none can be looked into."""
    from nbedge.localization import locate
    from nbedge.verification import Verdict

    for each in judged:
        if each.edge.verdict is not Verdict.FAIL or not (each.before and each.after and each.given):
            continue
        try:
            return locate(each.edge, each.before, each.after, each.given)
        except InputError:  # what is inside of one of the two cannot be read
            continue
    return None


def show(found: "Located", screen: Screen) -> None:
    """Print the first bad tensor, and the layers that are furthest off."""
    said = found.localization
    screen.say(Text(first_bad(found), "bold"))
    number = len(said.layers) if screen.verbosity > 0 else SHOWN
    columns = ("layer", "operator", "SQNR, dB", "", "max|Δ|/RMS", "in the reference")
    screen.table(f"layers of {found.edge.candidate}, the worst first", columns, map(_row, said.worst(number)))


def _row(layer: "Layer") -> tuple[str, ...]:
    filled = round(WIDTH * min(1.0, max(0.0, layer.sqnr_db / FULL)))
    bar = "█" * filled + "·" * (WIDTH - filled)
    return layer.candidate, layer.kind, f"{layer.sqnr_db:.1f}", bar, f"{layer.error:.2g}", layer.reference
