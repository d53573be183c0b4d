"""Drawings of measurements: how latencies are distributed, and what accuracy costs in time and size."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nbedge import files
from nbedge.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: endings that a drawing can have
SUFFIXES = (".svg", ".png", ".pdf")

Rows = Sequence[Mapping[str, Any]]


def refuse_suffix(path: Path) -> None:
    """Refuse a name that no drawing can have.

    Raises:
        InputError: it ends otherwise.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path} is no drawing; give a name that ends in {', '.join(SUFFIXES)}")


def draw(rows: Rows, path: Path) -> None:
    """Draw rows of `Measurement.to_dict()`, with their accuracy as `top1` if it is known. Needs matplotlib."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    timed = [row for row in rows if row.get("latency_quantiles_ms")]
    judged = [row for row in rows if row.get("top1") is not None]
    style: dict[Any, Any] = {"svg.hashsalt": "nbedge", "svg.fonttype": "none", "axes.spines.top": False,
                             "axes.spines.right": False, "axes.titlelocation": "left"}  # fmt: skip
    with mpl.rc_context(style), files.appearing(path) as part:
        figure = Figure(figsize=(5.6 * (3 if judged else 1), 3.8), layout="constrained")
        places = figure.subplots(1, 3 if judged else 1, squeeze=False)[0]
        _distributions(places[0], timed)
        if judged:
            _against(places[1], [row for row in judged if row in timed], "latency_median_ms", "median latency, ms", 1)
            _against(places[2], judged, "size_bytes", "size, kB", 1000)
        figure.savefig(part, format=path.suffix[1:], dpi=150, metadata={} if path.suffix == ".png" else _undated(path))


def _undated(path: Path) -> dict[str, Any]:
    return {"Date": None} if path.suffix == ".svg" else {"CreationDate": None}


def _distributions(axes: "Axes", rows: Rows) -> None:
    """Draw which share of the samples took no longer than x."""
    for row in rows:
        times = row["latency_quantiles_ms"]
        axes.plot(times, np.linspace(0, 100, len(times)), label=name(row))
    axes.set(xscale="log", xlabel="latency of one invoke, ms", ylim=(0, 100), title="samples up to this latency, %")
    axes.grid(alpha=0.3)
    if rows:
        axes.legend(fontsize=8, frameon=False)


def _against(axes: "Axes", rows: Rows, key: str, words: str, unit: float) -> None:
    for row in rows:
        axes.plot(row[key] / unit, 100 * row["top1"], "o")
        axes.annotate(name(row), (row[key] / unit, 100 * row["top1"]), xytext=(5, 4), textcoords="offset points",
                      fontsize=8)  # fmt: skip
    axes.set(xlabel=words, title="top-1 accuracy, %")
    axes.margins(0.25)
    axes.grid(alpha=0.3)


def name(row: Mapping[str, Any]) -> str:
    """Return the file, and what sets it apart from other rows of the same file."""
    kernels, threads = row["kernels"], row["threads"]
    return f"{row['file']} ({kernels}{f', {threads} threads' if threads > 1 else ''})"
