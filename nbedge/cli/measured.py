"""How `nbedge bench` shows what was measured, and what it needs besides: accuracy, real inputs, limits."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbedge import files
from nbedge.benchmark import Comparison, baseline
from nbedge.cli.screen import DASH, Screen, number, percent
from nbedge.errors import GateError, InputError, needs

Rows = baseline.Rows

COLUMNS = ("file", "kernels", "threads", "median", "95 % interval", "p90", "first", "load", "end to end", "")
MEMORY = ("file", "size", "load, peak", "first, peak", "steady, peak", "private dirty", "arena", "energy")
COUNTED = ("file", "runtime", "instructions per inference", "flash", "of it code", "arena", "stack")
COUNTED_TITLE = "an emulator counts instructions; it measures no time"
LAYERS = ("", "operator", "output", "MACs", "instructions", "share", "per MAC")
MEMORY_TITLE = "memory of the process over the imported runtime; the file on the disk; energy of an inference"


def show(screen: Screen, rows: Rows, compared: Comparison | None) -> None:
    """Print the tables."""
    timed = [row for row in rows if row.get("latency_median_ms") is not None]
    if timed:
        screen.table("latency: invoke only, one input", COLUMNS, map(_latency, timed))
        screen.table(MEMORY_TITLE, MEMORY, map(_memory, timed))
        calls = max(row["latency_calls_per_sample"] for row in timed)
        empty = max(row["empty_call_ms"] for row in timed)
        batches = f", samples are means of up to {calls} calls" if calls > 1 else ""
        screen.say(f"An empty call takes {1e6 * empty:.0f} ns{batches}. Intervals are Student's over the processes.")
        for row in timed:
            if row["verdict"] != "stable":
                screen.say(f"{row['file']} is {row['verdict']}: {row['reason']}")
    for row in (row for row in rows if row["verdict"] == "not timed" and row.get("instructions_per_inference") is None):
        screen.say(f"{row['file']} ran in {row['runtime']} ({row['kernels']}), and was not timed: {row['reason']}")
    counted = [row for row in rows if row.get("instructions_per_inference") is not None]
    if counted:
        screen.table(COUNTED_TITLE, COUNTED, map(_counted, counted))
    for row in (row for row in counted if row.get("layers")):
        screen.table(f"layers of {row['file']}, in instructions", LAYERS, _layers(row))
        if row["conditions"].get("note"):
            screen.say(f"{row['on']} is {row['conditions']['note']}.")
    if any(row.get("top1") is not None for row in rows):
        screen.table("accuracy", ("file", "top-1"), [(row["file"], percent(row.get("top1"))) for row in rows])
    if compared is not None:
        screen.say(
            f"{compared.after.path} takes {compared.ratio:.3f} times as long as {compared.before.path} "
            f"(95 % interval {compared.low:.3f} to {compared.high:.3f}, {compared.blocks} alternating blocks)."
        )


def _latency(row: Mapping[str, Any]) -> tuple[str, ...]:
    low, high = row["latency_low_ms"], row["latency_high_ms"]
    interval = DASH if low is None or high is None else f"{max(0.0, low):.4f} to {high:.4f}"
    return (
        row["file"], row["kernels"], str(row["threads"]), number(row["latency_median_ms"], "ms", 4), interval,
        number(row["latency_p90_ms"], "ms", 4), number(row["first_inference_ms"], "ms", 3),
        number(row["init_ms"], "ms", 1), number(row.get("end_to_end_median_ms"), "ms", 4), row["verdict"],
    )  # fmt: skip


def _memory(row: Mapping[str, Any]) -> tuple[str, ...]:
    def megabytes(key: str) -> str:
        value = row.get(key)
        return number(None if value is None else value / 1e6, "MB", 1)

    arena, joules = row.get("arena_bytes"), row.get("joules_per_inference")
    return (
        row["file"], number(row["size_bytes"] / 1000, "kB", 1),
        *(megabytes(f"{phase}_peak_rss_bytes") for phase in ("load", "first", "steady")),
        megabytes("steady_private_dirty_bytes"),
        number(None if arena is None else arena / 1000, "kB", 1),
        "NOT MEASURED" if joules is None else number(1e3 * joules, "mJ", 3),
    )  # fmt: skip


def _counted(row: Mapping[str, Any]) -> tuple[str, ...]:
    keys = ("flash_bytes", "code_bytes", "arena_bytes", "stack_bytes")
    sizes = (number(row.get(key), "B") for key in keys)
    return (row["file"], row["runtime"], number(row["instructions_per_inference"]), *sizes)


def _layers(row: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    total = sum(layer["instructions"] for layer in row["layers"]) or 1
    for layer in row["layers"]:
        executed, macs = layer["instructions"], layer["macs"]
        per_mac = number(executed / macs if macs else None, digits=2)
        yield (str(layer["index"]), layer["operator"], layer["output"], number(macs), number(executed),
               percent(executed / total), per_mac)  # fmt: skip


def show_sessions(screen: Screen, old: Path, new: Path) -> None:
    """Print two stored sessions side by side, with what stands against comparing them."""
    before, after = baseline.rows(old), baseline.rows(new)
    found = list(baseline.differences(before, after))
    cells = [(d.file, d.metric, f"{d.old:.6g}", f"{d.new:.6g}", f"{d.times:.3f}") for d in found]
    screen.table("", ("file", "figure", str(old), str(new), "new / old"), cells)
    caveats = baseline.caveats(before, after)
    for caveat in caveats:
        screen.say(caveat)
    screen.say(
        "Times of two sessions differ by some percent of themselves; size, arena and instructions do not. To compare "
        "times, measure both files in turn: nbedge bench NEW --against OLD."
    )
    rows = [{"file": d.file, "metric": d.metric, "old": d.old, "new": d.new, "times": d.times} for d in found]
    screen.result({"rows": rows, "caveats": caveats})


def write_markdown(path: Path, rows: Rows) -> None:
    """Write the tables as Markdown, with the machine that they belong to."""
    timed = [row for row in rows if row.get("latency_median_ms") is not None]
    counted = [row for row in rows if row.get("instructions_per_inference") is not None]
    lines = []
    if timed or not counted:
        lines += [*_table(COLUMNS, map(_latency, timed)), "", *_table(MEMORY, map(_memory, timed))]
    if counted:
        lines += ["", *_table(COUNTED, map(_counted, counted)), "", f"{COUNTED_TITLE.capitalize()}."]
    for row in (row for row in counted if row.get("layers")):
        lines += ["", f"Layers of {row['file']} on {row['on']}:", "", *_table(LAYERS, _layers(row))]
    if timed:
        about = timed[0]["conditions"]
        lines += ["", f"{about['cpu_model']}, {about['os']}, {', '.join(sorted({row['runtime'] for row in timed}))}."]
    files.write_bytes(path, ("\n".join(lines) + "\n").encode())


def _table(columns: Sequence[str], rows: Any) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (columns, ("---",) * len(columns), *rows)]


def real_inputs(data: str, paths: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Return file -> .npz with one test picture of the data, as the file takes it."""
    import numpy as np

    found = {}
    for number_, path in enumerate(paths):
        subject, source = _opened(path, data)
        picture = subject.prepared()(source.test.images[:1])
        arrays = {"input": picture} if path.suffix == ".safetensors" else _as_taken(subject.model, picture)
        found[path] = folder / f"{number_}.npz"
        np.savez(found[path], **arrays)
    return found


def _as_taken(runner: Any, x: Any) -> dict[str, Any]:
    from nbedge.runtime import quantize

    (spec,) = runner.inputs
    laid = x.transpose(0, 2, 3, 1) if spec.layout == "NHWC" else x
    return {spec.name: quantize(laid, spec)}


def with_accuracy(rows: Rows, paths: Sequence[Path], data: str) -> list[dict[str, Any]]:
    """Return the rows with `top1` of their files on the test pictures."""
    from nbedge.cli.evaluate import answers

    with needs("train"):
        from nbedge.evaluation import judge
    found = {}
    for path in paths:
        subject, source = _opened(path, data)
        judged = judge(answers(subject, source.test.images), source.test.labels, source.classes)
        found[str(path)] = judged.top1
    return [{**row, "top1": found[row["path"]]} for row in rows]


def _opened(path: Path, data: str) -> tuple[Any, Any]:
    from nbedge.cli.subject import ModelOptions, open_subject

    with needs("train"):
        from nbedge.data import read
    from nbedge.subject import refuse_other_classes

    subject = open_subject(str(path), ModelOptions())
    source = read(data, subject.pictured())
    refuse_other_classes(subject, source.classes, data)
    return subject, source


def refuse_slower(compared: Comparison | None, times: float) -> None:
    """Refuse a file that takes more than `times` as long as another, or of which that cannot be told.

    Raises:
        GateError: it is so.
        InputError: nothing was compared.
    """
    if compared is None:
        raise InputError("an emulator measures no time; use --fail-if instructions:TIMES there")
    where = f"95 % interval {compared.low:.3f} to {compared.high:.3f}, {compared.blocks} blocks"
    if compared.exceeds(times):
        raise GateError(
            f"{compared.after.path} takes {compared.ratio:.3f} times as long as {compared.before.path}, more than "
            f"{times:g} ({where})"
        )
    if not compared.is_precise(times):
        raise GateError(
            f"this machine is too restless to tell {times:g} from 1 ({where}); close other work, or raise --seconds"
        )


def refuse_grown(rows: Rows, old: Rows, limit: baseline.Limit) -> None:
    """Refuse a file one of whose deterministic figures is more than so many times that of the baseline.

    Raises:
        GateError: it is so.
        InputError: one of the two lacks the figure.
    """
    for row in rows:
        before = baseline.matching(row, old)
        found = baseline.deterministic(limit, row, before)
        if found.times > limit.times:
            raise GateError(
                f"{found.metric} of {found.file} is {found.new:g}, {found.times:.3f} times the {found.old:g} of "
                f"{before['file']}; at most {limit.times:g} times is allowed"
            )
