"""What a recipe can ask of the tuning: tails, orders, learned slopes, distillation; each through the whole pipeline."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nbedge.checkpoint import load_checkpoint
from nbedge.errors import InputError
from nbedge.pipeline import run, stages
from nbedge.pipeline.derived import rehearsal
from nbedge.recipe import (
    DataSection,
    DistillSection,
    ExportSection,
    GateSection,
    ModelSection,
    PlanSection,
    PltSection,
    Recipe,
    TrainSection,
    read,
    to_toml,
)
from nbedge.verification import verify

RECIPE = Recipe(
    "small", ModelSection("sample:mobilenet_v2_tiny", (1, 28, 28), {"width_mult": 0.25}), DataSection("generated:10"),
    train=TrainSection(batch_size=16, learning_rate=0.05, giant_epochs=1, plt_epochs=2, ramp=0.5, warmup_epochs=0.0),
    export=ExportSection(formats=()), gate=GateSection(-100, 100),
)  # fmt: skip
CASES = {
    "squeezed": {"train": replace(RECIPE.train, tail="squeezed", reestimate=32)},
    "contract-and-tune": {
        "train": replace(RECIPE.train, tail="contract-and-tune"), "distill": DistillSection("giant", features=0.1),
    },
    "learned slopes": {"plt": PltSection("cosine", "back-to-front", penalty=0.1)},
    "least sensitive first": {"plt": PltSection(order="least-sensitive-first"), "distill": DistillSection("virtual")},
    "from slope 1 and back": {
        "plt": PltSection(fall=0.25), "plan": PlanSection(choose="all", start="factorized"),
    },
    "every kind of layer": {"plan": PlanSection(choose="name:*", ratio=2, start="zero"), "train": replace(
        RECIPE.train, tail="squeezed")},
    "branches": {"plan": PlanSection(block="branches", ratio=2)},
    "linear": {"plan": PlanSection(block="linear", ratio=4)},
}  # fmt: skip


@pytest.mark.group("path")
@pytest.mark.parametrize("name", CASES)
def test_every_way_of_tuning_leads_to_a_proven_tiny_model(name: str, tmp_path: Path) -> None:
    recipe = replace(RECIPE, **CASES[name])  # type: ignore[arg-type]
    record = run(recipe, tmp_path / "run")
    assert list(record.stages) == [stage.name for stage in stages(recipe)]
    assert record.stages["verify"].verdict == "PASS"
    rows = {row["name"]: row for row in json.loads((tmp_path / "run" / "evaluation.json").read_text())["rows"]}
    assert rows["contracted"]["parameters"] == rows["control"]["parameters"]
    assert rows["contracted"]["macs"] == rows["control"]["macs"]
    assert ("merged" in rows) == (name == "contract-and-tune")


@pytest.mark.group("path")
def test_a_squeezed_tail_trains_the_factors(tmp_path: Path) -> None:
    recipe = replace(RECIPE, train=replace(RECIPE.train, tail="squeezed"))
    run(recipe, tmp_path / "squeezed", until="linearize")
    run(RECIPE, tmp_path / "giant", until="linearize")
    squeezed, plain = (load_checkpoint(tmp_path / n / "linearized.safetensors")[0] for n in ("squeezed", "giant"))
    name = "features.2.conv.0.0.chain.expand.weight"
    assert squeezed.state_dict().keys() == plain.state_dict().keys()
    assert not torch.equal(squeezed.state_dict()[name], plain.state_dict()[name])


@pytest.mark.group("path")
def test_the_tuned_model_comes_from_the_merged_one(tmp_path: Path) -> None:
    run(replace(RECIPE, **CASES["contract-and-tune"]), tmp_path / "run", until="tune")  # type: ignore[arg-type]
    merged, tuned = (load_checkpoint(tmp_path / "run" / f"{n}.safetensors")[0] for n in ("merged", "contracted"))
    x = torch.randn(4, 1, 28, 28)
    assert not verify(merged, tuned, x)
    curves = [json.loads((tmp_path / "run" / "curves" / f"{n}.json").read_text()) for n in ("linearized", "tuned")]
    rates = [epoch["learning_rate"] for curve in curves for epoch in curve["epochs"]]
    assert rates == sorted(rates, reverse=True)  # one schedule


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("[train]\ntail = 'squeeze'", "train.tail is 'squeeze'"),
        ("[train]\ntail = 'contract-and-tune'\nplt_epochs = 1", "needs 2 plt_epochs"),
        ("[train]\nprecision = 'half'", "precision is 'half'"),
        ("[train]\naccumulate = 3", "accumulate is 3"),
        ("[train]\nreestimate = -1", "train.reestimate is -1"),
        ("[plt]\nshape = 'steps'", "plt.shape is 'steps'"),
        ("[plt]\norder = 'random'", "plt.order is 'random'"),
        ("[plt]\nfall = 0.9", "plt.fall is 0.9"),
        ("[plan]\nblock = 'cube'", "plan.block is 'cube'"),
        ("[plan]\nchoose = 'best'", "'best' names no choice of sites"),
        ("[plan]\nratio = 0", "ratio is 0"),
        ("[distill]\nteacher = 'virtual'\nweight = 2.0", "weight of distillation is 2.0"),
        ("[distill]\nteacher = 'virtual'\nfeatures = 1.0", "teacher 'giant' only"),
    ],
)
def test_what_cannot_be_tuned_is_refused_before_anything_runs(table: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(
        f"name = 'x'\n[model]\nreference = 'sample:x'\ninput = [1, 28, 28]\n[data]\nsource = 'npz:x'\n{table}"
    )
    with pytest.raises(InputError, match=words):
        read(path)


def test_a_recipe_with_every_section_is_read_back(tmp_path: Path) -> None:
    recipe = replace(RECIPE, **CASES["contract-and-tune"])  # type: ignore[arg-type]
    path = tmp_path / "recipe.toml"
    path.write_text(to_toml(recipe))
    assert read(path) == recipe


IMAGENET = sorted((Path(__file__).parents[1] / "sample_models" / "imagenet").glob("*.toml"))


@pytest.mark.group("imagenet")
@pytest.mark.parametrize("path", IMAGENET, ids=[path.stem for path in IMAGENET])
def test_a_recipe_for_imagenet_goes_through_on_generated_pictures(path: Path, tmp_path: Path) -> None:
    record = run(rehearsal(read(path)), tmp_path / "run", until="verify")
    assert record.stages["verify"].verdict == "PASS"


def test_there_are_recipes_for_imagenet() -> None:
    assert len(IMAGENET) == 5
