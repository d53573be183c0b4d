"""Plots: test accuracy against the multiply-accumulates of training, a picture a network and pictures."""

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from effect.results import Line
from effect.study import Study
from effect.tables import Interval
from nbedge.errors import needs


def draw(study: Study, found: Sequence[Line], folder: Path) -> Iterator[Path]:
    """Write an .svg a network and pictures into `folder` and yield its path; bars are 95 % intervals of the mean."""
    folder.mkdir(parents=True, exist_ok=True)
    for network in study.networks:
        for data in study.targets:
            here = [line for line in found if (line.network, line.data) == (network, data) and line.test is not None]
            if here:
                path = folder / f"{network}-{data}.svg"
                _plot(study, here, f"{network} on {data}", path)
                yield path


def _plot(study: Study, here: Sequence[Line], title: str, path: Path) -> None:
    with needs("report"):
        import matplotlib
    with matplotlib.rc_context({"svg.hashsalt": "effect", "svg.fonttype": "none"}):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.subplots()
        for index, name in enumerate(study.methods):
            of = [line for line in here if line.method == name]
            if of:
                around = Interval.of([100 * line.test for line in of if line.test is not None])
                reach = around.high - around.mean if around.count > 1 else 0.0
                macs = statistics.mean(line.training_macs for line in of)
                mark = "osv^D<>ph*X"[index % 11]
                axes.errorbar([macs], [around.mean], yerr=[reach], fmt=mark, capsize=3, label=f"{name} ({len(of)})")
        axes.set(xscale="log", xlabel="multiply-accumulates of training", ylabel="test accuracy, %", title=title)
        axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
        figure.savefig(path, metadata={"Date": None})
