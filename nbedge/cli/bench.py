"""`nbedge bench`: latency, memory and size of exported files, here or on a device."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from nbedge import benchmark
from nbedge.benchmark import Case, Comparison, Machine, Measurement, RemoteMachine, baseline
from nbedge.benchmark.machines import SSH, machine_of
from nbedge.cli import measured
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
@click.option("--markdown", type=click.Path(path_type=Path), metavar="FILE", help="Write the table as Markdown.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw it: .svg, .png or .pdf.")
@with_screen
def command(
    screen: Screen, paths: tuple[Path, ...], on: str, python: str, setup: bool, clean: bool,
    optimize: str, runtimes: tuple[str, ...], threads: tuple[int, ...], processes: int, seconds: float | None,
    data: str | None, against: Path | None, blocks: int, limits: tuple[str, ...], require_stable: bool,
    sessions: tuple[Path, Path] | None, markdown: Path | None, plot: Path | None,
) -> None:  # fmt: skip
    """Measure each FILE (.onnx, .tflite or a checkpoint); several are interleaved and can be compared."""
    if sessions:
        if paths:
            raise InputError("--compare shows two stored sessions and measures nothing; leave the FILE out")
        measured.show_sessions(screen, *sessions)
        return
    asked = [baseline.Limit.parse(text) for text in limits]
    _refuse_unfit(paths, against, asked, plot)
    if clean and not paths:
        with _machine(on, python, setup, clean, optimize):
            return
    with _machine(on, python, setup, clean, optimize) as machine, _real_inputs(data, paths) as inputs:
        found = _measured(screen, machine, paths, runtimes, threads, processes, seconds, inputs)
        compared = _compared(screen, machine, found, against, blocks, seconds, asked)
        old = _old(machine, found, against, asked)
    rows = [row.to_dict() for row in found]
    if data:
        rows = measured.with_accuracy(rows, paths, data)
    content = {"rows": rows, "compared": None if compared is None else compared.to_dict()}
    measured.show(screen, rows, compared)
    if markdown:
        measured.write_markdown(markdown, rows)
    if plot:
        with needs("report"):
            from nbedge.report.measured import draw
        draw(rows, plot)
    try:
        _refuse(rows, compared, old, asked, require_stable)
    except GateError as error:
        fail(str(error), error.exit_status, content)
    screen.result(content)


def _refuse_unfit(
    paths: Sequence[Path], against: Path | None, limits: Sequence[baseline.Limit], plot: Path | None
) -> None:
    if plot:
        with needs("report"):
            from nbedge.report.measured import refuse_suffix
        refuse_suffix(plot)
    if limits and against is None:
        raise InputError("--fail-if compares with something; name it with --against")
    if against is None:
        refuse_given(("blocks",), "nothing is compared without --against")
        return
    if against.suffix == ".json":
        baseline.rows(against)
        for limit in (limit for limit in limits if limit.metric == baseline.RATIO):
            baseline.deterministic(limit, {}, {})
        return
    if len(paths) != 1:
        raise InputError(f"--against compares one file with {against}; name one FILE, not {len(paths)}")
    benchmark.cases([against], (), (1,))


@contextmanager
def _machine(on: str, python: str, setup: bool, clean: bool, optimize: str) -> Iterator[Machine]:
    if not on.startswith(SSH):
        refuse_given(("python", "setup", "clean"), f"nothing is put on {on}")
    with machine_of(on, python=python, setup=setup, optimization=f"-{optimize}") as machine:
        if not machine.compiles:
            refuse_given(("optimize",), f"nothing is compiled for {on}")
        try:
            yield machine
        finally:
            if clean and isinstance(machine, RemoteMachine):
                machine.clean()


@contextmanager
def _real_inputs(data: str | None, paths: Sequence[Path]) -> Iterator[Mapping[Path, Path]]:
    """Yield file -> .npz of a picture of the data, as the file takes it."""
    if data is None:
        yield {}
        return
    with tempfile.TemporaryDirectory() as folder:
        yield measured.real_inputs(data, paths, Path(folder))


def _measured(
    screen: Screen, machine: Machine, paths: Sequence[Path], runtimes: Sequence[str], threads: Sequence[int],
    processes: int, seconds: float | None, inputs: Mapping[Path, Path],
) -> list[Measurement]:  # fmt: skip
    number = len(benchmark.cases(paths, runtimes, threads))
    with bar("bench", number * processes, screen.shows_progress) as shown:
        return benchmark.measure(
            paths, processes=processes, seconds=seconds, threads=threads, runtimes=runtimes, inputs=inputs,
            on=machine, progress=lambda done, _total: shown.to(done, "interleaved, a fresh process each"),
        )  # fmt: skip


def _compared(
    screen: Screen, machine: Machine, found: Sequence[Measurement], against: Path | None, blocks: int,
    seconds: float | None, limits: Sequence[baseline.Limit],
) -> Comparison | None:  # fmt: skip
    """Measure the file and the one that it is compared with in turn."""
    if against is None or against.suffix == ".json" or not machine.timed:
        return None
    case = found[0].case
    (before,) = benchmark.cases(
        [against], (case.runtime,) if case.path.suffix == against.suffix else (), [case.threads]
    )
    strictest = min((limit.times for limit in limits if limit.metric == baseline.RATIO), default=None)
    with bar("compare", blocks, screen.shows_progress) as shown:
        return benchmark.compare(
            before, Case(case.path, case.runtime, case.threads), machine, blocks=blocks, limit=strictest,
            seconds=seconds, progress=lambda done, _total: shown.to(min(done, blocks), "alternating blocks"),
        )  # fmt: skip


def _old(
    machine: Machine, found: Sequence[Measurement], against: Path | None, limits: Sequence[baseline.Limit]
) -> baseline.Rows:
    """Return the figures that limits stand against: stored ones, or those of the other file."""
    metrics = {limit.metric for limit in limits} - {baseline.RATIO}
    if against is None or not metrics:
        return ()
    if against.suffix == ".json":
        return baseline.rows(against)
    if metrics == {"size"}:
        return ({"file": against.name, "size_bytes": against.stat().st_size},)
    case = found[0].case
    rows = benchmark.measure(
        [against], processes=1, seconds=BRIEF, threads=case.threads, runtimes=[case.runtime], on=machine
    )
    return tuple(row.to_dict() for row in rows)


def _refuse(
    rows: baseline.Rows, compared: Comparison | None, old: baseline.Rows,
    limits: Sequence[baseline.Limit], require_stable: bool,
) -> None:  # fmt: skip
    """Refuse what is beyond a limit.

    Raises:
        GateError: something is.
    """
    for limit in limits:
        if limit.metric == baseline.RATIO:
            measured.refuse_slower(compared, limit.times)
        else:
            measured.refuse_grown(rows, old, limit)
    shaky = [row for row in rows if require_stable and row["verdict"] != "stable"]
    if shaky:
        raise GateError(f"the latency of {shaky[0]['file']} is {shaky[0]['verdict']}: {shaky[0]['reason']}")
