"""The samples are what they say: the files open, the proofs hold, and the accuracy is the recorded one."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nbedge import artifact, data, pipeline, recipe, samples
from nbedge.checkpoint import load_checkpoint
from nbedge.evaluation import judge, logits_of_module, single
from nbedge.expansion import expand
from nbedge.proposal import propose
from nbedge.reference import ModelReference
from nbedge.runtime import answer_pictures, open_file
from nbedge.tracing import cost
from nbedge.verification import lint, verify
from nbedge.verification.equivalence import Verdict

ROOT = Path(__file__).parents[1] / "sample_models"
SAMPLES = ("fashion_mnist", "blood_cells")
SOURCES = {"fashion_mnist": "npz:data.npz", "blood_cells": "folder:data"}
#: recipe -> parameters and MACs in millions as published, sites, and the giant's MACs over the tiny network's
IMAGENET = {
    "mobilenet_v2_tiny_r144": (0.75, 23.5, 16, 2.30),
    "mcunet": (0.74, 81.8, 17, 2.14),
    "mobilenet_v2_w035": (1.66, 30.9, 16, 2.20),
    "mobilenet_v2_w050": (1.95, 50.2, 16, 2.27),
    "mobilenet_v2_w100": (3.50, 300.8, 16, 2.48),
}


def test_packed_data_stay_small() -> None:
    for name in SAMPLES:
        packed = ROOT / name / SOURCES[name].partition(":")[2]
        each = [packed] if packed.is_file() else [path for path in packed.rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in each) < 6e6
        assert "MIT" in (ROOT / name / "DATA_LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SAMPLES)
def test_the_contracted_model_equals_the_giant(name: str) -> None:
    giant, about = load_checkpoint(ROOT / name / "linearized.safetensors")
    tiny, _ = load_checkpoint(ROOT / name / "contracted.safetensors")
    assert verify(giant, tiny, torch.randn(8, *about.preprocessing.shape))


@pytest.mark.parametrize("name", SAMPLES)
def test_the_product_is_the_best_on_the_validation_pictures(name: str) -> None:
    found = json.loads((ROOT / name / "choice.json").read_text(encoding="utf-8"))
    assert found["validation_score"][found["chosen"]] == max(found["validation_score"].values())
    _, about = load_checkpoint(ROOT / name / "chosen.safetensors")
    assert about.stage == found["chosen"]
    file = artifact.read(ROOT / name / "exports" / f"{name}.fp32.onnx")
    assert file.derived_from == f"{about.stage}.safetensors"


@pytest.mark.parametrize("name", SAMPLES)
def test_the_control_has_the_same_architecture(name: str) -> None:
    control, _ = load_checkpoint(ROOT / name / "control.safetensors")
    tiny, _ = load_checkpoint(ROOT / name / "contracted.safetensors")
    shapes = {key: value.shape for key, value in control.state_dict().items()}
    assert shapes == {key: value.shape for key, value in tiny.state_dict().items()}


@pytest.mark.parametrize("name", SAMPLES)
def test_every_exported_file_is_the_one_described_and_computes_with_the_types_of_its_name(name: str) -> None:
    paths = [path for path in (ROOT / name / "exports").iterdir() if path.suffix in (".onnx", ".tflite")]
    assert len(paths) == 4
    for path in paths:
        about = artifact.read(path)
        assert f".{about.scheme}." in path.name
        assert all(check.verdict is Verdict.PASS for check in lint(path, about.scheme))
    verdicts = [json.loads(path.read_text())["verdict"] for path in (ROOT / name / "verification").iterdir()]
    assert len(verdicts) == 19
    assert set(verdicts) == {"PASS"}


@pytest.mark.group("samples")
@pytest.mark.parametrize("name", SAMPLES)
def test_the_product_and_files_agree_on_the_packed_pictures(name: str) -> None:
    tiny, about = load_checkpoint(ROOT / name / "chosen.safetensors")
    kind, _, place = SOURCES[name].partition(":")
    test = data.read(f"{kind}:{ROOT / name / place}", about.preprocessing.shape).test
    wanted = logits_of_module(tiny, test.images, about.preprocessing)
    for path in sorted((ROOT / name / "exports").glob("*.*")):
        if path.suffix in (".onnx", ".tflite"):
            answers = answer_pictures(open_file(path), test.images, about.preprocessing)
            found = judge(single(answers), test.labels, about.classes, wanted)
            assert found.flips is not None
            allowed = 0 if ".fp32." in path.name else 0.05 * len(test)
            assert found.flips <= allowed, path.name


@pytest.mark.group("path")
def test_the_colour_sample_goes_the_whole_path_on_a_small_budget(tmp_path: Path) -> None:
    given = recipe.read(ROOT / "blood_cells" / "recipe.toml")
    brief = replace(given.train, giant_epochs=1, plt_epochs=2)
    short = replace(given, train=brief, gate=recipe.GateSection(-100, 100), bench=replace(given.bench, processes=1))
    lenient = replace(  # whichever is chosen is barely trained: its answers are close to each other
        short, export=replace(short.export, budget=100.0),
        limits=replace(short.limits, sqnr_db=3.0, cosine=0.5, flips=100.0, accuracy_loss=100.0),
    )  # fmt: skip
    record = pipeline.run(lenient, tmp_path / "run")
    assert record.stages["export"].verdict == "PASS"
    assert (tmp_path / "run" / "exports" / "blood_cells.int8.tflite").exists()


def test_publish_copies_weights_files_and_verdicts(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "publish.py"), str(ROOT / "blood_cells"), str(tmp_path)]
    subprocess.run(command, check=True)
    assert (tmp_path / "exports" / "blood_cells.int8.tflite").exists()
    assert (tmp_path / "chosen.safetensors").read_bytes() == (ROOT / "blood_cells/chosen.safetensors").read_bytes()


def test_every_imagenet_recipe_is_checked() -> None:
    assert {path.stem for path in (ROOT / "imagenet").glob("*.toml")} == set(IMAGENET)


@pytest.mark.parametrize("name", IMAGENET)
def test_an_imagenet_network_costs_what_is_published(name: str) -> None:
    parameters, macs, _, _ = IMAGENET[name]
    net, x = _network(name)
    found = cost(net, x)
    assert net.eval()(x).shape == (1, 1000)
    assert found.parameters == pytest.approx(parameters * 1e6, rel=0.02)
    assert found.macs == pytest.approx(macs * 1e6, rel=0.02)


@pytest.mark.parametrize("name", IMAGENET)
def test_an_imagenet_giant_costs_what_the_recipe_says(name: str) -> None:
    _, _, sites, ratio = IMAGENET[name]
    given = recipe.read(ROOT / "imagenet" / f"{name}.toml")
    net, x = _network(name)
    plan = propose(net, x, ratio=given.plan.ratio, every=given.plan.every)
    assert len(plan.sites) == -(-sites // given.plan.every)
    assert f"{ratio:.2f} times the MACs" in (ROOT / "imagenet" / f"{name}.toml").read_text(encoding="utf-8")
    assert cost(expand(net, plan), x).macs / cost(net, x).macs == pytest.approx(ratio, abs=0.005)


def _network(name: str) -> tuple[nn.Module, Tensor]:
    """Return the network of an ImageNet recipe, and one input of its size."""
    given = recipe.read(ROOT / "imagenet" / f"{name}.toml")
    assert given.name == name
    assert given.model.arguments["resolution"] == given.model.input[1] == given.model.input[2]
    return ModelReference(given.model.reference, given.model.arguments).build(), torch.zeros(1, *given.model.input)


@pytest.mark.parametrize("size", [96, 176])
@pytest.mark.parametrize("tf_same", [False, True])
def test_mcunet_halves_the_picture_five_times_or_keeps_four_pixels(size: int, tf_same: bool) -> None:
    net = samples.mcunet(num_classes=2, resolution=size, tf_same=tf_same).eval()
    with torch.no_grad():
        features = net.features(torch.zeros(1, 3, size, size))
    assert features.shape == (1, 160, 6, 6)


def test_the_slurm_script_starts_recipes_that_are_there() -> None:
    script = ROOT / "imagenet" / "train.sbatch"
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert '"sample_models/imagenet/$recipe.toml"' in script.read_text(encoding="utf-8")
