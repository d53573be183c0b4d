"""The tables of the study of effect on the page of results are those of the committed lines."""

import shutil
from pathlib import Path

import pytest

from effect import pages, study, tables
from effect.results import RESULTS, lines
from nbedge.errors import InputError

PAGE = Path(__file__).parents[1] / "docs" / "results.md"
STUDIES = sorted(path.stem for path in RESULTS.glob("*.jsonl"))


def test_every_table_is_on_the_page(tmp_path: Path) -> None:
    again = tmp_path / PAGE.name
    shutil.copy(PAGE, again)
    pages.refresh(again)
    assert again.read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")


def test_a_line_that_was_not_found_leaves_the_page(tmp_path: Path) -> None:
    found = tmp_path / "results"
    shutil.copytree(RESULTS, found)
    path = found / "gates.jsonl"
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")
    again = tmp_path / PAGE.name
    shutil.copy(PAGE, again)
    pages.refresh(again, found)
    changed = set(PAGE.read_text(encoding="utf-8").splitlines()) - set(again.read_text(encoding="utf-8").splitlines())
    assert changed
    assert {line[0] for line in changed} <= {"|", "1"}  # rows, and how many runs there are


def test_a_study_without_a_heading_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Results\n\n#### {study.read(STUDIES[0]).title}\n", encoding="utf-8")
    with pytest.raises(InputError, match="has no line '### "):
        pages.refresh(page)
    assert page.read_text(encoding="utf-8").startswith("# Results\n\n####")


@pytest.mark.parametrize("name", STUDIES)
def test_the_lines_are_whole_and_of_one_kind_of_code(name: str) -> None:
    found = lines(RESULTS / f"{name}.jsonl")
    wanted = study.read(name)
    assert {line.method for line in found} <= wanted.methods.keys()
    assert all(line.test is None for line in found if line.tuning)
    assert all(line.test is not None and line.seed in wanted.seeds for line in found if not line.tuning)


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
