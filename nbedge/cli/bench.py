"""`nbedge bench`: latency, memory and size of exported files."""

from pathlib import Path

import click

from nbedge import benchmark
from nbedge.cli.screen import Screen, number, with_screen
from nbedge.progress import bar


@click.command(name="bench")
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--on", default="local", show_default=True, help="Where: local.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(min=1), help="Of the runtime.")
@click.option("--processes", default=5, show_default=True, type=click.IntRange(min=1), help="Fresh processes a file.")
@click.option("--seconds", default=1.0, show_default=True, type=click.FloatRange(min=0), help="Measured in each.")
@with_screen
def command(screen: Screen, paths: tuple[Path, ...], on: str, threads: int, processes: int, seconds: float) -> None:
    """Measure each FILE (.onnx or .tflite); several files are interleaved and can be compared."""
    with bar("bench", len(paths) * processes, screen.shows_progress) as shown:
        measured = benchmark.measure(
            paths, processes=processes, seconds=seconds, threads=threads, on=on,
            progress=lambda done, _total: shown.to(done, "interleaved, a fresh process each"),
        )  # fmt: skip
    columns = ("file", "size", "median", "p90", "first", "load", "peak memory", "runs", "kernels", "")
    rows = [_row(m) for m in measured]
    screen.table("invoke only, one input", columns, rows)
    screen.say("Memory is that of the process over the imported runtime: no measure of what a microcontroller needs.")
    screen.result({"conditions": benchmark.conditions(), "rows": [m.to_dict() for m in measured]})


def _row(m: benchmark.Measurement) -> tuple[str, ...]:
    peak = None if m.peak_rss_bytes is None else m.peak_rss_bytes / 1e6
    return (
        m.file,
        number(m.size_bytes / 1000, "kB", 1),
        number(m.median_ms, "ms", 4),
        number(m.p90_ms, "ms", 4),
        number(m.first_ms, "ms", 3),
        number(m.init_ms, "ms", 1),
        number(peak, "MB", 1),
        str(m.samples),
        m.kernels,
        m.verdict,
    )
