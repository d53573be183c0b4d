"""Other ways to train the tiny model: each is a stage, a row and a candidate."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nbedge.checkpoint import STAGES, load_checkpoint
from nbedge.errors import InputError, PlanError
from nbedge.pipeline import run
from nbedge.pipeline.overparameterized import BLOCKS
from nbedge.recipe import (
    BASELINES,
    BaselinesSection,
    DataSection,
    ExportSection,
    GateSection,
    ModelSection,
    PlanSection,
    Recipe,
    TrainSection,
    TransferSection,
    read,
    to_toml,
)
from nbedge.report import closing, summarize

WIDER = ({"width_mult": 0.5}, {"width_mult": 0.75})
RECIPE = Recipe(
    "small", ModelSection("sample:mobilenet_v2_tiny", (1, 28, 28), {"width_mult": 0.25}), DataSection("generated:10"),
    train=TrainSection(batch_size=16, learning_rate=0.05, giant_epochs=1, plt_epochs=2, ramp=0.5, warmup_epochs=0.0),
    baselines=BaselinesSection(BASELINES, WIDER), export=ExportSection(formats=()), gate=GateSection(-100, 100),
)  # fmt: skip


@pytest.mark.group("path")
def test_every_baseline_is_a_row_and_a_candidate(tmp_path: Path) -> None:
    run(RECIPE, tmp_path / "run")
    rows = {row["name"]: row for row in json.loads((tmp_path / "run/evaluation.json").read_text())["rows"]}
    assert list(rows) == ["control", *BASELINES, "giant", "contracted"]
    for name in BASELINES:  # of exactly the tiny architecture
        assert (rows[name]["parameters"], rows[name]["macs"]) == (
            rows["control"]["parameters"],
            rows["control"]["macs"],
        )
        load_checkpoint(tmp_path / f"run/{name}.safetensors")
    held = json.loads((tmp_path / "run/choice.json").read_text())
    assert list(held["validation_score"]) == ["control", *BASELINES, "contracted"]
    assert held["validation_score"][held["chosen"]] == max(held["validation_score"].values())
    said = summarize(tmp_path / "run").closing()
    assert "trained in other ways: two-phase" in said
    assert "the giant, is not counted" in said
    verdicts = {row.name: row.verdict for row in summarize(tmp_path / "run").rows}
    assert {name for name, verdict in verdicts.items() if verdict == "PASS"} == {"linear", "branches", "contracted"}
    epochs = {name: len(json.loads((tmp_path / f"run/curves/{name}.json").read_text())["epochs"])
              for name in ("control", "first-phase", *BASELINES)}  # fmt: skip
    more = epochs.pop("same-macs")
    assert epochs == dict.fromkeys(epochs, 3) | {"first-phase": 1, "two-phase": 2}
    spent = 3 * rows["giant"]["macs"]
    assert more * rows["control"]["macs"] <= spent < (more + 1) * rows["control"]["macs"]


def test_a_recipe_with_baselines_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(to_toml(RECIPE), encoding="utf-8")
    assert read(tmp_path / "recipe.toml") == RECIPE


def test_the_closing_words_know_every_baseline() -> None:
    assert closing.BASELINES == BASELINES


@pytest.mark.group("path")
def test_blocks_that_were_linear_from_the_start_are_proven(tmp_path: Path) -> None:
    run(replace(RECIPE, baselines=BaselinesSection(("linear", "branches"))), tmp_path, until="branches")
    found = [json.loads(path.read_text()) for path in (tmp_path / "verification").iterdir()]
    assert {(edge["candidate"], edge["verdict"]) for edge in found} == {
        ("linear.safetensors", "PASS"), ("branches.safetensors", "PASS"),
    }  # fmt: skip
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["stages"]["linear"]["verdict"] == "PASS"


@pytest.mark.group("path")
def test_a_changed_baseline_leaves_the_others_alone(tmp_path: Path) -> None:
    events: dict[str, str] = {}
    run(replace(RECIPE, baselines=BaselinesSection(("netaug", "teacher-free"), WIDER)), tmp_path, until="teacher-free")
    changed = replace(RECIPE, baselines=BaselinesSection(("netaug", "teacher-free", "two-phase"), WIDER[1:]))
    run(
        changed, tmp_path, resume=True, until="two-phase",
        listener=lambda stage, event, _seconds: events.update({stage: event}),
    )  # fmt: skip
    assert {stage for stage, event in events.items() if event == "done"} == {"netaug", "first-phase", "two-phase"}
    assert {stage for stage, event in events.items() if event == "skipped"} == {
        "plan", "control", "giant", "teacher-free",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("train", "wide", "said"),
    [
        (("twophase",), (), "train holds 'twophase'; choose from two-phase"),
        (("two-phase", "two-phase"), (), "'two-phase' 2 times"),
        (("netaug",), (), "netaug goes with wide"),
        ((), WIDER, "netaug goes with wide"),
    ],
)
def test_what_is_no_baseline_is_refused(train: tuple[str, ...], wide: tuple[dict[str, float], ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        BaselinesSection(train, wide)


def test_the_report_knows_them_all() -> None:
    assert closing.BASELINES == BASELINES
    assert set(BASELINES) < set(STAGES)
    assert tuple(BLOCKS) == closing.LINEAR


def test_a_transfer_has_none() -> None:
    with pytest.raises(InputError, match=r"baselines\.train is for a training from scratch"):
        replace(RECIPE, transfer=TransferSection("giant.safetensors", "control.safetensors"))


@pytest.mark.parametrize(
    ("wide", "said"),
    [
        (({"width_mult": 0.25},), r"baselines\.wide\[0\] is no wider than"),
        (({"width_mult": 0.75}, {"width_mult": 0.5}), r"wide\[1\] is narrower at"),
        (({"width_mult": "broad"},), "width_mult"),
    ],
)
def test_networks_that_cannot_share_weights_are_refused_before_anything_is_trained(
    wide: tuple[dict[str, float | str], ...], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        run(replace(RECIPE, baselines=BaselinesSection(("netaug",), wide)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_network_without_layers_for_branches_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "flat.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, 10))\n"
    )
    model = ModelSection(f"{tmp_path / 'flat.py'}:make", (1, 28, 28), {})
    asked = replace(RECIPE, model=model, plan=PlanSection(block="basic", choose="all"))
    with pytest.raises(PlanError, match=r"baselines\.train holds 'branches': the model has no layer"):
        run(replace(asked, baselines=BaselinesSection(("branches",))), tmp_path / "run")
    assert not (tmp_path / "run").exists()
