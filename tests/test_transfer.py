"""A giant is trained on some classes of clothes and moved to others: the whole way, on the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nbedge import samples
from nbedge.checkpoint import load_checkpoint, read_metadata, tensors
from nbedge.errors import CheckpointError
from nbedge.expansion import expand
from nbedge.plan import Plan
from nbedge.proposal import propose
from nbedge.selection import Named
from nbedge.transfer import Share, adopt_, head_of, plan_for

PACKED = Path(__file__).parents[1] / "sample_models" / "fashion_mnist" / "data.npz"
ENVIRONMENT = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
X = torch.zeros(1, 1, 28, 28)


def nbedge(*arguments: str, status: int = 0) -> dict[str, Any]:
    command = [sys.executable, "-m", "nbedge", *arguments, "--json", "-q"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with pictures of six classes, of the four others, a giant and a tiny model of the six."""
    folder = tmp_path_factory.mktemp("transfer")
    with np.load(PACKED) as packed:
        for name, wanted, limit in (("first", range(6), 1500), ("second", range(6, 10), 400)):
            parts: dict[str, Any] = {"classes": packed["classes"][list(wanted)]}
            for part in ("train", "test"):
                labels = packed[f"{part}_labels"]
                rows = np.flatnonzero(np.isin(labels, list(wanted)))[:limit]
                parts[f"{part}_images"] = packed[f"{part}_images"][rows]
                parts[f"{part}_labels"] = labels[rows].astype(np.int64) - wanted.start
            np.savez(folder / f"{name}.npz", **parts)
    model = ("sample:mobilenet_v2_tiny", "--model-args", '{"width_mult": 0.5, "num_classes": 6}', "--input", "1x28x28")
    described = ("--mean", "0.286", "--std", "0.353")
    nbedge("expand", *model, *described, "--out", str(folder / "fresh.safetensors"))
    training = ("--data", f"npz:{folder / 'first.npz'}", "--epochs", "2", "--batch-size", "64")
    nbedge("train", str(folder / "fresh.safetensors"), *training, "--out", str(folder / "giant.safetensors"))
    nbedge("train", *model, *described, *training, "--out", str(folder / "control.safetensors"))
    return folder


@pytest.mark.group("path")
def test_a_giant_is_moved_to_new_data_beside_its_controls(folder: Path) -> None:
    sources = ("--from", str(folder / "giant.safetensors"), "--control", str(folder / "control.safetensors"))
    training = ("--data", f"npz:{folder / 'second.npz'}", "--epochs", "2", "--batch-size", "32")
    found = nbedge("train", *sources, *training, "--out", str(folder / "run"))
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == ["control", "transferred", "contracted"]
    assert rows["contracted"]["verdict"] == "PASS"
    assert len({(row["parameters"], row["macs"]) for row in rows.values()}) == 1
    assert "transferred likewise" in found["closing"]
    assert "from scratch" in found["closing"]
    model, about = load_checkpoint(folder / "run" / "contracted.safetensors")
    assert len(about.classes) == 4
    samples.mobilenet_v2_tiny(num_classes=4, width_mult=0.5).load_state_dict(model.state_dict(), strict=True)
    # the giant keeps what it has learned, all but its head
    kept, old = tensors(folder / "run" / "giant.safetensors"), tensors(folder / "giant.safetensors")
    assert {n for n in old if n not in kept or not torch.equal(kept[n], old[n])} == {
        "classifier.1.weight", "classifier.1.bias",
    }  # fmt: skip


@pytest.mark.group("path")
def test_a_checkpoint_that_is_no_giant_is_refused(folder: Path) -> None:
    data = ("--data", f"npz:{folder / 'second.npz'}", "--batch-size", "32", "--out", str(folder / "no"))
    control = str(folder / "control.safetensors")
    assert "the control is missing" in nbedge("train", "--from", control, *data, status=2)["error"]
    said = nbedge("train", "--from", control, "--control", control, *data, status=2)
    assert "not of a giant" in said["error"]


@pytest.mark.group("path")
def test_a_control_of_another_network_is_refused_before_anything_is_trained(folder: Path) -> None:
    sources = ("--from", str(folder / "giant.safetensors"), "--control", str(folder / "giant.safetensors"))
    data = ("--data", f"npz:{folder / 'second.npz'}", "--batch-size", "32", "--out", str(folder / "other"))
    assert "is of stage giant; give the tiny model" in nbedge("train", *sources, *data, status=2)["error"]
    assert not (folder / "other" / "control.safetensors").exists()


@pytest.mark.group("path")
def test_a_giant_in_a_checkpoint_is_not_expanded_again(folder: Path) -> None:
    said = nbedge("expand", str(folder / "giant.safetensors"), "--out", str(folder / "twice.safetensors"), status=2)
    assert "is a giant already" in said["error"]


@pytest.mark.group("path")
def test_single_stages_lead_to_a_contracted_model(folder: Path) -> None:
    training = ("--data", f"npz:{folder / 'first.npz'}", "--epochs", "1", "--batch-size", "64", "--straighten")
    linear, tiny = str(folder / "linear.safetensors"), str(folder / "tiny.safetensors")
    said = nbedge("contract", str(folder / "giant.safetensors"), "--out", tiny, status=2)
    assert "finish PLT" in said["error"]
    nbedge("train", str(folder / "giant.safetensors"), *training, "--out", linear)
    assert nbedge("contract", linear, "--out", tiny)["verification"]["verdict"] == "PASS"
    assert read_metadata(Path(tiny)).stage == "contracted"
    said = nbedge("train", tiny, *training, "--out", str(folder / "x.safetensors"), status=2)
    assert "no giant" in said["error"]


def test_the_head_is_the_last_layer_that_runs() -> None:
    assert head_of(samples.mobilenet_v2_tiny(), X) == "classifier.1"


def test_an_expanded_head_is_left_out_of_the_plan() -> None:
    old, new = (samples.mobilenet_v2_tiny(num_classes=k) for k in (10, 3))
    plan = propose(old, X, choose=Named("*"))
    adopted = plan_for(new, plan, Share(head="classifier.1"))
    assert "classifier.1" in {site.layer for site in plan.sites}
    assert {site.layer for site in plan.sites} - {site.layer for site in adopted.sites} == {"classifier.1"}
    giant = expand(new, adopted)
    adopt_(giant, expand(old, plan).state_dict(), Share(head="classifier.1"), "giant.safetensors")


def test_a_network_that_differs_in_more_than_its_head_is_refused() -> None:
    other = samples.mobilenet_v2_tiny(width_mult=0.5).state_dict()
    with pytest.raises(
        CheckpointError, match=r"x\.safetensors belongs to a network that differs in more than its head"
    ):
        adopt_(samples.mobilenet_v2_tiny(), other, Share(head="classifier.1"), "x.safetensors")


def test_a_plan_of_a_transfer_keeps_its_sites_in_order() -> None:
    old, new = (samples.mobilenet_v2_tiny(num_classes=k) for k in (10, 3))
    plan = propose(old, X)
    assert Plan.from_json(plan_for(new, plan, Share(head="classifier.1")).to_json()).sites == plan.sites
