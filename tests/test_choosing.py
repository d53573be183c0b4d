"""A gate stops boosting and says why; the better of control and contracted model is what is exported."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nbedge import files
from nbedge.checkpoint import read_metadata
from nbedge.errors import InputError
from nbedge.pipeline import manifest, run
from nbedge.pipeline.derived import rehearsal
from nbedge.recipe import DataSection, ExportSection, GateSection, ModelSection, Recipe, TrainSection
from nbedge.report import summarize, write

RECIPE = Recipe(
    "small", ModelSection("sample:mobilenet_v2_tiny", (1, 28, 28), {"width_mult": 0.25}), DataSection("generated:10"),
    train=TrainSection(batch_size=16, learning_rate=0.05, giant_epochs=1, plt_epochs=2, ramp=0.5, warmup_epochs=0.0),
    export=ExportSection(formats=("onnx",), quant=("fp32",)), gate=GateSection(-100, 100),
)  # fmt: skip
BOOSTING = {"linearize", "gate-plt", "contract", "verify"}


def done(recipe: Recipe, folder: Path, *, resume: bool = False) -> dict[str, str]:
    """Run a recipe and return the last event of each stage."""
    events: dict[str, str] = {}
    run(recipe, folder, resume=resume, listener=lambda stage, event, _seconds: events.update({stage: event}))
    return events


def choice(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "choice.json").read_text())
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("choosing") / "run"
    assert set(done(RECIPE, folder).values()) == {"done"}
    return folder


@pytest.mark.group("path")
def test_the_better_one_is_exported_and_named(finished: Path) -> None:
    found = choice(finished)
    held = found["validation_score"]
    assert isinstance(held, dict)
    assert held.keys() == {"control", "contracted"}
    better = "contracted" if held["contracted"] > held["control"] else "control"
    assert found["chosen"] == better
    assert files.sha256(finished / "chosen.safetensors") == files.sha256(finished / f"{better}.safetensors")
    (sidecar,) = finished.glob("exports/*.onnx.json")
    assert json.loads(sidecar.read_text())["derived_from"] == f"{better}.safetensors"
    assert f"The product is the {better} model" in summarize(finished).closing()
    edges = [json.loads(path.read_text()) for path in (finished / "verification").glob("*evaluate*.json")]
    assert {edge["reference"] for edge in edges} == {f"{better}.safetensors on test pictures"}


@pytest.mark.group("path")
def test_a_giant_without_a_lead_is_left_alone_and_the_control_is_exported(finished: Path) -> None:
    asked = replace(RECIPE, gate=GateSection(100, 100))
    events = done(asked, finished, resume=True)
    assert {stage for stage, event in events.items() if event == "left out"} == BOOSTING
    assert events["control"] == events["giant"] == "skipped"
    assert not (finished / "contracted.safetensors").exists()
    assert BOOSTING.isdisjoint(manifest.read(finished).stages)
    assert choice(finished)["chosen"] == "control"
    assert read_metadata(finished / "chosen.safetensors").stage == "control"
    closing = summarize(finished).closing()
    assert "Boosting was stopped: the giant is" in closing
    assert "+100.0 are asked for" in closing
    assert "Boosting was stopped" in write(finished, finished / "page.html").read_text(encoding="utf-8")
    # what a stage that was killed has left behind is no part of the run
    (finished / "contracted.safetensors").write_bytes(b"cut short")
    assert "done" not in done(asked, finished, resume=True).values()
    # and back: what was left out is done
    assert done(RECIPE, finished, resume=True)["contract"] == "done"
    assert (finished / "contracted.safetensors").exists()


@pytest.mark.group("path")
def test_a_giant_that_loses_too_much_is_not_contracted(finished: Path) -> None:
    asked = replace(RECIPE, gate=GateSection(-100, -100))
    events = done(asked, finished, resume=True)
    assert {stage for stage, event in events.items() if event == "left out"} == BOOSTING - {"linearize", "gate-plt"}
    assert "while it became linear, -100.0 are allowed" in summarize(finished).closing()
    # the stages before the gate that has stopped are done, and stay so
    again = done(asked, finished, resume=True)
    assert again == {stage: event if event == "left out" else "skipped" for stage, event in events.items()}


@pytest.mark.group("path")
def test_in_one_cycle_the_giant_is_compared_with_the_control_of_the_same_epoch(tmp_path: Path) -> None:
    cycle = replace(RECIPE, train=replace(RECIPE.train, schedule="one-cycle"), export=ExportSection(formats=()))
    done(cycle, tmp_path / "run")
    curves = {name: json.loads((tmp_path / f"run/curves/{name}.json").read_text())["epochs"]
              for name in ("control", "giant", "linearized")}  # fmt: skip
    gate = json.loads((tmp_path / "run/gates/giant.json").read_text())
    assert gate["control"] == curves["control"][0]["validation_score"]
    rates = [point["learning_rate"] for point in (*curves["giant"], *curves["linearized"])]
    assert rates == pytest.approx([point["learning_rate"] for point in curves["control"]])


@pytest.mark.group("path")
def test_the_norm_bias_is_that_of_control_and_giant(tmp_path: Path) -> None:
    model = replace(RECIPE.model, norm_bias=1.0)
    slow = replace(RECIPE.train, learning_rate=1e-9)
    run(replace(RECIPE, model=model, train=slow), tmp_path / "run", until="giant")
    from nbedge.checkpoint import tensors

    for name in ("control", "giant"):
        state = tensors(tmp_path / f"run/{name}.safetensors")
        assert any(key.endswith("bias") and value.mean().item() == pytest.approx(1) for key, value in state.items())


def test_a_rehearsal_is_never_stopped() -> None:
    assert rehearsal(replace(RECIPE, gate=GateSection(50, 0))).gate == GateSection(-100, 100)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"lead": 101.0}, "lead is 101"),
        ({"plt_loss": float("nan")}, "plt_loss is nan"),
    ],
)
def test_limits_are_points(values: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        GateSection(**values)


def test_one_cycle_has_one_learning_rate() -> None:
    with pytest.raises(InputError, match=r"leave out train\.plt_learning_rate"):
        replace(RECIPE, train=replace(RECIPE.train, schedule="one-cycle", plt_learning_rate=0.1))
    with pytest.raises(InputError, match=r"model\.norm_bias is inf"):
        replace(RECIPE, model=replace(RECIPE.model, norm_bias=float("inf")))
