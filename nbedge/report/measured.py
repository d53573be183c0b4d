"""Drawings of measurements: how latencies are distributed, and what accuracy costs in time and size."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nbedge import files
from nbedge.benchmark.baseline import label
from nbedge.errors import InputError
from nbedge.task import scored

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: endings that a drawing can have
SUFFIXES = (".svg", ".png", ".pdf")
#: inches of one panel, without the names below
WIDTH, HEIGHT = 4.6, 3.2
_MARKERS = "osD^v"
DECADE = 10

Rows = Sequence[Mapping[str, Any]]


def refuse_suffix(path: Path) -> None:
    """Refuse a name that no drawing can have.

    Raises:
        InputError: it ends otherwise.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path} is no drawing; give a name that ends in {', '.join(SUFFIXES)}")


def draw(rows: Rows, path: Path) -> None:
    """Draw those rows of `Measurement.to_dict()` that were timed, with accuracy if they have a score."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rows = [row for row in rows if row.get("latency_quantiles_ms")]
    judged = any(scored(row) for row in rows)
    style: dict[Any, Any] = {"svg.hashsalt": "nbedge", "svg.fonttype": "none", "axes.spines.top": False,
                             "axes.spines.right": False, "axes.titlelocation": "left"}  # fmt: skip
    with mpl.rc_context(style), files.appearing(path) as part:
        figure = Figure(figsize=(WIDTH * (3 if judged else 1), HEIGHT + 0.22 * len(rows)), layout="constrained")
        places = figure.subplots(1, 3 if judged else 1, squeeze=False)[0]
        _distributions(places[0], rows)
        if judged:
            _against(places[1], rows, "latency_median_ms", "median latency, ms", 1)
            _against(places[2], rows, "size_bytes", "size, kB", 1000)
        figure.legend(*places[0].get_legend_handles_labels(), loc="outside lower left", frameon=False, fontsize=9)
        figure.savefig(part, format=path.suffix[1:], dpi=150, metadata=_undated(path.suffix))


def _undated(suffix: str) -> dict[str, Any]:
    """Return what keeps the day out of the file: the same rows give the same bytes."""
    return {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(suffix, {})


def _distributions(axes: "Axes", rows: Rows) -> None:
    """Draw which share of the samples took no longer than x."""
    for number, row in enumerate(rows):
        times = row["latency_quantiles_ms"]
        axes.plot(times, np.linspace(0, 100, len(times)), label=label(row), color=f"C{number % 10}")
    axes.set(xscale="log", xlabel="latency of one invoke, ms", ylim=(0, 100), title="samples up to this latency, %")
    plain_ticks(axes)
    axes.grid(alpha=0.3)


def _against(axes: "Axes", rows: Rows, key: str, words: str, unit: float) -> None:
    metric = ""
    for number, row in enumerate(rows):
        found = scored(row)
        if row.get(key) is not None and found is not None:
            metric, score = found
            axes.plot(row[key] / unit, 100 * score, _MARKERS[number % len(_MARKERS)], color=f"C{number % 10}")
    axes.set(xlabel=words, title=f"{metric}, %")
    axes.margins(0.15)
    axes.grid(alpha=0.3)


def plain_ticks(axes: "Axes") -> None:
    """Give a logarithmic x-axis a few plain numbers: 1, 2 and 5 of each decade, or even steps within one."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    low, high = axes.get_xlim()
    wide = low > 0 and high / low > DECADE
    axes.xaxis.set_major_locator(
        LogLocator(subs=(1, 2, 5) if high / low < DECADE**2 else (1,)) if wide else MaxNLocator(4)
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
