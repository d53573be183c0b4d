"""The drawings of the page: accuracy against latency, latencies, training, classes."""

from itertools import cycle
from typing import TYPE_CHECKING, Any

from nbedge.benchmark.baseline import label
from nbedge.report import drawing
from nbedge.report.drawing import CONTRACTED, CONTROL, GIANT, INK, MUTED
from nbedge.report.formats import digits, percent, short_names
from nbedge.report.measured import plain_ticks
from nbedge.report.records import Json
from nbedge.report.summary import Epoch, Row, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = {"onnx": "o", "tflite": "s"}
_COLOURS = {"control": CONTROL, "transferred": MUTED, "giant": GIANT, "linearized": CONTRACTED, "tuned": CONTRACTED}
_STYLES = {
    "control": (0, (4, 1.5)),
    "transferred": (0, (1, 1)),
    "giant": "solid",
    "linearized": "solid",
    "tuned": "solid",
}
#: classes drawn; of more, those where the two models differ most
CLASSES = 40


def trade_off(summary: Summary) -> str | None:
    """Draw accuracy over the latency of each file; None if no file has both."""
    rows = [row for row in summary.rows if row.score is not None and row.latency_median_ms is not None]
    if not rows:
        return None
    control = next((row.score for row in summary.rows if row.name == "control"), None)
    said = "; ".join(f"{r.name} {percent(r.score)} % at {digits(r.latency_median_ms)} ms" for r in rows)

    def draw(figure: "Figure") -> None:
        _trade_off(figure.add_subplot(), rows, control, summary.metric)

    return drawing.svg(draw, 3.1, f"Scatter plot of {summary.metric} over latency: {said}.")


def _trade_off(axes: "Axes", rows: list[Row], control: float | None, metric: str) -> None:
    x = [row.latency_median_ms or 0.0 for row in rows]
    y = [100 * (row.score or 0.0) for row in rows]
    names = short_names([row.name for row in rows])
    texts = [names[row.name] for row in rows]
    for row, here, there in zip(rows, x, y, strict=True):
        marker = _MARKERS.get(row.name.rpartition(".")[2], "D")
        axes.plot(here, there, marker, color=CONTRACTED, markersize=6)
    if control is not None:
        axes.axhline(100 * control, color=CONTROL, linewidth=1, linestyle=(0, (4, 1.5)))
        x, y, texts = [*x, 1.12 * max(x)], [*y, 100 * control], [*texts, "control (float)"]
    margin = max(0.3, 0.15 * (max(y) - min(y)))
    axes.set(xlim=(0, 1.12 * max(x[: len(rows)])), ylim=(min(y) - margin, max(y) + margin))
    low, high = axes.get_ylim()
    heights = drawing.spread([(value - low) / (high - low) for value in y], gap=0.09)
    for text, at, height in zip(texts, zip(x, y, strict=True), heights, strict=True):
        drawing.label(axes, text, at, height, MUTED if text.startswith("control") else INK)
    axes.set(xlabel="median latency of one invoke, ms", title=f"{metric}, %")


def distributions(bench: Json | None) -> str | None:
    """Draw which share of the samples took no longer than x, a line a file; None if nothing was measured."""
    rows = [row for row in (bench or {}).get("rows", []) if row.get("latency_quantiles_ms")]
    if not rows:
        return None
    names = short_names([label(row) for row in rows])
    said = "; ".join(f"{label(row)} {digits(row['latency_median_ms'])} ms" for row in rows)

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        for row, look in zip(rows, cycle(("solid", (0, (4, 1.5)), "dotted", "dashdot")), strict=False):
            times = row["latency_quantiles_ms"]
            colour = CONTRACTED if ".int8" in row["file"] else GIANT
            shares = [100 * place / (len(times) - 1) for place in range(len(times))]
            axes.plot(times, shares, color=colour, linestyle=look, label=names[label(row)])
        axes.set(xscale="log", xlabel="latency of one invoke, ms", ylim=(0, 100), title="samples up to it, %")
        plain_ticks(axes)
        axes.legend(frameon=False, fontsize=9.5)

    return drawing.svg(draw, 3.1, f"Distribution of the latencies, medians: {said}.")


def training(summary: Summary) -> str | None:
    """Draw loss, validation accuracy and slope over the epochs; None if nothing was trained."""
    if not any(summary.curves.values()):
        return None

    def draw(figure: "Figure") -> None:
        loss, accuracy, slope = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1.1))
        for stage, first, epochs in _in_sequence(summary):
            _curves(loss, accuracy, slope, stage, first, epochs)
        loss.set_title("training loss")
        accuracy.set_title(f"{summary.metric} on the validation split, %")
        slope.set_title("slope of the inserted activations (1 is the identity)")
        slope.set(ylim=(-0.08, 1.08), yticks=(0, 1), xlabel="epoch")
        slope.xaxis.get_major_locator().set_params(integer=True)
        loss.legend(frameon=False, fontsize=9.5)

    said = "; ".join(
        f"{stage}, {len(epochs)} epochs, ends at {percent(epochs[-1].validation_score)} %"
        for stage, epochs in summary.curves.items()
        if epochs
    )
    return drawing.svg(draw, 4.9, f"Training loss, validation accuracy and slope over the epochs: {said}.")


def _in_sequence(summary: Summary) -> list[tuple[str, int, tuple[Epoch, ...]]]:
    """Give each stage the number of its first epoch: the linearization goes on where the giant's training ended."""
    giant, linearized = (len(summary.curves.get(stage, ())) for stage in ("giant", "linearized"))
    first = {"linearized": giant + 1, "tuned": giant + linearized + 1}
    return [(stage, first.get(stage, 1), epochs) for stage, epochs in summary.curves.items() if epochs]


def _curves(loss: "Axes", accuracy: "Axes", slope: "Axes", stage: str, first: int, epochs: tuple[Epoch, ...]) -> None:
    x = range(first, first + len(epochs))
    # a single epoch is a point, which a line would not show
    look: dict[str, Any] = {"color": _COLOURS[stage], "linestyle": _STYLES[stage], "marker": "." * (len(epochs) == 1)}
    loss.plot(x, [_number(e.train_loss) for e in epochs], label=stage, **look)
    accuracy.plot(x, [100 * _number(e.validation_score) for e in epochs], **look)
    if any(e.slope is not None for e in epochs):
        slope.plot(x, [_number(e.slope) for e in epochs], **look)


def classes(per_class: dict[str, dict[str, float | None]], metric: str) -> str | None:
    """Draw the accuracy on each class (fractions), control against contracted; None if one of them is missing.

    `per_class` is model -> class -> accuracy; None for a class without pictures, which is left out.
    """
    control, contracted = (
        {name: share for name, share in per_class.get(model, {}).items() if share is not None}
        for model in ("control", "contracted")
    )
    if not control or not contracted:
        return None
    names = [name for name in contracted if name in control]
    if len(names) > CLASSES:
        names = sorted(names, key=lambda name: -abs(contracted[name] - control[name]))[:CLASSES]
    pairs = [(name, 100 * control[name], 100 * contracted[name]) for name in reversed(names)]

    def draw(figure: "Figure") -> None:
        _pairs(figure.add_subplot(), pairs, metric)

    said = "; ".join(f"{name} {before:.1f} against {after:.1f}" for name, before, after in reversed(pairs))
    alt = f"Accuracy on each class in percent, control against contracted: {said}."
    return drawing.svg(draw, 0.9 + 0.23 * len(pairs), alt)


def _pairs(axes: "Axes", pairs: list[tuple[str, float, float]], metric: str) -> None:
    y = range(len(pairs))
    before, after = [p[1] for p in pairs], [p[2] for p in pairs]
    axes.hlines(y, before, after, color=MUTED, linewidth=1)
    axes.plot(before, y, "o", color=CONTROL, fillstyle="none", markersize=6, label="control")
    axes.plot(after, y, "o", color=CONTRACTED, markersize=6, label="contracted")
    axes.set(yticks=list(y), yticklabels=[p[0][:28] for p in pairs], ylim=(-0.7, len(pairs) - 0.3))
    axes.set_xlabel(f"{metric} on the class, %")
    axes.tick_params(axis="y", labelcolor=INK, length=0)
    axes.grid(axis="x", visible=False)
    axes.figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=9.5)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
