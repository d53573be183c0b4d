"""Fit: what a network needs of a board, and what the board has."""

from dataclasses import asdict, dataclass
from typing import Any

from nbedge.deployment.boards import Board
from nbedge.deployment.timeline import Timeline
from nbedge.errors import InputError

#: of a row whose need is not known here
NOT_CHECKED = "NOT CHECKED"


@dataclass(frozen=True, slots=True)
class Need:
    """One row; bytes.

    Attributes:
        what: is needed, for people.
        memory: "flash" or "RAM".
        needs: of it; None where it is not known here.
    """

    what: str
    memory: str
    needs: int | None


@dataclass(frozen=True, slots=True)
class Row:
    """A need beside what the board has for it; bytes.

    Attributes:
        need: it.
        has: what the rows before it have left of the memory.
    """

    need: Need
    has: int

    @property
    def left(self) -> int | None:
        """Of the memory afterwards; less than 0 is missing."""
        return None if self.need.needs is None else self.has - self.need.needs


@dataclass(frozen=True, slots=True)
class Fit:
    """All needs of a network.

    Attributes:
        board: name of it.
        rows: in the order in which the memories are filled.
        peak: which layer sets the size of the arena, for people.
    """

    board: str
    rows: tuple[Row, ...]
    peak: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        rows = [{**asdict(row.need), "has": row.has, "left": row.left} for row in self.rows]
        return {"board": self.board, "peak": self.peak, "rows": rows}


def fit_of(board: Board, needs: tuple[Need, ...], timeline: Timeline) -> Fit:
    """Fill the memories of a board with what a network needs, one after the other."""
    left = {"flash": board.flash_bytes, "RAM": board.ram_bytes}
    rows = []
    for need in needs:
        rows.append(Row(need, left[need.memory]))
        left[need.memory] -= need.needs or 0
    return Fit(board.name, tuple(rows), timeline.peak_words)


def refuse_misfit(fit: Fit, board: Board, name: str) -> None:
    """Refuse a network that needs more than the board has.

    Raises:
        InputError: it does; the sentence says how many bytes are missing, and which layer sets the peak.
    """
    missing = {}
    for row in fit.rows:
        if row.left is not None and row.left < 0:
            missing[row.need.memory] = -row.left
    if not missing:
        return
    has = {"flash": board.flash_bytes, "RAM": board.ram_bytes}
    short = " and ".join(f"{count} bytes more than the {has[memory]} of {memory}" for memory, count in missing.items())
    needs = ", ".join(f"{row.need.needs} for {row.need.what}" for row in fit.rows if row.need.needs is not None)
    peak = f"; {fit.peak}" if "RAM" in missing else ""
    raise InputError(
        f"{name} does not fit {board.name}: it takes {short} there ({needs}){peak}; choose a larger board or make the "
        f"model smaller"
    )
