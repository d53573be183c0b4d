"""The section on generated C of docs/results.md is what was measured, and holds what the kernels were made for."""

import json
import shutil
from pathlib import Path

import pytest

import microcontroller
import microcontroller_page as page
from microcontroller_page import NBEDGE, Row
from nbedge.device.cores import CORES
from nbedge.graph import read
from peers import bakenn

ROOT = Path(__file__).parent.parent
TINY = ROOT / "tests" / "micro" / "mlperf_tiny"
ROWS = page.recorded()
COMPARED = page.compared(ROWS)
NETS = (*microcontroller.TINY, *microcontroller.OWN)
CMSIS = ("BakeNN, CMSIS-NN", "BakeNN, CMSIS-NN throughout")


def made(**told: object) -> Row:
    row = {"net": "a", "changes": [], "engine": NBEDGE, "core": "cortex-m4", "vectors": 1, "peak_bytes": 1000,
           "outside_bytes": 0, "instructions": 1234567, "flash_bytes": 3, "code_bytes": 2, "arena_bytes": 1010,
           "stack_bytes": 4}  # fmt: skip
    return {**row, **told}


def at_all_levels(**told: object) -> list[Row]:
    return [made(optimization=level, **told) for level in page.LEVELS]


def test_the_page_is_made_from_the_results() -> None:
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert f"{page.section(ROWS)}\n## " in text
    assert text.count(page.HEADING) == 1


def test_writing_it_again_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Path(shutil.copy(page.PAGE, tmp_path))
    monkeypatch.setattr(page, "PAGE", copy)
    page.write()
    assert copy.read_bytes() == (ROOT / "docs" / "results.md").read_bytes()


def test_the_newest_row_of_a_measurement_counts(tmp_path: Path) -> None:
    record = tmp_path / "rows.jsonl"
    rows = [{**made(changes=changes), "instructions": n} for n, changes in enumerate(([], [], ["cut"], []))]
    record.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert [row["instructions"] for row in page.recorded(record)] == [3, 2]


def test_a_refusal_and_a_wrong_answer_stand_in_the_table() -> None:
    wrong = {**made(optimization="-O3", engine="other"), "differs": "byte 0"}
    del wrong["instructions"]
    rows = [*at_all_levels(), *at_all_levels(engine="other"), {**made(), "engine": "third", "refused": "code 40"}]
    rows[4] = wrong
    del rows[-1]["core"]
    _, _, own, other, refused = page.instructions(rows)
    assert own.startswith("| a | nbedge | 1 234 567 | 1 234 567 | 1 234 567 | 1 010 | 0 |")
    assert other.startswith("| a | other | 1 234 567 | wrong answers | 1 234 567 |")
    assert refused.startswith("| a | BakeNN | refused: code 40 | - |")
    assert list(page.arenas(rows))[2:] == ["| a | nothing | 1 000 | 1 010 | 1.010 | - |"]


def test_every_net_is_measured_and_every_answer_is_right() -> None:
    assert [row for row in ROWS if "differs" in row] == []
    assert {net for net, engine in COMPARED if engine == NBEDGE} == set(NETS)
    assert all(len(at) == len(page.LEVELS) for at in COMPARED.values())
    whole = {(row["net"], row["core"]) for row in ROWS if row["engine"] == NBEDGE and not row["changes"]}
    assert len(whole) == len(NETS) * len(CORES)


@pytest.mark.parametrize("net", microcontroller.TINY)
def test_fewer_instructions_than_with_cmsis_nn(net: str) -> None:
    for level in page.LEVELS:
        own, *others = (COMPARED[net, engine][level]["instructions"] for engine in (NBEDGE, *CMSIS))
        assert own < min(others)


@pytest.mark.parametrize("net", NETS)
def test_the_arena_is_hardly_more_than_what_lives_at_once_and_the_code_is_small(net: str) -> None:
    row = COMPARED[net, NBEDGE]["-Os"]
    assert page.ram(row) <= 1.02 * row["peak_bytes"]
    assert row["code_bytes"] <= 8 * 1024


def test_the_peak_counts_what_lives_at_once() -> None:
    # input and result of the first pointwise convolution
    assert microcontroller.peak_bytes(read(TINY / "vww_96_int8.tflite")) == 48 * 48 * (8 + 16)
    # the sum of a block needs its two inputs and its result
    assert microcontroller.peak_bytes(read(TINY / "pretrainedResnet_quant.tflite")) == 3 * 32 * 32 * 16


def test_bakenn_gets_what_was_changed_least(tmp_path: Path) -> None:
    out = tmp_path / "out.tflite"
    path = TINY / "kws_ref_model.tflite"
    assert bakenn.rewrite(path, out) == ("SOFTMAX cut", "batch fixed", "options given to RESHAPE")
    before, after = read(path), read(out)
    assert [operator.kind for operator in after.operators] == [operator.kind for operator in before.operators[:-1]]
    assert after.inputs == before.inputs
    sample = ROOT / "sample_models" / "blood_cells" / "exports" / "blood_cells.int8.tflite"
    assert bakenn.rewrite(sample, out) == ()
    assert out.read_bytes() == sample.read_bytes()
