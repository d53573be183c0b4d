"""The section of docs/results.md that shows what `microcontroller.py` has measured."""

import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "microcontroller.jsonl"
PAGE = Path(__file__).parent.parent / "docs" / "results.md"
HEADING = "## Generated C on microcontrollers"
#: a measurement
Row = dict[str, Any]
NBEDGE = "nbedge"
LEVELS = ("-O2", "-O3", "-Os")
WIDTH = 120

#: paragraphs, blocks and headings
HEAD = """\
The C that `nbedge deploy` writes, beside that of [BakeNN](https://pypi.org/project/bakenn/) {bakenn}, which makes C of
integer TFLite files too, by itself or with Arm's CMSIS-NN. The nets are the four of MLPerf Tiny and the two samples;
{compiler}, {emulator}. **Instructions are no cycles**: see
[measuring](measuring.md#on-an-emulated-microcontroller), also for what flash, code and stack hold. Compiler, flags,
harness and {vectors} golden vectors, noise of any mean and width, are the same for all. Every answer was TFLite
Micro's, byte for byte{but}. Counts are those of the vector that takes most.

```sh
python benchmarks/microcontroller.py FOLDER --bakenn PYTHON
```

The script says what FOLDER holds and how PYTHON gets BakeNN. It appends to
[microcontroller.jsonl](../benchmarks/results/microcontroller.jsonl), and writes this section from there.

### Beside BakeNN, on a Cortex-M4

BakeNN refuses the files of MLPerf Tiny as they are: for an open batch, for RESHAPE without options, for SOFTMAX. So
all get the same file with the least of changes, see the last table; no other operator differs. *CMSIS-NN* is what
BakeNN makes for a Cortex-M4: convolutions that are padded more at one end than at the other, of which each net of
MLPerf Tiny with convolutions has some, it leaves to C of its own. *CMSIS-NN throughout* overrules that check; its
answers are TFLite Micro's as well.
The arena is that at -O2, with all scratch, input and output: nbedge's lie inside it, BakeNN's outside, which are
counted in."""
MEMORY = "Flash, and the code in it, in bytes:"
PEAK = """\
*Peak* is the most bytes of tensors that live at once while any operator runs, if none writes over what it reads and
RESHAPE takes nothing. An arena below it is of C that makes PAD a part of the convolution behind it, or writes the
result of ADD over an input. The last column is the arena of *BakeNN, CMSIS-NN*, input and output included."""
CORES = """\
### The whole files on other cores

nbedge's C at -O2, of the files as they are. All {count} answers are TFLite Micro's, byte for byte{but}. The M0+ and the
M3 have no DSP instructions; those of vectors, which the M55 has, the C does not use. The M0+ counts are of its C on a
Cortex-M3, which executes the same instructions."""


def recorded(path: Path = RESULTS) -> list[Row]:
    """Return the newest row of each measurement, in the order in which they came first."""
    newest: dict[tuple[Any, ...], Row] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        key = (row["net"], bool(row["changes"]), row["engine"], row.get("core"), row.get("optimization"))
        newest[key] = row
    return list(newest.values())


def compared(rows: Iterable[Row]) -> dict[tuple[str, str], dict[str, Row]]:
    """Return (net, engine) -> level -> row, of the files that BakeNN was given; refusals have none."""
    rows = list(rows)
    changed = {row["net"] for row in rows if row["changes"]}
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        if row.get("core") == "cortex-m4" and bool(row["changes"]) == (row["net"] in changed):
            found.setdefault((row["net"], row["engine"]), {})[row["optimization"]] = row
    return found


def section(rows: Sequence[Row]) -> str:
    """Return the section, its heading included."""
    differing = [row for row in rows if "differs" in row]
    named = "".join(f", but: {row['differs']} ({row['engine']})" for row in differing)
    said = {key: _said(rows, key) for key in ("compiler", "emulator", "vectors")}
    head = HEAD.format(bakenn=_said(rows, "version"), but=named, **said)
    own = [row for row in rows if not row["changes"] and row["engine"] == NBEDGE and row["optimization"] == "-O2"]
    cores = CORES.format(count=sum(row["vectors"] for row in own), but=" but those named above" * bool(differing))
    tables = (instructions(rows), memory(rows), arenas(rows), whole(own))
    parts = [part for text, table in zip((head, MEMORY, PEAK, cores), tables, strict=True)
             for part in (_filled(text), "\n".join(table))]  # fmt: skip
    return f"{HEADING}\n" + "\n\n".join(parts) + "\n"


def _filled(text: str) -> str:
    """Return paragraphs as lines of the page's width; blocks of code and headings stay."""
    return "\n\n".join(
        part if part.startswith(("```", "#")) else textwrap.fill(part, WIDTH, break_on_hyphens=False)
        for part in text.split("\n\n")
    )


def _said(rows: Iterable[Row], key: str) -> str:
    return ", ".join(sorted({str(row[key]) for row in rows if row.get(key)}))


def instructions(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of the table of instructions, arena and stack."""
    yield _cells("net", "C of", *(f"instructions, {level}" for level in LEVELS), "arena, bytes", "of it outside",
                 *(f"stack, {level}" for level in LEVELS))  # fmt: skip
    yield "|---" * (4 + 2 * len(LEVELS)) + "|"
    for (net, engine), at in compared(rows).items():
        first = at[LEVELS[0]]
        arena = number(ram(first)) if "arena_bytes" in first else "-"
        counts, stacks = ([_of(at[level], key) for level in LEVELS] for key in ("instructions", "stack_bytes"))
        yield _cells(net, engine, *counts, arena, number(first["outside_bytes"]), *stacks)
    refusals = dict.fromkeys((row["net"], row["refused"]) for row in rows if row.get("refused"))
    for net, refused in refusals:
        yield _cells(net, "BakeNN", f"refused: {refused}", *["-"] * (1 + 2 * len(LEVELS)))


def memory(rows: Iterable[Row]) -> Iterator[str]:
    """Yield the lines of the table of flash and code."""
    yield _cells("net", "C of", *(f"{what}, {level}" for what in ("flash", "code") for level in LEVELS))
    yield "|---" * (2 + 2 * len(LEVELS)) + "|"
    for (net, engine), at in compared(rows).items():
        sizes = [_of(at[level], f"{what}_bytes") for what in ("flash", "code") for level in LEVELS]
        yield _cells(net, engine, *sizes)


def arenas(rows: Iterable[Row]) -> Iterator[str]:
    """Yield the lines of the table of arenas beside the peak of live tensors, and of what was changed in the files."""
    yield _cells("net", "changed in the file", "peak, bytes", "arena", "arena / peak", "BakeNN's / peak")
    yield "|---" * 6 + "|"
    found = compared(rows)
    for (net, engine), at in found.items():
        if engine == NBEDGE:
            row, other = at["-O2"], found.get((net, "BakeNN, CMSIS-NN"), {}).get("-O2", {})
            peak = row["peak_bytes"]
            theirs = f"{ram(other) / peak:.3f}" if "arena_bytes" in other else "-"
            changes = ", ".join(row["changes"]) or "nothing"
            yield _cells(net, changes, number(peak), number(ram(row)), f"{ram(row) / peak:.3f}", theirs)


def whole(rows: Iterable[Row]) -> Iterator[str]:
    """Yield the lines of the table of the cores."""
    counts: dict[str, dict[str, str]] = {}
    for row in rows:
        counts.setdefault(row["net"], {})[row["core"]] = _of(row, "instructions")
    cores = list(next(iter(counts.values()), ()))
    yield _cells("net", *cores)
    yield "|---" * (1 + len(cores)) + "|"
    for net, at in counts.items():
        yield _cells(net, *(at[core] for core in cores))


def ram(row: Row) -> int:
    """Return the bytes of the arena, scratch, input and output."""
    return int(row["arena_bytes"] + row["outside_bytes"])


def number(value: int) -> str:
    """Return a number as the page writes it."""
    return f"{value:,}".replace(",", " ")


def _of(row: Row, key: str) -> str:
    return number(row[key]) if key in row else "wrong answers"


def _cells(*values: str) -> str:
    return f"| {' | '.join(values)} |"


def write() -> None:
    """Put the section into docs/results.md, in the place of what is under its heading."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, after = text.partition(f"{HEADING}\n")
    rest = re.search(r"^## ", after, re.MULTILINE)
    made = section(recorded()) + (f"\n{after[rest.start() :]}" if rest else "")
    PAGE.write_text(before + made, encoding="utf-8")
