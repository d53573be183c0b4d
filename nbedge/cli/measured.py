"""The tables of `nbedge bench`: the same on the screen and in Markdown."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbedge import files
from nbedge.benchmark import Comparison
from nbedge.benchmark.baseline import Rows, label
from nbedge.cli.screen import DASH, Screen, number, percent
from nbedge.task import scored

Row = Mapping[str, Any]

NAMED = ("file", "kernels", "threads")
LATENCY = (*NAMED, "median", "95 % interval", "p90", "first", "load", "end to end", "")
MEMORY = (*NAMED, "size", "load, peak", "first, peak", "steady, peak", "private dirty", "arena", "energy")
COUNTED = ("file", "runtime", "instructions per inference", "flash", "of it code", "arena", "stack")
LAYERS = ("", "operator", "output", "MACs", "instructions", "share", "per MAC")
LATENCY_TITLE = "latency: invoke only, one input"
MEMORY_TITLE = "memory of the process over the imported runtime; the file on the disk; energy of an inference"
COUNTED_TITLE = "an emulator counts instructions; it measures no time"
#: a name that says nothing
_NUMBERED = re.compile(r"Const_\d+")
#: letters of a layer's output that are shown; the JSON holds all
LONGEST = 40


@dataclass(frozen=True, slots=True)
class Part:
    """A table, and the sentences below it; a part without rows is its sentences."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def parts(rows: Rows, compared: Comparison | None) -> Iterator[Part]:
    """Yield all that is to be said of what was measured."""
    timed = [row for row in rows if row.get("latency_median_ms") is not None]
    counted = [row for row in rows if row.get("instructions_per_inference") is not None]
    if timed:
        yield _part(LATENCY_TITLE, LATENCY, _latency, timed)
        yield _part(MEMORY_TITLE, MEMORY, _memory, timed, _notes(timed))
    idle = [row for row in rows if row["verdict"] == "not timed" and row not in counted]
    yield Part(
        "", (), (), tuple(f"{label(row)} ran in {row['runtime']}, and was not timed: {row['reason']}" for row in idle)
    )
    if counted:
        yield _part(COUNTED_TITLE, COUNTED, _counted, counted)
    for row in (row for row in counted if row.get("layers")):
        note = row["conditions"].get("note")
        title = f"layers of {row['file']} on {row['on']}, in instructions"
        yield Part(title, LAYERS, tuple(_layers(row)), (f"{row['on']} is {note}.",) if note else ())
    judged = {row["file"]: found for row in rows if (found := scored(row))}
    if judged:
        metric = next(iter(judged.values()))[0]
        yield Part("accuracy", ("file", metric), tuple((file, percent(score)) for file, (_, score) in judged.items()))
    if compared is not None:
        yield Part("", (), (), (_sentence(compared),))


def _part(
    title: str, columns: tuple[str, ...], cells: Callable[[Row], tuple[str, ...]], rows: Rows, notes: Iterable[str] = ()
) -> Part:  # fmt: skip
    return Part(title, columns, tuple(map(cells, rows)), tuple(notes))


def show(screen: Screen, found: Iterable[Part]) -> None:
    """Print them."""
    for part in found:
        if part.rows:
            screen.table(part.title, part.columns, part.rows)
        for note in part.notes:
            screen.say(note)


def write_markdown(path: Path, found: Iterable[Part], rows: Rows) -> None:
    """Write them as Markdown, with the machine that they belong to."""
    lines: list[str] = []
    for part in found:
        if part.rows:
            lines += [f"{part.title[0].upper()}{part.title[1:]}:", "", *_table(part.columns, part.rows), ""]
        for note in part.notes:
            lines += [note, ""]
    about = rows[0]["conditions"]
    where = dict.fromkeys(str(about[key]) for key in ("cpu_model", "board", "os") if about.get(key))
    lines.append(f"{', '.join(where)}: {', '.join(sorted({row['runtime'] for row in rows}))}.")
    files.write_bytes(path, ("\n".join(lines) + "\n").encode())


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (columns, ("---",) * len(columns), *rows)]


def _notes(timed: Rows) -> Iterator[str]:
    calls = max(row["latency_calls_per_sample"] for row in timed)
    empty = max(row["empty_call_ms"] for row in timed)
    batches = f", samples are means of up to {calls} calls" if calls > 1 else ""
    yield (
        f"An empty call takes {1e6 * empty:.0f} ns{batches}. Intervals are Student's over the processes, on a "
        "logarithmic scale."
    )
    for row in timed:
        if row["verdict"] != "stable":
            yield f"The latency of {label(row)} is {row['verdict']}: {row['reason']}."


def _latency(row: Row) -> tuple[str, ...]:
    low, high = row["latency_low_ms"], row["latency_high_ms"]
    return (
        *_named(row), number(row["latency_median_ms"], "ms", 4),
        DASH if low is None or high is None else f"{low:.4f} to {high:.4f}",
        number(row["latency_p90_ms"], "ms", 4), number(row["first_inference_ms"], "ms", 3),
        number(row["init_ms"], "ms", 1), number(row.get("end_to_end_median_ms"), "ms", 4), row["verdict"],
    )  # fmt: skip


def _named(row: Row) -> tuple[str, str, str]:
    return row["file"], row["kernels"], str(row["threads"])


def _memory(row: Row) -> tuple[str, ...]:
    def megabytes(key: str) -> str:
        value = row.get(key)
        return number(None if value is None else value / 1e6, "MB", 1)

    arena, joules = row.get("arena_bytes"), row.get("joules_per_inference")
    return (
        *_named(row), number(row["size_bytes"] / 1000, "kB", 1),
        *(megabytes(f"{phase}_peak_rss_bytes") for phase in ("load", "first", "steady")),
        megabytes("steady_private_dirty_bytes"),
        number(None if arena is None else arena / 1000, "kB", 1),
        "NOT MEASURED" if joules is None else number(1e3 * joules, "mJ", 3),
    )  # fmt: skip


def _counted(row: Row) -> tuple[str, ...]:
    keys = ("flash_bytes", "code_bytes", "arena_bytes", "stack_bytes")
    sizes = (number(row.get(key), "B") for key in keys)
    return (row["file"], row["runtime"], number(row["instructions_per_inference"]), *sizes)


def _layers(row: Row) -> Iterator[tuple[str, ...]]:
    total = sum(layer["instructions"] for layer in row["layers"]) or 1
    for layer in row["layers"]:
        executed, macs = layer["instructions"], layer["macs"]
        per_mac = number(executed / macs if macs else None, digits=2)
        yield (str(layer["index"]), layer["operator"], short(layer["output"]), number(macs), number(executed),
               percent(executed / total), per_mac)  # fmt: skip


def short(output: str) -> str:
    """Return the last readable part of a tensor's name, which converters join of all that they fused.

    >>> short("model_7/tf.nn.relu6/Relu6;model_7/tf.nn.convolution_1/convolution;Const_471")
    'tf.nn.convolution_1/convolution'
    """
    names = [name for name in output.split(";") if name and not _NUMBERED.fullmatch(name)]
    last = "/".join((names or [output])[-1].split("/")[-2:])
    return last if len(last) <= LONGEST else f"…{last[1 - LONGEST :]}"


def _sentence(compared: Comparison) -> str:
    return (
        f"{compared.after.path} takes {compared.ratio:.3f} times as long as {compared.before.path} "
        f"(95 % interval {compared.low:.3f} to {compared.high:.3f}, {compared.blocks} alternating blocks)."
    )
