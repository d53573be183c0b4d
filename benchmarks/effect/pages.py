"""The tables of all studies, written anew into the page of results; what people wrote in front of them stays."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from effect import gates, study, tables
from effect.results import RESULTS, lines
from effect.study import Study
from nbedge import files
from nbedge.errors import InputError
from nbedge.recipe import GateSection

GATES = "### What the gates would have done"
#: how the part of a section that is written anew begins
BEGINNING = re.compile(r"Control: |#### |Mean validation|No run yet|\d+ runs of giant and tuning")


def refresh(page: Path, results: Path = RESULTS) -> None:
    """Write the tables of every study that has results below its heading, `### ` and its title, in `page`.

    From the first generated line to the next heading all is replaced.

    Raises:
        InputError: the page lacks a heading.
    """
    text = files.existing(page, "the page").read_text(encoding="utf-8")
    runs: list[gates.Boosted] = []
    for path in sorted(results.glob("*.jsonl")):
        wanted, found = study.read(path.stem), lines(path)
        text = _replaced(text, f"### {wanted.title}", list(_tables(wanted, tables.page(wanted, found))))
        runs += gates.boosted(wanted, found)
    usual = GateSection()
    text = _replaced(text, GATES, list(gates.page(runs, usual.lead, usual.plt_loss)))
    files.write_bytes(page, text.encode())


def _tables(wanted: Study, page: Iterator[str]) -> Iterator[str]:
    """Yield what stands below the heading: a heading a network only where there are several."""
    several = len(wanted.networks) * len(wanted.targets) > 1
    for line in page:
        if line.startswith("### "):
            if several and " on " in line:
                yield f"#{line}"
        elif not line.startswith("## "):
            yield line


def _replaced(text: str, heading: str, body: Sequence[str]) -> str:
    found = re.search(rf"^{re.escape(heading)}\n", text, re.MULTILINE)
    if not found:
        raise InputError(f"the page has no line '{heading}'; write it, and what the study asks, first")
    section, rest = _section(text[found.end() :].splitlines())
    first = next((i for i, line in enumerate(section) if BEGINNING.match(line)), len(section))
    prose = "\n".join(section[:first]).strip()
    written = re.sub(r"\n{3,}", "\n\n", "\n".join(body).strip())
    return "\n".join((text[: found.end()], prose, "", written, "", *rest)).rstrip() + "\n"


def _section(behind: list[str]) -> tuple[list[str], list[str]]:
    end = next((i for i, line in enumerate(behind) if line.startswith(("## ", "### "))), len(behind))
    return behind[:end], behind[end:]
