"""Print docs/breadth.md from what `breadth.py` has measured: `benchmarks/breadth_page.py > docs/breadth.md`."""

import json
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "breadth.jsonl"
#: what a row of the results holds; see `Row` in breadth.py
Row = dict[str, Any]
#: sites that a network needs to count as boosted
BOOSTED = 3

HEAD = """\
# Breadth

What nbedge makes of {count} convolutional architectures of timm {timm}, the hard ones and those that must be refused
among them. Each network has random weights from a seed; its BatchNorms have random scales and shifts, and statistics
from pictures of ramps and noise. The giant is that of the default policy (`propose` without options) at slope 1; the
BatchNorms inside its blocks are treated likewise. It is not trained, which the algebra does not need.

For each network: the layers that can be expanded, the giant, its contraction in float32 and once more in float64. The
contracted network must have the keys and shapes of a new one of timm, which loads it strictly and gives the same
answers to the last bit; parameters and multiply-accumulates must be equal; nothing beside the sites may have changed;
the error in float64 must be at most 1e-9. Anything else, and any exception that is not nbedge's own, counts as wrong.

```sh
make setup-timm
.venv-timm/bin/python benchmarks/breadth.py --resume
python benchmarks/breadth_page.py
```

The first script adds one line after the other to `benchmarks/results/breadth.jsonl` and can be stopped; the second one
prints this page. A subset, fourteen networks that are boosted and three with refusals, is measured in every CI run
(`tests/timm`).

## Summary
"""

NOTE = """\
A family holds its variants without BatchNorm too, such as those with GroupNorm (`resnet50_gn`, `efficientnet_b0_gn`) or
attention (`mobilenetv4_hybrid_medium_075`); nearly all that the first families have refused is theirs, so a share
depends on how many such variants are in the list. The table of every network has them one by one."""

REFUSALS = """\
## Why layers are refused
Of {layers} convolutions and fully connected layers {refused} are refused.

| layers | of them plain 1x1 | reason |
|---|---|---|
"""

TABLE = """\
## Every network
`1x1`: plain 1x1 convolutions that can be expanded, of all. `layers`: all convolutions and fully connected layers,
likewise. `sites`: expanded by the default policy. Parameters and multiply-accumulates (MACs) in millions, of the tiny
network and of its giant, for one picture of `side` pixels. Errors are end to end, max\\|Δ\\| / max\\|y\\|, on 4
pictures; `forward` is one pass of the giant on one picture. One thread, wall clock, on a machine with other work:
the seconds are upper bounds.

| network | side | 1x1 | layers | sites | parameters, M | MACs, M | float64 error | float32 error | keys equal \
| contract, s | / forward |
|---|---|---|---|---|---|---|---|---|---|---|---|
"""


def read(path: Path = RESULTS) -> list[Row]:
    """Return the rows of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def boosted(row: Row) -> bool:
    """Return whether a network was contracted rightly from a giant of `BOOSTED` sites or more."""
    return bool(row["sites"] >= BOOSTED and row["keys_equal"] and not row["wrong"] and not row["refusal"])


def accepted(rows: Iterable[Row]) -> tuple[int, int]:
    """Return how many plain 1x1 convolutions of `rows` can be expanded, and how many there are."""
    pairs = [(row["pointwise_accepted"], row["pointwise"]) for row in rows]
    return sum(found for found, _ in pairs), sum(total for _, total in pairs)


def families(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return family -> rows."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["family"], []).append(row)
    return found


def summary(rows: Sequence[Row]) -> str:
    """Return the figures of all networks, and the table of families."""
    giants = [row for row in rows if row["contract_s"]]
    worst64, worst32 = (_worst(giants, key) for key in ("float64_error", "float32_error"))
    ratio = statistics.median(row["contract_s"] / row["forward_s"] for row in giants)
    lines = [
        f"* **{len(rows)} networks, {sum(map(boosted, rows))} boosted at {BOOSTED} sites or more.**",
        f"* Wrong results: {sum(bool(row['wrong']) for row in rows)}. Refused as a whole: "
        f"{sum(bool(row['refusal']) for row in rows)}. Keys, shapes, parameters and MACs equal: "
        f"{sum(bool(row['keys_equal'] and row['cost_equal']) for row in rows)}.",
        f"* Largest error in float64: {worst64}. Largest in float32: {worst32}, median "
        f"{statistics.median(row['float32_error'] for row in giants):.1e}: rounding, which deep networks of random "
        "weights enlarge, as the same merge in float64 shows.",
        f"* Contraction: median {statistics.median(row['contract_s'] for row in giants):.2f} s, that is {ratio:.1f} "
        f"times a forward pass of the giant on one picture; longest {_worst(giants, 'contract_s', '{:.0f} s')}.",
        "",
        "| family | networks | boosted | plain 1x1 accepted | share |",
        "|---|---|---|---|---|",
    ]
    for family, own in families(rows).items():
        found, total = accepted(own)
        share = f"{100 * found / total:.1f} %" if total else "none"
        lines.append(f"| {family} | {len(own)} | {sum(map(boosted, own))} | {found} of {total} | {share} |")
    lines += ["", NOTE]
    return "\n".join(lines) + "\n"


def _worst(rows: Iterable[Row], key: str, form: str = "{:.1e}") -> str:
    row = max(rows, key=lambda row: row[key])
    return f"{form.format(row[key])} ({row['name']})"


def refusals(rows: Sequence[Row]) -> str:
    """Return the table of reasons."""
    every, plain = Counter[str](), Counter[str]()
    for row in rows:
        every.update(row["refused"])
        plain.update(row["pointwise_refused"])
    head = REFUSALS.format(layers=sum(row["layers"] for row in rows), refused=every.total())
    return head + "".join(f"| {count} | {plain[reason]} | {reason} |\n" for reason, count in every.most_common())


def line(row: Row) -> str:
    """Return the line of one network."""
    cells = [
        row["name"], row["side"], f"{row['pointwise_accepted']} of {row['pointwise']}",
        f"{row['layers_accepted']} of {row['layers']}",
    ]  # fmt: skip
    if row["wrong"] or row["refusal"]:
        return _cells([*cells, row["sites"], row["wrong"] or row["refusal"], *[""] * 6])
    millions: Callable[[str], str] = lambda key: " → ".join(f"{value / 1e6:.1f}" for value in row[key])  # noqa: E731
    errors = f"{row['float64_error']:.1e}", f"{row['float32_error']:.1e}"
    times = f"{row['contract_s']:.2f}", f"{row['contract_s'] / row['forward_s']:.1f}"
    equal = "yes" if row["keys_equal"] else "no"
    return _cells([*cells, row["sites"], millions("parameters"), millions("macs"), *errors, equal, *times])


def _cells(values: Iterable[object]) -> str:
    return "| " + " | ".join(map(str, values)) + " |\n"


def page(rows: Sequence[Row], timm: str) -> str:
    """Return docs/breadth.md."""
    head = HEAD.format(count=len(rows), timm=timm)
    return "\n".join([head + summary(rows), refusals(rows), TABLE + "".join(map(line, rows))])


def version_of_timm() -> str:
    """Return the version that constraints.txt pins."""
    lines = (Path(__file__).parent.parent / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return next(text.removeprefix("timm==") for text in lines if text.startswith("timm=="))


if __name__ == "__main__":
    print(page(read(), version_of_timm()), end="")
