"""The whole path on a very small budget, and what a kill in any stage leaves."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nbedge import files
from nbedge.checkpoint import load_checkpoint
from nbedge.errors import InputError, MissingDependencyError
from nbedge.pipeline import manifest, stages
from nbedge.pipeline import run as run_recipe
from nbedge.pipeline.derived import rehearsal
from nbedge.pruning import nonzero
from nbedge.recipe import DataSection, ModelSection, PruneSection, Recipe, read
from nbedge.report import summarize
from nbedge.tracing import cost

DATA = Path(__file__).parents[1] / "sample_models" / "fashion_mnist" / "data.npz"
RECIPE = f"""
name = "small"
threads = 1
[model]
reference = "sample:mobilenet_v2_tiny"
input = [1, 28, 28]
arguments = {{ width_mult = 0.25 }}
[data]
source = "npz:{DATA}"
validation = 0.5
calibration = 50
[train]
giant_epochs = 2
plt_epochs = 2
batch_size = 128
learning_rate = 0.2
[gate]
lead = -100
plt_loss = 100
[prune]
wide = {{ width_mult = 0.5 }}
[bench]
processes = 1
seconds = 0.05
[limits]
sqnr_db = 5.0
accuracy_loss = 10.0
"""
STAGES = stages(
    Recipe("small", ModelSection("sample:x", (1, 28, 28)), DataSection("npz:x"), prune=PruneSection({"width_mult": 1}))
)
ENVIRONMENT = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def finished(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    done = subprocess.run(command(recipe, folder), env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def command(recipe: Path, folder: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "nbedge", "run", str(recipe), "--out", str(folder), *more]


def digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of every checkpoint and exported file."""
    paths = [*folder.glob("*.safetensors"), *folder.glob("exports/*.*"), folder / "plan.json"]
    return {str(path.relative_to(folder)): files.sha256(path) for path in paths if path.is_file()}


def test_an_emulator_that_is_not_here_is_missed_before_anything_is_trained(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = read(recipe)
    there = replace(found, bench=replace(found.bench, on="emulated:cortex-a72"))
    with pytest.raises(MissingDependencyError, match="nbedge doctor --install emulated-pi"):
        run_recipe(there, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_second_converter_that_is_not_here_is_missed_before_anything_is_trained(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = read(recipe)
    there = replace(found, export=replace(found.export, backend=("onnx2tf", "litert")))
    with pytest.raises(MissingDependencyError, match="nbedge doctor --install litert"):
        run_recipe(there, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.group("path")
def test_the_whole_path_leaves_real_files_with_their_verdicts(finished: Path) -> None:
    names = {f"exports/small.{scheme}.{format}" for scheme in ("fp32", "int8") for format in ("onnx", "tflite")}
    assert names | {f"{name}.json" for name in names} < digests(finished).keys()
    record = manifest.read(finished)
    assert list(record.stages) == [stage.name for stage in STAGES]
    judging = {name: entry.verdict for name, entry in record.stages.items() if entry.verdict}
    assert judging == {"verify": "PASS", "export": "PASS", "evaluate": "PASS"}
    verdicts = [json.loads(path.read_text())["verdict"] for path in (finished / "verification").iterdir()]
    # 2 of the merge, 4 of the files' bytes, 8 of the files in their kernels, 4 on the test pictures
    assert len(verdicts) == 18
    assert set(verdicts) == {"PASS"}


@pytest.mark.group("path")
def test_contraction_keeps_every_answer(finished: Path) -> None:
    rows = {row["name"]: row for row in json.loads((finished / "evaluation.json").read_text())["rows"]}
    assert rows["contracted"]["parameters"] == rows["control"]["parameters"] < rows["giant"]["parameters"]
    assert rows["contracted"]["macs"] == rows["control"]["macs"] < rows["giant"]["macs"]
    assert rows["small.fp32.onnx"]["flips"] == rows["small.fp32.tflite"]["flips"] == 0
    assert rows["contracted"]["top1"] > 0.3  # chance is 0.1


@pytest.mark.group("path")
def test_the_pruned_network_costs_no_more_than_the_tiny_one(finished: Path) -> None:
    rows = {row["name"]: row for row in json.loads((finished / "evaluation.json").read_text())["rows"]}
    assert 0.8 * rows["control"]["macs"] < rows["pruned"]["macs"] <= rows["control"]["macs"]
    wide, _ = load_checkpoint(finished / "wide.safetensors")
    pruned, about = load_checkpoint(finished / "pruned.safetensors")
    assert about.widths
    x = torch.zeros(1, 1, 28, 28)
    spent = {name: len(json.loads((finished / f"curves/{name}.json").read_text())["epochs"])
             for name in ("wide", "pruned", "giant", "linearized")}  # fmt: skip
    baseline = spent["wide"] * cost(wide, x).macs + spent["pruned"] * cost(pruned, x).macs
    boosted = (spent["giant"] + spent["linearized"]) * rows["giant"]["macs"]
    assert baseline <= boosted < baseline + rows["pruned"]["macs"]
    assert "pruned to the same size" in summarize(finished).closing()


@pytest.mark.group("path")
def test_magnitude_pruning_leaves_as_many_weights_as_the_tiny_network_has(recipe: Path, tmp_path: Path) -> None:
    asked = replace(read(recipe), prune=PruneSection({"width_mult": 0.5}, method="magnitude"))
    run_recipe(asked, tmp_path / "run", until="pruned")
    tiny, _ = load_checkpoint(tmp_path / "run" / "control.safetensors")
    pruned, _ = load_checkpoint(tmp_path / "run" / "pruned.safetensors")
    assert nonzero(pruned) <= sum(parameter.numel() for parameter in tiny.parameters())


def test_a_baseline_that_is_not_wider_is_refused_before_anything_is_trained(recipe: Path, tmp_path: Path) -> None:
    asked = replace(read(recipe), prune=PruneSection({"width_mult": 0.25}))
    with pytest.raises(InputError, match="prune a wider model"):
        run_recipe(asked, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.group("path")
def test_nothing_of_this_machine_is_in_the_exported_files(finished: Path) -> None:
    for path in (finished / "exports").iterdir():
        if path.is_file():
            content = path.read_bytes()
            assert str(Path.cwd()).encode() not in content, path
            assert b"site-packages" not in content, path


@pytest.mark.group("path")
def test_the_same_recipe_gives_the_same_bytes_after_a_kill_in_every_stage(
    recipe: Path, finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    killed = {stage.name for stage in STAGES if kill_in(stage.name, recipe, folder)}
    assert killed >= {"control", "giant", "linearize", "export", "bench"}  # the others may be over too soon
    done = subprocess.run(
        command(recipe, folder, "--resume"), env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert digests(folder) == digests(finished)
    assert not list(folder.rglob(".*"))  # nothing half-written is left
    assert not list(folder.glob("state/*"))


def kill_in(stage: str, recipe: Path, folder: Path) -> bool:
    """Start or resume the run and kill it with SIGKILL inside `stage`; return whether it was still running."""
    process = subprocess.Popen(
        command(recipe, folder, "--resume"), env=ENVIRONMENT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while process.poll() is None and not entered(stage, folder):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if process.stderr:
        process.stderr.close()
    return process.returncode == -signal.SIGKILL


def entered(stage: str, folder: Path) -> bool:
    """Return whether the stages before `stage` are finished, and its training has saved an epoch if it is one."""
    names = [s.name for s in STAGES]
    before = names[: names.index(stage)]
    if not (folder / "recipe.toml").exists():
        return False
    done = manifest.read(folder).stages if (folder / manifest.FILE).exists() else {}
    if not all(name in done for name in before):
        return False
    trained = stage in ("control", "wide", "pruned", "giant", "linearize")
    return not trained or any(folder.glob(f"state/{stage}-*.ckpt")) or stage in done


@pytest.mark.group("path")
def test_resume_skips_what_is_done_and_redoes_what_changed(recipe: Path, finished: Path) -> None:
    events: list[tuple[str, str]] = []
    changed = read(recipe)
    run_recipe(changed, finished, resume=True, listener=lambda stage, event, _s: events.append((stage, event)))
    assert set(events) == {(stage.name, "skipped") for stage in STAGES}
    (finished / "exports" / "logs" / "small.int8.onnx.ladder.json").write_text("what people read, no stage depends on")
    events.clear()
    run_recipe(changed, finished, resume=True, listener=lambda stage, event, _s: events.append((stage, event)))
    assert set(events) == {(stage.name, "skipped") for stage in STAGES}
    (finished / "contracted.safetensors").write_bytes(b"spoiled")
    before = digests(finished)
    events.clear()
    run_recipe(changed, finished, resume=True, listener=lambda stage, event, _s: events.append((stage, event)))
    assert ("contract", "done") in events
    assert ("linearize", "skipped") in events
    assert digests(finished)["contracted.safetensors"] != before["contracted.safetensors"]


def test_a_folder_that_is_not_empty_is_never_touched(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "recipe.toml").write_text("mine too")
    for resume, overwrite in ((False, False), (True, False), (False, True)):
        with pytest.raises(InputError, match=r"is not empty|is no run directory"):
            run_recipe(read(recipe), tmp_path, resume=resume, overwrite=overwrite)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt", "recipe.toml"]


def test_an_unknown_stage_is_refused(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such stage"):
        run_recipe(read(recipe), tmp_path / "run", until="lunch")


def test_a_model_that_does_not_fit_the_data_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.replace("width_mult = 0.25", "num_classes = 3"))
    with pytest.raises(InputError, match="10 classes"):
        run_recipe(read(path), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.group("path")
def test_a_run_is_not_resumed_with_the_recipe_of_another(finished: Path, tmp_path: Path) -> None:
    other = tmp_path / "recipe.toml"
    other.write_text(RECIPE.replace('name = "small"', 'name = "renamed"'))
    before = digests(finished)
    with pytest.raises(InputError, match="holds the run of 'small', the recipe is 'renamed'"):
        run_recipe(read(other), finished, resume=True)
    assert digests(finished) == before


@pytest.mark.group("path")
@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(
    ("section", "said"),
    [
        ('[plan]\nchoose = "name:lunch"', "matches 'lunch'"),
        ('[distill]\nteacher = "nowhere.safetensors"', "the teacher .* does not exist"),
    ],
)
def test_what_cannot_be_run_costs_nothing(
    finished: Path, tmp_path: Path, section: str, said: str, resume: bool
) -> None:
    bad = tmp_path / "recipe.toml"
    bad.write_text(f"{RECIPE}{section}\n")
    before = digests(finished)
    with pytest.raises(InputError, match=said):
        run_recipe(read(bad), finished, resume=resume, overwrite=not resume)
    assert digests(finished) == before


@pytest.mark.group("path")
def test_a_rehearsal_does_not_take_the_place_of_a_run(finished: Path, recipe: Path) -> None:
    before = digests(finished)
    with pytest.raises(InputError, match="holds the run of 'small', the recipe is 'small_rehearsal'"):
        run_recipe(rehearsal(read(recipe)), finished, resume=True)
    with pytest.raises(InputError, match="pass one of the two"):
        run_recipe(read(recipe), finished, resume=True, overwrite=True)
    assert digests(finished) == before


@pytest.mark.group("path")
def test_another_recipe_leaves_nothing_of_the_old_one(recipe: Path, finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    other = tmp_path / "recipe.toml"
    other.write_text(RECIPE.replace("plt_epochs = 2", "plt_epochs = 1"))
    run_recipe(read(other), folder, resume=True, until="plan")
    assert set(manifest.read(folder).stages) == {"plan"}
    left = {
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.parent.name != "logs"
    }
    assert left == {"plan.json", "data.json", "recipe.toml", "manifest.json"}


@pytest.mark.group("path")
def test_ctrl_c_in_a_training_is_no_failed_check_and_resumes(tmp_path: Path) -> None:
    longer = tmp_path / "recipe.toml"  # long enough that the signal comes in time on a busy machine too
    longer.write_text(RECIPE.replace("plt_epochs = 2", "plt_epochs = 8"))
    folder, more = tmp_path / "run", ("--until", "control", "--json")
    process = subprocess.Popen(
        command(longer, folder, *more), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # a shell that starts the tests in the background has them ignore the signal
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    while process.poll() is None and not any(folder.glob("state/control-*.ckpt")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate()
    assert process.returncode == 130
    assert json.loads(output)["exit_status"] == 130
    for place, resume in ((folder, ["--resume"]), (tmp_path / "undisturbed", [])):
        subprocess.run(command(longer, place, *more, *resume), env=ENVIRONMENT, capture_output=True, check=True)
    ends = {files.sha256(place / "control.safetensors") for place in (folder, tmp_path / "undisturbed")}
    assert len(ends) == 1


@pytest.mark.group("path")
def test_bad_input_does_not_cost_the_old_run(recipe: Path, finished: Path, tmp_path: Path) -> None:
    bad = tmp_path / "recipe.toml"
    bad.write_text(RECIPE.replace("batch_size = 128", "batch_size = 100000"))
    before = digests(finished)
    with pytest.raises(InputError, match="batch_size"):
        run_recipe(read(bad), finished, overwrite=True)
    assert digests(finished) == before
