"""The tables of the study of effect on the page of results are those of the committed lines."""

from pathlib import Path

import pytest

from effect import gates, study, tables
from effect.results import RESULTS, lines
from nbedge.recipe import GateSection

PAGE = Path(__file__).parents[1] / "docs" / "results.md"
STUDIES = sorted(path.stem for path in RESULTS.glob("*.jsonl"))


def rows(page: list[str]) -> list[str]:
    return [line for line in page if line.startswith("|")]


@pytest.mark.parametrize("name", STUDIES)
def test_every_table_is_on_the_page(name: str) -> None:
    page = "\n".join(tables.page(study.read(name), lines(RESULTS / f"{name}.jsonl")))
    found = ["\n".join(rows(part.splitlines())) for part in page.split("\n\n")]
    assert [table for table in found if table not in PAGE.read_text(encoding="utf-8")] == []
    assert any(found)


@pytest.mark.parametrize("name", STUDIES)
def test_the_lines_are_whole_and_of_one_kind_of_code(name: str) -> None:
    found = lines(RESULTS / f"{name}.jsonl")
    wanted = study.read(name)
    assert {line.method for line in found} <= wanted.methods.keys()
    assert all(line.test is None for line in found if line.tuning)
    assert all(line.test is not None and line.seed in wanted.seeds for line in found if not line.tuning)


def test_the_error_rates_of_the_gates_are_on_the_page() -> None:
    runs = [run for name in STUDIES for run in gates.boosted(study.read(name), lines(RESULTS / f"{name}.jsonl"))]
    usual = GateSection()
    found = list(gates.page(runs, usual.lead, usual.plt_loss))
    text = PAGE.read_text(encoding="utf-8")
    assert found[0] in text
    assert all(row in text for row in rows(found))


def test_what_the_page_says_of_the_fall_back_is_so() -> None:
    lows = []
    for name in STUDIES:
        wanted, found = study.read(name), [line for line in lines(RESULTS / f"{name}.jsonl") if not line.tuning]
        for network, data in {(line.network, line.data) for line in found}:
            of = {
                method: [x for x in found if (x.network, x.data, x.method) == (network, data, method)]
                for method in wanted.methods
            }
            control = tables.best_control(wanted, of)
            assert control is not None
            for method in (method for method in of if of[method] and method != control):
                kept = tables.fall_back(of[method], of[control])
                lows.append(tables.difference(kept, tables.by_seed(of[control])))
    judged = [interval for interval in lows if interval.count > 1]
    assert f"of the {len(judged)} rows below that have an interval" in PAGE.read_text(encoding="utf-8")
    assert [interval for interval in judged if interval.high < 0] == []
