import copy
import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging, LambdaCallback
from torch import Tensor, nn

from nbedge.blocks import Squeezed, expanded_blocks, squeeze_
from nbedge.contraction import contract
from nbedge.data import Pictures, Splits
from nbedge.errors import InputError
from nbedge.expansion import expand
from nbedge.linearization import PLT
from nbedge.preprocessing import Preprocessing
from nbedge.proposal import propose
from nbedge.slopes import slopes_of
from nbedge.training import Epoch, Straightening, TrainSettings, steps_per_epoch, train

PREPROCESSING = Preprocessing((1, 8, 8), (0.5,), (0.25,))
SETTINGS = TrainSettings(batch_size=16, learning_rate=0.1)


def pictures(count: int, seed: int) -> Pictures:
    """Return pictures whose class is seen at once: the upper or the lower half is bright."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = rng.integers(0, 120, (count, 8, 8, 1), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[4 * label : 4 * label + 4] += 130
    return Pictures(images, labels)


DATA = Splits(pictures(70, 0), pictures(20, 1), pictures(4, 2), pictures(8, 3), ("upper", "lower"), "fingerprint")


class Net(nn.Module):
    """A small net with one site and with dropout; `steps` is how many training steps it survives."""

    def __init__(self, steps: float = float("inf")) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = nn.Conv2d(1, 6, 1, bias=False)
            self.norm, self.act = nn.BatchNorm2d(6), nn.ReLU6()
            self.depthwise = nn.Conv2d(6, 6, 3, 2, 1, groups=6)
            self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(96, 2))
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.steps -= 1
        if self.steps < 0:
            raise KeyError("the power is cut")
        result: Tensor = self.classifier(self.act(self.depthwise(self.act(self.norm(self.conv(x))))))
        return result


def giant(steps: float = float("inf")) -> nn.Module:
    model = Net(steps)
    return expand(model, propose(model, torch.zeros(1, 1, 8, 8), ratio=2))


def run(
    model: nn.Module, epochs: int = 3, seed: int = 0, plt: PLT | None = None, resume: Path | None = None
) -> list[Epoch]:
    torch.set_num_threads(1)  # the last bits depend on it, and other processes and tests have their own number
    return train(model, DATA, PREPROCESSING, SETTINGS, epochs=epochs, seed=seed, plt=plt, resume=resume)


def same(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# settings


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TrainSettings(batch_size=0), "batch_size is 0"),
        (lambda: TrainSettings(learning_rate=0), "learning_rate is 0"),
        (lambda: TrainSettings(augment=("shift", "mixup")), "augment holds 'mixup'"),
    ],
)
def test_settings_that_cannot_train_are_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()


def test_fewer_pictures_than_a_batch_are_refused() -> None:
    with pytest.raises(InputError, match="batch_size is 71, but only 70 pictures"):
        train(Net(), DATA, PREPROCESSING, TrainSettings(batch_size=71), epochs=1)


# training


@pytest.mark.group("train")
def test_two_runs_end_with_equal_weights_and_curves() -> None:
    one, other = Net(), Net()
    torch.manual_seed(1)
    curve = run(one)
    torch.manual_seed(2)
    assert run(other) == curve
    assert same(one, other)
    assert not same(one, Net())


@pytest.mark.group("train")
def test_another_seed_ends_with_other_weights() -> None:
    one, other = Net(), Net()
    run(one, epochs=1)
    run(other, epochs=1, seed=1)
    assert not same(one, other)


@pytest.mark.group("train")
def test_the_curve_has_a_point_for_each_epoch() -> None:
    model = Net()
    curve = run(model, epochs=4)
    assert [point.epoch for point in curve] == [1, 2, 3, 4]
    assert curve[-1].train_loss < curve[0].train_loss
    assert curve[-1].learning_rate == pytest.approx(0, abs=1e-9)
    assert {point.slope for point in curve} == {None}
    assert not any(module.training for module in model.modules())
    assert all(p.is_contiguous() for p in model.parameters())


@pytest.mark.group("train")
def test_what_can_be_learned_is_learned() -> None:
    assert run(Net(), epochs=8)[-1].validation_score == 1.0


@pytest.mark.group("train")
def test_training_leaves_torch_s_random_state_as_it_was() -> None:
    before = torch.get_rng_state()
    run(Net(), epochs=1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.group("train")
@pytest.mark.parametrize("end", [8, 11, 12])
def test_plt_ends_at_exactly_1_with_the_training(end: int) -> None:
    model = giant()
    curve = run(model, plt=PLT(2, end))
    slopes = [value.item() for name, value in model.state_dict().items() if name.endswith("slope")]
    assert slopes == [1.0, 1.0]
    assert [point.slope for point in curve] == [min(1.0, (step - 2) / (end - 2)) for step in (4, 8, 12)]


@pytest.mark.group("train")
def test_plt_that_is_not_finished_is_not_called_so() -> None:
    model = giant()
    run(model, plt=PLT(0, 24))
    assert [v.item() for name, v in model.state_dict().items() if name.endswith("slope")] == [0.5, 0.5]


@pytest.mark.group("train")
@pytest.mark.parametrize("steps", [0, 3, 4, 5, 10])
def test_an_interrupted_run_resumes_to_the_same_end(tmp_path: Path, steps: int) -> None:
    undisturbed = giant()
    curve = run(undisturbed, plt=PLT(1, 12))
    resume = tmp_path / "state.ckpt"
    with pytest.raises(KeyError, match="power"):
        run(giant(steps), plt=PLT(1, 12), resume=resume)
    assert resume.exists() == (steps > 3)
    model = giant()
    torch.manual_seed(5)
    assert run(model, plt=PLT(1, 12), resume=resume) == curve
    assert same(model, undisturbed)


KILLED = """
import importlib.util, os, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("tests_of_training", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = module
spec.loader.exec_module(module)

class Killed(module.Net):
    def forward(self, x):
        if self.training and Path(sys.argv[2]).exists():
            os._exit(9)
        return super().forward(x)

module.run(Killed(), resume=Path(sys.argv[2]))
"""


@pytest.mark.group("train")
def test_a_killed_run_resumes_to_the_same_end(tmp_path: Path) -> None:
    resume, undisturbed, model = tmp_path / "state.ckpt", Net(), Net()
    command = [sys.executable, "-c", KILLED, __file__, str(resume)]
    done = subprocess.run(command, env={**os.environ}, capture_output=True, text=True, check=False)
    assert done.returncode == 9, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["state.ckpt"]
    assert run(model, resume=resume) == run(undisturbed)
    assert same(model, undisturbed)


@pytest.mark.group("train")
def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    model, again = Net(), Net(steps=0)
    curve = run(model, resume=tmp_path / "state.ckpt")
    assert run(again, resume=tmp_path / "state.ckpt") == curve
    assert same(model, again)


@pytest.mark.group("train")
@pytest.mark.filterwarnings("ignore:overflow")
def test_a_loss_that_diverges_is_an_error(tmp_path: Path) -> None:
    settings = TrainSettings(batch_size=16, learning_rate=1e30, warmup_epochs=0)
    with pytest.raises(InputError, match="the loss is nan in epoch 1; the training diverged"):
        train(Net(), DATA, PREPROCESSING, settings, epochs=2, resume=tmp_path / "state.ckpt")
    assert not list(tmp_path.iterdir())


@pytest.mark.group("train")
def test_a_frozen_norm_stays_frozen_from_epoch_to_epoch() -> None:
    class Frozen(Net):
        def train(self, mode: bool = True) -> "Frozen":
            super().train(mode)
            self.norm.eval()
            return self

    model = Frozen()
    before = copy.deepcopy(model.norm.state_dict())
    run(model, epochs=2)
    assert torch.equal(model.norm.state_dict()["running_mean"], before["running_mean"])
    assert not torch.equal(model.norm.state_dict()["weight"], before["weight"])


# what rides along


def test_an_average_of_the_weights_has_the_slopes_as_they_are() -> None:
    model = giant()
    average = EMAWeightAveraging(decay=0.9)
    train(model, DATA, PREPROCESSING, SETTINGS, epochs=3, plt=PLT(0, 8), callbacks=[average])
    assert set(slopes_of(model).values()) == {1.0}
    contract(model)  # Lightning has put the averaged weights into the model


@pytest.mark.parametrize("changes", [{"accumulate": 2}, {"precision": "bf16-mixed"}, {"workers": 1}])
def test_the_slopes_follow_the_steps_of_the_optimizer(changes: dict[str, object]) -> None:
    model, seen = giant(), []
    settings = dataclasses.replace(SETTINGS, **changes)  # type: ignore[arg-type]
    record = LambdaCallback(
        on_train_batch_end=lambda trainer, *_: seen.append((trainer.global_step, *slopes_of(model).values()))
    )
    train(model, DATA, PREPROCESSING, settings, epochs=2, plt=PLT(0, 8), callbacks=[record])
    steps = 2 * steps_per_epoch(len(DATA.train), settings.batch_size)
    assert max(step for step, *_ in seen) == steps
    assert {slope for _, slope, _ in seen} == {step / 8 for step in range(steps)}
    assert set(slopes_of(model).values()) == {1.0}


def test_a_squeezed_tail_goes_on_with_the_same_parameters_and_resumes(tmp_path: Path) -> None:
    straight = Straightening(PLT(0, 4), afterwards=squeeze_)
    undisturbed = giant()
    train(undisturbed, DATA, PREPROCESSING, SETTINGS, epochs=3, plt=straight)
    with pytest.raises(KeyError, match="power is cut"):
        train(giant(9), DATA, PREPROCESSING, SETTINGS, epochs=3, plt=straight, resume=tmp_path / "s.ckpt")
    resumed = giant()
    train(resumed, DATA, PREPROCESSING, SETTINGS, epochs=3, plt=straight, resume=tmp_path / "s.ckpt")
    assert same(resumed, undisturbed)
    assert all(isinstance(block, Squeezed) for _, block in expanded_blocks(resumed))
