"""Chart: the memory of every layer as a picture, the same bytes every time."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbedge import files
from nbedge.deployment.boards import Board
from nbedge.deployment.timeline import Timeline
from nbedge.errors import MissingDependencyError, needs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "memory.svg"
#: inches
WIDTH, ROW, AROUND = 8.0, 0.19, 1.3
#: a board's RAM is drawn where it is up to so many times the arena; the bars of a small arena would vanish beside it
REACH = 2.5
_LIVE, _PEAK, _KEPT, _SCRATCH = "#7da7d9", "#1f4e8c", "#c9c9c9", "#f0b775"
_ARENA, _BOARD = "#b3261e", "#2e7d32"
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "nbedge", "svg.fonttype": "none", "text.parse_math": False, "font.size": 9.0,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlelocation": "left", "axes.axisbelow": True,
}  # fmt: skip


def draw(timeline: Timeline, name: str, board: Board | None, folder: Path) -> str:
    """Draw `NAME` into a folder; return "", or a sentence that says why there is none."""
    try:
        with needs("report"):
            import matplotlib as mpl
            from matplotlib.figure import Figure
    except MissingDependencyError as error:
        return f"{NAME} was not drawn: {error}"
    with mpl.rc_context(_STYLE), files.appearing(folder / NAME) as part:
        height = AROUND + ROW * max(len(timeline.steps), 4)
        figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        _bars(axes, timeline)
        _lines(axes, timeline, board)
        _labels(axes, timeline)
        axes.set_title(f"{name}: memory during each layer, bytes")
        figure.legend(loc="outside lower left", ncols=3, frameon=False)
        figure.savefig(part, format="svg", metadata={"Date": None})
    return ""


def _bars(axes: "Axes", timeline: Timeline) -> None:
    """Draw what is kept, live and borrowed, one after the other; the peak is darker."""
    rows = range(len(timeline.steps))
    live = [step.live_bytes for step in timeline.steps]
    scratch = [step.scratch_bytes for step in timeline.steps]
    colours = [_PEAK if row == timeline.peak else _LIVE for row in rows]
    if timeline.kept_bytes:
        axes.barh(rows, timeline.kept_bytes, color=_KEPT, label="kept by TFLite Micro")
    axes.barh(rows, live, left=timeline.kept_bytes, color=colours)
    # named by bars of nothing: those of the layers have two colours
    for colour, words in ((_LIVE, "tensors in use"), (_PEAK, "the same, where most is used")):
        axes.barh(0, 0, color=colour, label=words)
    if any(scratch):
        starts = [timeline.kept_bytes + size for size in live]
        axes.barh(rows, scratch, left=starts, color=_SCRATCH, label="scratch memory")


def _lines(axes: "Axes", timeline: Timeline, board: Board | None) -> None:
    """Draw the arena, and the board's RAM, or words that it lies beyond the edge."""
    arena = timeline.arena_bytes
    axes.axvline(arena, color=_ARENA, linewidth=1.2, label=f"arena, {_told(arena)}")
    end = arena
    if board:
        words, look = f"RAM of {board.name}, {_told(board.ram_bytes)}", (0, (5, 2))
        if board.ram_bytes <= REACH * arena:
            end = max(end, board.ram_bytes)
            axes.axvline(board.ram_bytes, color=_BOARD, linewidth=1.2, linestyle=look, label=words)
        else:
            axes.plot([], [], color=_BOARD, linewidth=1.2, linestyle=look, label=f"{words}, right of the edge")
    axes.set_xlim(0, 1.04 * end)


def _labels(axes: "Axes", timeline: Timeline) -> None:
    steps = timeline.steps
    texts = [f"{step.operator}  {row}" for row, step in enumerate(steps)]
    axes.set_yticks(range(len(steps)), texts)
    axes.set_ylim(len(steps) - 0.4, -0.6)  # the first layer is on top
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.xaxis.set_major_formatter(lambda value, _position: _told(value))
    axes.grid(axis="x", color="#e3e3e3", linewidth=0.6)
    if steps:
        _mark_peak(axes, timeline)


def _mark_peak(axes: "Axes", timeline: Timeline) -> None:
    """Write the bytes of the largest layer into its bar, or behind a short one."""
    row, used, start = timeline.peak, timeline.steps[timeline.peak].used_bytes, timeline.kept_bytes
    inside = used > 0.15 * axes.get_xlim()[1]
    axes.annotate(
        _told(used), (start if inside else start + used, row), (4, 0), textcoords="offset points", va="center",
        color="white" if inside else "black", fontsize=8,
    )  # fmt: skip


def _told(count: float) -> str:
    return f"{count:,.0f}".replace(",", " ")
