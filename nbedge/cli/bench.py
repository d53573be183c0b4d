"""`nbedge bench`: latency, memory and size of exported files, here or on a device."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from nbedge import benchmark, files
from nbedge.benchmark import Case, Comparison, Machine, Measurement, RemoteMachine, baseline
from nbedge.benchmark.baseline import Limit
from nbedge.benchmark.machines import SSH, machine_of
from nbedge.cli import gates, measured
from nbedge.cli import sessions as stored
from nbedge.cli.pictured import real_inputs, with_accuracy
from nbedge.cli.screen import Screen, fail, refuse_given, with_screen
from nbedge.device.image import OPTIMIZATIONS
from nbedge.errors import GateError, InputError, needs
from nbedge.progress import bar

#: seconds of sampling where no time is asked for
BRIEF = 0.01


class Numbers(click.ParamType[tuple[int, ...]]):
    """Whole numbers from 1 on, separated by commas."""

    name = "N,N"

    def convert(self, value: Any, parameter: Any, context: Any) -> tuple[int, ...]:
        """Return them."""
        if isinstance(value, tuple):
            return value
        parts = str(value).split(",")
        if not all(part.strip().isdigit() and int(part) for part in parts):
            self.fail(f"{value!r} is not a list of numbers from 1 on; write for example 1,4", parameter, context)
        return tuple(map(int, parts))


@click.command(name="bench")
@click.argument("paths", metavar="FILE...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--on", default="local", show_default=True, help="Where: local, emulated:CPU or ssh://USER@HOST.")
@click.option("--python", default="python3", show_default=True, help="With ssh://: the interpreter there.")
@click.option("--setup", is_flag=True, help="With ssh://: make an environment with the runtimes there first.")
@click.option("--clean", is_flag=True, help="With ssh://: remove afterwards all that was put there.")
@click.option("--optimize", default="O2", show_default=True, type=click.Choice([level[1:] for level in OPTIMIZATIONS]),
              help="With a Cortex-M core: level of the compiler.")  # fmt: skip
@click.option("--runtime", "runtimes", multiple=True, metavar="NAME", help="Instead of each file's usual one.")
@click.option("--threads", default=(1,), type=Numbers(), help="Of the runtime, for example 1,4; default 1.")
@click.option("--processes", default=5, show_default=True, type=click.IntRange(min=1), help="Fresh processes a file.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="Sampled in each; default 2, on a Pi 10.")
@click.option("--data", metavar="DATA", help="Pictures: a real one is the input, and accuracy stands beside.")
@click.option("--against", metavar="OLD", type=click.Path(path_type=Path), help="A file to compare with, in turn.")
@click.option("--blocks", default=10, show_default=True, help="With --against: pairs of processes, 10 or more.")
@click.option("--fail-if", "limits", multiple=True, metavar="METRIC:TIMES", help="For example ratio:1.05.")
@click.option("--require-stable", is_flag=True, help="Status 1 unless every latency is stable.")
@click.option("--compare", "sessions", nargs=2, metavar="OLD.json NEW.json", type=click.Path(path_type=Path),
              help="Show two stored sessions side by side.")  # fmt: skip
@click.option("--markdown", type=click.Path(path_type=Path), metavar="FILE", help="Write the tables as Markdown.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw it: .svg, .png or .pdf.")
@click.option("--overwrite", is_flag=True, help="Replace these.")
@with_screen
def command(
    screen: Screen, paths: tuple[Path, ...], on: str, python: str, setup: bool, clean: bool,
    optimize: str, runtimes: tuple[str, ...], threads: tuple[int, ...], processes: int, seconds: float | None,
    data: str | None, against: Path | None, blocks: int, limits: tuple[str, ...], require_stable: bool,
    sessions: tuple[Path, Path] | None, markdown: Path | None, plot: Path | None, overwrite: bool,
) -> None:  # fmt: skip
    """Measure each FILE (.onnx, .tflite or a checkpoint); several are interleaved and can be compared."""
    if sessions:
        stored.refuse_others(paths)
        stored.show(screen, *sessions)
        return
    asked = [Limit.parse(text) for text in limits]
    _refuse_outputs(markdown, plot, overwrite)
    place = benchmark.place_of(on)
    if clean and not paths:
        with _machine(on, python, setup, clean, optimize):
            return
    if against is not None and against.suffix != ".json" and len(paths) != 1:
        raise InputError(f"--against compares one file with {against}; name one FILE, not {len(paths)}")
    cases = [benchmark.fitting(case, place) for case in benchmark.cases(paths, runtimes, threads)]
    gates.refuse_untimed(place)
    gates.refuse_unfit(cases, place, against, asked)
    if require_stable:
        gates.refuse_unstable(processes)
    with _machine(on, python, setup, clean, optimize) as machine, real_inputs(data, paths) as inputs:
        found = _measured(screen, machine, paths, runtimes, threads, processes, seconds, inputs)
        other = gates.old_case(cases, place, against) if against and against.suffix != ".json" else None
        compared = _compared(screen, machine, cases[0], other, blocks, seconds, asked)
        old = baseline.rows(against) if against and other is None else _old(machine, other, asked)
    rows = [row.to_dict() for row in found]
    if data:
        rows = with_accuracy(rows, paths, data)
    content = {"rows": rows, "compared": None if compared is None else compared.to_dict()}
    told = list(measured.parts(rows, compared))
    measured.show(screen, told)
    if markdown:
        measured.write_markdown(markdown, told, rows)
    if plot:
        _draw(rows, plot)
    try:
        for sentence in gates.passed(rows, compared, old, asked):
            screen.say(sentence)
        if require_stable:
            gates.refuse_shaky(rows)
    except GateError as error:
        fail(str(error), error.exit_status, content)
    screen.result(content)


def _refuse_outputs(markdown: Path | None, plot: Path | None, overwrite: bool) -> None:
    """Refuse files that cannot be written, before anything is measured.

    Raises:
        InputError: there is one.
    """
    if plot:
        with needs("report"):
            from nbedge.report.measured import refuse_suffix
        refuse_suffix(plot)
    for path in filter(None, (markdown, plot)):
        files.refuse_existing_file(path, overwrite)
    if markdown and plot and markdown.resolve() == plot.resolve():
        raise InputError("--markdown and --plot name the same file; give each its own")


def _draw(rows: baseline.Rows, plot: Path) -> None:
    with needs("report"):
        from nbedge.report.measured import draw
    draw(rows, plot)


@contextmanager
def _machine(on: str, python: str, setup: bool, clean: bool, optimize: str) -> Iterator[Machine]:
    if not on.startswith(SSH):
        refuse_given(("python", "setup", "clean"), f"nothing is put on {on}")
    if not benchmark.place_of(on).compiles:
        refuse_given(("optimize",), f"nothing is compiled for {on}")
    with machine_of(on, python=python, setup=setup, optimization=f"-{optimize}") as machine:
        try:
            yield machine
        finally:
            if clean and isinstance(machine, RemoteMachine):
                machine.clean()


def _measured(
    screen: Screen, machine: Machine, paths: Sequence[Path], runtimes: Sequence[str], threads: Sequence[int],
    processes: int, seconds: float | None, inputs: Mapping[Path, Path],
) -> list[Measurement]:  # fmt: skip
    number = len(benchmark.cases(paths, runtimes, threads)) * (processes if machine.timed else 1)
    with bar("bench", number, screen.shows_progress) as shown:
        return benchmark.measure(
            paths, processes=processes, seconds=seconds, threads=threads, runtimes=runtimes, inputs=inputs,
            on=machine, progress=lambda done, _total: shown.to(done, "interleaved, a fresh process each"),
        )  # fmt: skip


def _compared(
    screen: Screen, machine: Machine, case: Case, other: Case | None, blocks: int, seconds: float | None,
    limits: Sequence[Limit],
) -> Comparison | None:  # fmt: skip
    """Measure the file and the one that it is compared with in turn."""
    if other is None or not machine.timed:
        return None
    strictest = min((limit.times for limit in limits if limit.metric == baseline.RATIO), default=None)
    with bar("compare", blocks, screen.shows_progress) as shown:
        return benchmark.compare(
            other, case, machine, blocks=blocks, limit=strictest, seconds=seconds,
            progress=lambda done, _total: shown.to(min(done, blocks), "alternating blocks"),
        )  # fmt: skip


def _old(machine: Machine, other: Case | None, limits: Sequence[Limit]) -> baseline.Rows:
    """Return the figures of the other file that limits stand against."""
    metrics = {limit.metric for limit in limits} - {baseline.RATIO}
    if other is None or not metrics:
        return ()
    if metrics == {"size"}:
        return ({"file": other.path.name, "size_bytes": other.path.stat().st_size},)
    rows = benchmark.measure(
        [other.path], processes=1, seconds=BRIEF, threads=other.threads, runtimes=[other.runtime], on=machine
    )
    return tuple(row.to_dict() for row in rows)
