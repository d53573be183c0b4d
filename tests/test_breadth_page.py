"""docs/breadth.md is what was measured, and holds what it was made for."""

from pathlib import Path

import pytest

import breadth_page

ROOT = Path(__file__).parent.parent
ROWS = breadth_page.read()
#: nine of ten of their plain 1x1 convolutions must be accepted
NINE_OF_TEN = (
    "mobilenetv1", "mobilenetv2", "mobilenetv3", "mobilenetv4", "efficientnet", "efficientnet_lite", "mnasnet", "fbnet",
    "resnet", "regnet", "ghostnet",
)  # fmt: skip


def test_the_page_is_made_from_the_results() -> None:
    made = breadth_page.page(ROWS, breadth_page.version_of_timm())
    assert (ROOT / "docs" / "breadth.md").read_text(encoding="utf-8") == made


def test_every_architecture_of_the_list_is_measured() -> None:
    lines = (ROOT / "benchmarks" / "breadth.txt").read_text(encoding="utf-8").splitlines()
    listed = [name for line in lines if not line.startswith("#") for name in line.partition(":")[2].split()]
    assert [row["name"] for row in ROWS] == listed
    assert len(set(listed)) == len(listed) >= 150


def test_no_result_is_wrong() -> None:
    assert [row["name"] for row in ROWS if row["wrong"]] == []
    assert max(row["float64_error"] for row in ROWS if row["float64_error"] is not None) <= 1e-9


def test_enough_networks_are_boosted() -> None:
    assert sum(map(breadth_page.boosted, ROWS)) >= 110


@pytest.mark.parametrize("family", NINE_OF_TEN)
def test_a_family_that_the_method_is_for_is_accepted(family: str) -> None:
    found, total = breadth_page.accepted(breadth_page.families(ROWS)[family])
    assert found >= 0.9 * total > 0
