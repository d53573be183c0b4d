"""The tables of integer files in docs/results.md are what was measured, and the measurements hold what is promised."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import integer_files_page as page
from integer_files import paired
from integer_files_page import OWN, Row
from nbedge.benchmark.statistics import ratio_interval
from peers import scripts

ROOT = Path(__file__).parent.parent
FOUND = page.recorded()
NETS = (
    "fashion_mnist, contracted", "fashion_mnist, spread", "fashion_mnist, outlier", "fashion_mnist, control",
    "blood_cells, contracted", "blood_cells, control", "cifar10, contracted", "cifar10, control",
    "cifar10, MobileNetV2-0.35",
)  # fmt: skip


def made(tool: str, format: str, points: float, *latencies: float) -> Row:
    others = {other: {"points": points, "margin": 0.5} for other in (*scripts.OURS, *scripts.PEERS)}
    return {
        "net": "a", "tool": tool, "format": format, "seconds": [2.0, 2.0], "loss": {"points": points, "margin": 1},
        "sqnr_db": 30.0, "bytes": 1200, "latencies_ms": latencies, "peak_rss_bytes": 5000, "behind": others,
    }  # fmt: skip


def all_of_them() -> Iterator[Row]:
    for tool, own in scripts.OURS.items():
        yield made(tool, own.format, 0.2, 0.5, 0.5)
    for tool, peer in scripts.PEERS.items():
        yield made(tool, peer.format, 0.1 if tool.startswith("tensorflow") else 3, 0.4, 0.4)


def test_the_page_is_made_from_the_results() -> None:
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert f"\n\n{page.tables(FOUND)}\n\n## " in text
    assert text.count(page.HEADING) == 1


def test_writing_it_again_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Path(shutil.copy(page.PAGE, tmp_path))
    monkeypatch.setattr(page, "PAGE", copy)
    page.write()
    assert copy.read_bytes() == (ROOT / "docs" / "results.md").read_bytes()


def test_the_newest_row_counts_and_ours_are_held_against_the_best(tmp_path: Path) -> None:
    record = tmp_path / "rows.jsonl"
    rows = [made("nbedge, ONNX", "onnx", 9, 1, 1), *all_of_them()]
    record.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = page.recorded(record)
    assert [row["tool"] for row in found["a"].values()] == [*scripts.OURS, *scripts.PEERS]
    first, second, *_ = page.tables(found).splitlines()[2:]
    assert first.startswith(
        "| a | nbedge, ONNX | onnxruntime's defaults | 0.20 | ± 0.50 | 1.25 | 1.25 to 1.25 | 1.00 |"
    )
    assert second.startswith("| a | nbedge, TFLite | tensorflow's converter | 0.20 |")


def test_what_was_refused_is_said() -> None:
    rows = {row["tool"]: row for row in all_of_them()}
    rows["nbedge, ONNX"] = {"net": "a", "tool": "nbedge, ONNX", "format": "onnx", "seconds": [3.0]}
    assert "| a | nbedge, ONNX | not kept |  |  |  |  |  | 3.0 |" in page.tables({"a": rows})


def test_losses_are_paired() -> None:
    before, after = np.array([True] * 8 + [False] * 2), np.array([False] * 2 + [True] * 7 + [False])
    lost = paired(before, after)
    assert lost["points"] == pytest.approx(10)
    assert lost["margin"] == pytest.approx(196 * np.std([1, 1, -1, 0, 0, 0, 0, 0, 0, 0]) / 10**0.5)


def test_every_network_is_measured_with_every_tool() -> None:
    assert tuple(FOUND) == NETS
    assert all(set(tools) == {*scripts.OURS, *scripts.PEERS} for tools in FOUND.values())
    assert set(OWN) == set(scripts.OURS)


def test_no_file_is_significantly_less_accurate_than_the_best_peers() -> None:
    for row, peers in page.kept(FOUND):
        behind = row["behind"][page.most_accurate(peers)["tool"]]
        assert behind["points"] <= behind["margin"], (row["net"], row["tool"])


def test_no_file_is_significantly_slower_than_the_fastest_of_the_peers() -> None:
    for row, peers in page.kept(FOUND):
        _, low, _ = ratio_interval(page.fastest(peers)["latencies_ms"], row["latencies_ms"])
        assert low <= 1, (row["net"], row["tool"])


def test_where_a_peer_loses_more_than_half_a_point_ours_lose_less_but_for_what_the_page_names() -> None:
    over = {
        (row["net"], row["tool"])
        for row, peers in page.kept(FOUND)
        if row["loss"]["points"] > 0.5 and max(peer["loss"]["points"] for peer in peers) > row["loss"]["points"]
    }
    assert over == {("fashion_mnist, outlier", "nbedge, ONNX")}
    refused = {(net, tool) for net, tools in FOUND.items() for tool, row in tools.items() if "loss" not in row}
    assert refused == {("fashion_mnist, outlier", tool) for tool in ("nbedge, TFLite", "nbedge, TFLite by litert")}


@pytest.mark.parametrize("tool", OWN)
def test_an_export_takes_no_more_than_a_fifth_longer_than_the_command_of_its_converter(tool: str) -> None:
    ratio, *_ = page.export_ratio(FOUND, tool)
    assert ratio <= 1.2
