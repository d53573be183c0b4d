"""The tables of docs/results.md that show what `integer_files.py` has measured."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbedge.benchmark.statistics import geometric_interval, ratio_interval

RESULTS = Path(__file__).parent / "results" / "integer_files.jsonl"
PAGE = Path(__file__).parent.parent / "docs" / "results.md"
HEADING = "## Integer files beside those of other tools"
#: what was measured on one file
Row = dict[str, Any]
#: our way -> the command of the converter that it stands on
OWN = {
    "nbedge, ONNX": "onnxruntime's defaults",
    "nbedge, TFLite": "onnx2tf -oiqt",
    "nbedge, TFLite by litert": "litert-torch, ai-edge-quantizer's defaults",
}
#: net -> tool -> row
Found = Mapping[str, Mapping[str, Row]]
#: networks that were spoiled so that the accuracy ladder is climbed
SPOILED = ("fashion_mnist, spread", "fashion_mnist, outlier")
BESIDE = ("network", "file", "most accurate peer", "loses more than it, points", "95 %", "latency / the fastest peer's",
          "95 %", "export / its converter's own")  # fmt: skip
EXPORT = ("file", "its converter's own command", "networks", "ours / its own", "95 %")
ALONE = ("network", "file", "top-1 loss, points", "95 %", "SQNR, dB", "latency, ms", "peak memory, kB", "size, kB",
         "export, s")  # fmt: skip


def recorded(path: Path = RESULTS) -> Found:
    """Return the newest row of each tool on each network, in the order in which they came first."""
    found: dict[str, dict[str, Row]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found.setdefault(row["net"], {})[row["tool"]] = row
    return found


def kept(found: Found) -> Iterator[tuple[Row, list[Row]]]:
    """Yield each file of ours that was kept, with those of the peers in its format."""
    for tools in found.values():
        for tool in OWN:
            if "loss" in tools[tool]:
                yield tools[tool], [row for name, row in tools.items()
                                    if name not in OWN and row["format"] == tools[tool]["format"]]  # fmt: skip


def most_accurate(peers: Iterable[Row]) -> Row:
    """Return the file that loses least."""
    return min(peers, key=lambda row: float(row["loss"]["points"]))


def fastest(peers: Iterable[Row]) -> Row:
    """Return the file of the least latency."""
    return min(peers, key=latency)


def latency(row: Row) -> float:
    """Return the geometric mean of the rounds, in ms."""
    return geometric_interval(row["latencies_ms"])[0]


def tables(found: Found) -> str:
    """Return the tables, and the lines between them."""
    return "\n".join([
        *_table(BESIDE, _beside(found)), "", "Seconds of an export where no rung is climbed, over these networks:", "",
        *_table(EXPORT, _exported(found)), "", "Every file:", "", *_table(ALONE, _alone(found)),
    ])  # fmt: skip


def _beside(found: Found) -> Iterator[Sequence[str]]:
    for row, peers in kept(found):
        best = most_accurate(peers)
        behind = row["behind"][best["tool"]]
        own = found[row["net"]][OWN[row["tool"]]]
        yield (
            row["net"], row["tool"], best["tool"], f"{behind['points']:.2f}", f"± {behind['margin']:.2f}",
            *_ratio(fastest(peers)["latencies_ms"], row["latencies_ms"]), _ratio(own["seconds"], row["seconds"])[0],
        )  # fmt: skip


def _exported(found: Found) -> Iterator[Sequence[str]]:
    for tool, own in OWN.items():
        ratio, low, high = export_ratio(found, tool)
        yield tool, own, str(len(found.keys() - set(SPOILED))), f"{ratio:.2f}", f"{low:.2f} to {high:.2f}"


def export_ratio(found: Found, tool: str) -> tuple[float, float, float]:
    """Return our seconds over those of the converter's own command, and its 95 % interval over the networks."""
    plain = [tools for net, tools in found.items() if net not in SPOILED]
    ours, own = ([geometric_interval(tools[name]["seconds"])[0] for tools in plain] for name in (tool, OWN[tool]))
    return ratio_interval(own, ours)


def _alone(found: Found) -> Iterator[Sequence[str]]:
    for net, tools in found.items():
        for tool, row in tools.items():
            seconds = f"{geometric_interval(row['seconds'])[0]:.1f}"
            if "loss" not in row:
                yield net, tool, "not kept", *[""] * 5, seconds
                continue
            yield (
                net, tool, f"{row['loss']['points']:.2f}", f"± {row['loss']['margin']:.2f}", f"{row['sqnr_db']:.1f}",
                f"{latency(row):.3f}", f"{row['peak_rss_bytes'] / 1000:.0f}", f"{row['bytes'] / 1000:.1f}", seconds,
            )  # fmt: skip


def _ratio(theirs: Sequence[float], ours: Sequence[float]) -> tuple[str, str]:
    ratio, low, high = ratio_interval(theirs, ours)
    return f"{ratio:.2f}", f"{low:.2f} to {high:.2f}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    yield from (f"| {' | '.join(cells)} |" for cells in rows)


def write() -> None:
    """Put the tables into docs/results.md: what stands above the first one in that section stays."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, after = text.partition(f"{HEADING}\n")
    rest = re.search(r"^## ", after, re.MULTILINE)
    section = after[: rest.start()] if rest else after
    first = re.search(r"^\| ", section, re.MULTILINE)
    prose = section[: first.start()] if first else f"{section.rstrip()}\n\n"
    end = f"\n{after[rest.start() :]}" if rest else ""
    PAGE.write_text(f"{before}{HEADING}\n{prose}{tables(recorded())}\n{end}", encoding="utf-8")
