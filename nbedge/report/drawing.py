"""A matplotlib figure as inline SVG: colours from the page's style sheet, text as text, the same bytes every time."""

import re
import warnings
from collections.abc import Callable
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Stand-ins, replaced by the style sheet's variables of these names: so one drawing serves light, dark and print.
INK, MUTED, RULE = "#010101", "#020202", "#030303"
CONTROL, GIANT, CONTRACTED = "#040404", "#050505", "#060606"
_VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule", CONTROL: "control", GIANT: "giant", CONTRACTED: "contracted"}

#: inches; at this width the text reads on a phone and two drawings fit beside each other on a desk
WIDTH = 5.2

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a class may be called "$1"
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "lines.linewidth": 1.6,
}


def svg(draw: Callable[["Figure"], object], height: float, alt: str) -> str:
    """Let `draw` fill a figure of `WIDTH` by `height` inches and return it as an SVG element.

    `alt` says in words what the drawing shows. Needs matplotlib; the caller wraps it in `needs("report")`.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    text = StringIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": alt}), warnings.catch_warnings():
        # a glyph that matplotlib's own font lacks is drawn by the browser's
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        draw(figure)
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return _inline(text.getvalue(), alt)


def spread(wanted: list[float], gap: float) -> list[float]:
    """Move values in [0, 1] apart until neighbours differ by `gap`, in the same order, as near as the gap lets them.

    >>> [round(v, 2) for v in spread([0.5, 0.5, 0.9], 0.1)]
    [0.5, 0.6, 0.9]
    >>> [round(v, 2) for v in spread([1.0, 0.99], 0.1)]
    [1.0, 0.9]
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = dict.fromkeys(order, 0.0)
    below = -gap
    for i in order:
        below = placed[i] = max(wanted[i], below + gap)
    above = 1.0 + gap
    for i in reversed(order):  # what was pushed over the top comes down again
        above = placed[i] = min(placed[i], above - gap)
    return [placed[i] for i in range(len(wanted))]


def label(axes: "Axes", text: str, at: tuple[float, float], height: float, colour: str = INK) -> None:
    """Write `text` right of the axes, `height` of the way up, with a thin line to `at` (data coordinates)."""
    axes.annotate(
        text,
        xy=at,
        xytext=(1.05, height),
        textcoords="axes fraction",
        va="center",
        color=colour,
        fontsize=9.5,
        arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 4},
    )


def _inline(text: str, alt: str) -> str:
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    # names of groups repeat from drawing to drawing, and nothing refers to them
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", text)
    box = re.search(r'viewBox="[^"]*"', text)
    head = f'<svg role="img" aria-label="{escape(alt)}" {box.group() if box else ""}>'
    text = head + text[text.index(">") + 1 :]
    for colour, name in _VARIABLES.items():
        text = text.replace(colour, f"var(--{name})")
    return text
