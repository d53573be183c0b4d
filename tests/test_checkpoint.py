import copy
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from nbedge import samples
from nbedge.blocks import expanded_blocks
from nbedge.checkpoint import Checkpoint, load_checkpoint, load_weights, read_metadata, save_checkpoint, versions
from nbedge.errors import CheckpointError, InputError, PlanError
from nbedge.expansion import expand
from nbedge.plan import Plan
from nbedge.preprocessing import Preprocessing
from nbedge.proposal import propose
from nbedge.reference import ModelReference
from nbedge.slopes import set_slope_

X = torch.zeros(1, 1, 28, 28)
REFERENCE = ModelReference("sample:mobilenet_v2_tiny", {"width_mult": 0.5})
PREPROCESSING = Preprocessing((1, 28, 28), (0.28604,), (0.35302,))
SOURCE = "from nbedge.samples import mobilenet_v2_tiny as net\nprint('the file ran')\n"


def about(stage: str = "control", plan: Plan | None = None, model: ModelReference = REFERENCE) -> Checkpoint:
    return Checkpoint(stage, model, PREPROCESSING, ("a", "b\u00e4"), plan, seed=3)


def tiny(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return samples.mobilenet_v2_tiny(width_mult=0.5)


def trained_giant() -> tuple[nn.Module, Plan]:
    plan = propose(tiny(), X, ratio=2)
    giant = expand(tiny(), plan)
    giant.train()(torch.randn(4, 1, 28, 28))
    set_slope_(giant, 0.25)
    return giant, plan


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "tiny.safetensors", tiny(), about())
    return tmp_path / "tiny.safetensors"


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """Return a checkpoint that names a model outside nbedge."""
    (tmp_path / "net.py").write_text(SOURCE, encoding="utf-8")
    path = tmp_path / "foreign.safetensors"
    save_checkpoint(path, tiny(), about(model=ModelReference(f"{tmp_path}/net.py:net", {"width_mult": 0.5})))
    return path


def same(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def rewritten(path: Path, **changes: Any) -> Path:
    record = {**about().to_dict(), **changes}
    save_file(load_file(path), path, {"nbedge": json.dumps(record)})
    return path


def test_a_tiny_model_survives_bit_for_bit(saved: Path) -> None:
    model, found = load_checkpoint(saved)
    assert same(model, tiny())
    assert not model.training
    assert found == Checkpoint(**{**vars_of(about()), "versions": versions()})
    assert read_metadata(saved) == found


def vars_of(checkpoint: Checkpoint) -> dict[str, Any]:
    return {name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__}


@pytest.mark.parametrize("stage", ["giant", "linearized"])
def test_a_giant_survives_bit_for_bit(tmp_path: Path, stage: str) -> None:
    giant, plan = trained_giant()
    save_checkpoint(tmp_path / "a.safetensors", giant, about(stage, plan))
    model, found = load_checkpoint(tmp_path / "a.safetensors")
    assert same(model, giant)
    assert len(expanded_blocks(model)) == 3
    assert found.plan == plan


def test_a_contracted_model_keeps_its_plan(tmp_path: Path) -> None:
    plan = propose(tiny(), X)
    save_checkpoint(tmp_path / "a.safetensors", tiny(), about("contracted", plan))
    model, found = load_checkpoint(tmp_path / "a.safetensors")
    assert found.plan == plan
    assert not expanded_blocks(model)


def test_two_saves_give_equal_bytes(tmp_path: Path) -> None:
    giant, plan = trained_giant()
    for name in ("a", "b"):
        save_checkpoint(tmp_path / name, copy.deepcopy(giant), about("giant", plan))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_channels_last_weights_are_saved_alike(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a", tiny(), about())
    model = tiny()
    for parameter in (p for p in model.parameters() if p.ndim == 4):
        parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    save_checkpoint(tmp_path / "b", model, about())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_checkpoint_cut_anywhere_is_refused(saved: Path) -> None:
    whole = saved.read_bytes()
    for length in (0, 1, 7, 8, 9, 100, 1000, len(whole) // 2, len(whole) - 1):
        saved.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"tiny\.safetensors is cut short"):
            load_checkpoint(saved)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"/none\.safetensors does not exist"):
        load_checkpoint(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match=r"no \.safetensors file"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("protocol", [None, 2, 3, 4, 5])
def test_a_pickled_module_is_refused(tmp_path: Path, protocol: int | None) -> None:
    path = tmp_path / "model.pt"
    if protocol is None:
        torch.save(tiny(), path)
    else:
        path.write_bytes(pickle.dumps(tiny(), protocol))
    with pytest.raises(CheckpointError, match=r"model\.pt is (damaged, or a pickled module|cut short or no)"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match=r"model\.pt is damaged, or a pickled module"):
        load_weights(tiny(), path)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("protocol", [None, 2, 3, 4, 5])
def test_a_pickle_is_refused_without_running_it(tmp_path: Path, protocol: int | None) -> None:
    path, trap = tmp_path / "model.pt", Trap(tmp_path / "sprung")
    if protocol is None:
        torch.save({"weight": trap}, path)
    else:
        path.write_bytes(pickle.dumps({"weight": trap}, protocol))
    with pytest.raises(CheckpointError):
        load_checkpoint(path, trust=True)
    with pytest.raises(CheckpointError):
        load_weights(tiny(), path)
    assert not trap.place.exists()


def test_plain_weights_are_no_checkpoint(tmp_path: Path) -> None:
    save_file(tiny().state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"holds weights but no nbedge checkpoint .* pass it as --weights"):
        load_checkpoint(tmp_path / "a.safetensors")


def test_a_checkpoint_of_another_model_is_refused(saved: Path) -> None:
    rewritten(saved, model_args={"width_mult": 1.0})
    with pytest.raises(CheckpointError, match=r"belongs to another model: .* tensors differ"):
        load_checkpoint(saved)


def test_a_giant_of_another_model_is_refused(tmp_path: Path) -> None:
    giant, plan = trained_giant()
    save_checkpoint(tmp_path / "a.safetensors", giant, about("giant", plan, ModelReference("sample:mobilenet_v2_tiny")))
    with pytest.raises(PlanError, match="another model"):
        load_checkpoint(tmp_path / "a.safetensors")


def test_a_giant_without_a_plan_is_refused(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="stage giant holds no plan"):
        load_checkpoint(rewritten(saved, stage="giant"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema_version": 2}, "schema_version 2"),
        ({"stage": "half"}, "stage 'half'"),
        ({"preprocessing": None}, "damaged record"),
        ({"preprocessing": {"shape": [1, 28], "mean": [0], "std": [1], "resize": "x"}}, "damaged record"),
        ({"plan": {"schema_version": 1}}, "no plan"),
        ({"classes": 3}, "damaged record"),
    ],
)
def test_a_damaged_record_is_refused(saved: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_checkpoint(rewritten(saved, **changes))


@pytest.mark.parametrize("text", ["{", "[]", "3", "null"])
def test_a_record_that_is_no_json_object_is_refused(saved: Path, text: str) -> None:
    save_file(load_file(saved), saved, {"nbedge": text})
    with pytest.raises(CheckpointError, match=r"tiny\.safetensors holds a damaged record"):
        load_checkpoint(saved)


def test_a_foreign_reference_is_not_run(foreign: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CheckpointError, match=r"names the model .*net\.py:net, which is code outside nbedge"):
        load_checkpoint(foreign)
    assert read_metadata(foreign).model.text.endswith("net.py:net")
    assert "the file ran" not in capfd.readouterr().out


def test_a_foreign_reference_is_run_when_it_is_trusted(foreign: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model, _ = load_checkpoint(foreign, trust=True)
    assert same(model, tiny())
    assert "the file ran" in capfd.readouterr().out


def test_a_reference_of_one_s_own_takes_the_place_of_a_foreign_one(
    foreign: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, found = load_checkpoint(foreign, model="sample:mobilenet_v2_tiny")
    assert same(model, tiny())
    assert found.model.text == "sample:mobilenet_v2_tiny"
    assert "the file ran" not in capfd.readouterr().out


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth", "w.ckpt"])
def test_plain_weights_are_loaded(tmp_path: Path, name: str) -> None:
    state, path, model = tiny(1).state_dict(), tmp_path / name, tiny(2)
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state} if path.suffix == ".ckpt" else state, path)
    load_weights(model, path)
    assert same(model, tiny(1))


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_weights_of_another_model_are_refused(tmp_path: Path, name: str) -> None:
    state = samples.mobilenet_v2_tiny().state_dict()
    save_file(state, tmp_path / name) if name.endswith("rs") else torch.save(state, tmp_path / name)
    with pytest.raises(CheckpointError, match="belongs to another model"):
        load_weights(tiny(), tmp_path / name)


@pytest.mark.parametrize("content", [{"state_dict": [1, 2]}, [torch.zeros(1)], {"a": 1}])
def test_what_holds_no_weights_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="is damaged, or a pickled module"):
        load_weights(tiny(), tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_weights_cut_short_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    state = tiny().state_dict()
    save_file(state, path) if name.endswith("rs") else torch.save(state, path)
    whole = path.read_bytes()
    for length in (0, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="damaged"):
            load_weights(tiny(), path)
