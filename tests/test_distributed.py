"""Two processes against one that runs their halves of each batch in turn and averages the gradients."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from nbedge.data import Pictures, Splits
from nbedge.expansion import expand
from nbedge.linearization import PLT, least_sensitive_first
from nbedge.preprocessing import Preprocessing
from nbedge.proposal import propose
from nbedge.slopes import slopes_of
from nbedge.training import Place, TrainSettings, batches, processes, train
from nbedge.training.sampling import here
from nbedge.training.schedule import Schedule

PREPROCESSING = Preprocessing((1, 8, 8), (0.5,), (0.25,))
SETTINGS = TrainSettings(batch_size=16, learning_rate=0.1)
EPOCHS = 2


def pictures(count: int) -> Pictures:
    images = np.random.default_rng(count).integers(0, 256, (count, 8, 8, 1), np.uint8)
    return Pictures(images, np.arange(count) % 2)


DATA = Splits(pictures(70), pictures(21), pictures(4), pictures(8), ("upper", "lower"), "fingerprint")


def giant() -> nn.Module:
    torch.manual_seed(0)
    tiny = nn.Sequential(
        nn.Conv2d(1, 6, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU6(), nn.Conv2d(6, 6, 3, 2, 1, groups=6),
        nn.Flatten(), nn.Dropout(0.3), nn.Linear(96, 2),
    )  # fmt: skip
    return expand(tiny, propose(tiny, torch.zeros(1, 1, 8, 8), ratio=2))


def plt() -> PLT:
    return PLT(1, 6)


def reference() -> nn.Module:
    model = giant().train()
    parts = [batches(DATA.train, PREPROCESSING, 16, 0, SETTINGS.augment, place=Place(rank, 2)) for rank in (0, 1)]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": SETTINGS.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1]},
    ]
    optimizer = torch.optim.SGD(groups, SETTINGS.learning_rate, SETTINGS.momentum, nesterov=True)
    each = len(parts[0])
    schedule = Schedule(each * EPOCHS, round(SETTINGS.warmup_epochs * each))
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.share)
    step = 0
    for epoch in range(EPOCHS):
        for part in parts:
            part.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for halves in zip(*parts, strict=True):
            plt().apply(model, step)
            optimizer.zero_grad()
            first: dict[str, torch.Tensor] = {}
            for rank, (x, labels) in enumerate(halves):
                before = {name: value.clone() for name, value in model.named_buffers()}
                torch.manual_seed(step + rank * 2**40)
                (functional.cross_entropy(model(x), labels) / 2).backward()  # type: ignore[no-untyped-call]
                first = first or {name: value.clone() for name, value in model.named_buffers()}
                for name, value in model.named_buffers():  # the first process's statistics are those that count
                    value.copy_(before[name])
            for name, value in model.named_buffers():
                value.copy_(first[name])
            optimizer.step()
            rates.step()
            step += 1
    plt().apply(model, step)
    return model.eval()


def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        *arguments,
    ]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.group("train")
def test_two_processes_train_what_one_with_their_averaged_gradients_trains(tmp_path: Path) -> None:
    done = launch(__file__, str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    wanted = reference()
    assert found[0]["slopes"] == found[1]["slopes"] == list(slopes_of(wanted).values()) == [1.0, 1.0]
    assert found[0]["order"] == found[1]["order"] == ("b", "a")
    assert found[0]["curve"] == found[1]["curve"]
    for name, value in wanted.named_parameters():
        assert torch.equal(found[0]["model"][name], found[1]["model"][name])
        torch.testing.assert_close(found[0]["model"][name], value, rtol=0, atol=1e-5)


@pytest.mark.group("train")
def test_a_run_goes_on_on_another_number_of_processes(tmp_path: Path) -> None:
    """One epoch on two processes, the second on one: the state is taken up, and nothing is trained twice."""
    assert launch(__file__, str(tmp_path), "stop").returncode == 0
    model = giant()
    curve = train(model, DATA, PREPROCESSING, SETTINGS, epochs=EPOCHS, plt=plt(), resume=tmp_path / "state.ckpt")
    first = torch.load(tmp_path / "0.pt", weights_only=True)["curve"]
    assert [point.train_loss for point in curve][:1] == first
    assert len(curve) == EPOCHS
    assert set(slopes_of(model).values()) == {1.0}


RECIPE = """
name = "small"
[model]
reference = "sample:mobilenet_v2_tiny"
input = [1, 28, 28]
arguments = { width_mult = 0.25 }
[data]
source = "generated:10"
[train]
giant_epochs = 1
plt_epochs = 1
batch_size = 16
learning_rate = 0.05
[gate]
lead = -100
plt_loss = 100
[baselines]
train = ["netaug"]
wide = [{ width_mult = 0.5 }, { width_mult = 0.75 }]
[export]
formats = []
"""


def run_recipe(folder: Path, recipe: str) -> subprocess.CompletedProcess[str]:
    (folder / "recipe.toml").write_text(recipe)
    return launch("-m", "nbedge", "run", str(folder / "recipe.toml"), "--out", str(folder / "run"))


@pytest.mark.group("train")
def test_a_whole_run_trains_on_two_processes_and_one_of_them_does_all_else(tmp_path: Path) -> None:
    done = run_recipe(tmp_path, RECIPE)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("The report is") == 1
    record = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert record["stages"]["verify"]["verdict"] == "PASS"


@pytest.mark.group("train")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("0.05", "1e30"), "training diverged"),  # in the middle of a training
        (("= 16", "= 15"), "multiple of 2"),  # as it begins
        (("generated:10", "generated:7"), "the data has 7 classes"),  # before any
    ],
)
def test_an_error_of_a_distributed_run_is_one_sentence(change: tuple[str, str], words: str, tmp_path: Path) -> None:
    done = run_recipe(tmp_path, RECIPE.replace(*change))
    assert done.returncode
    assert words in done.stderr
    assert "internal error" not in done.stderr


class PowerCutError(RuntimeError):
    """The power is cut behind the first epoch."""


def trained_along(folder: Path, stop: bool) -> None:
    """Be one of two processes."""
    from pytorch_lightning.callbacks import LambdaCallback

    def cut(trainer: object, _module: object) -> None:
        if stop and getattr(trainer, "current_epoch", 0) == 1:
            raise PowerCutError

    model, curve = giant(), []
    with processes.together():
        rank = here().rank
        try:
            curve = train(
                model, DATA, PREPROCESSING, SETTINGS, epochs=EPOCHS, plt=plt(), resume=folder / "state.ckpt",
                callbacks=[LambdaCallback(on_train_epoch_start=cut)],
            )  # fmt: skip
        except PowerCutError:
            curve = []
        order = least_sensitive_first({"a": 2.0, "b": 1.0} if rank == 0 else {"a": 1.0, "b": 2.0})
    losses = [point.train_loss for point in curve]
    if stop:
        state = torch.load(folder / "state.ckpt", weights_only=False)
        losses = [e["train_loss"] for e in state["callbacks"]["CurveCallback"]["epochs"]]
    values = {"model": model.state_dict(), "slopes": list(slopes_of(model).values()), "order": order, "curve": losses}
    torch.save(values, folder / f"{rank}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    trained_along(Path(sys.argv[1]), "stop" in sys.argv)
