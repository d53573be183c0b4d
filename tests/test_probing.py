"""A probe trains a little, tunes every network alike, reads no test picture, and says no more than it saw."""

from collections.abc import Callable
from dataclasses import replace
from math import inf

import pytest
import torch
from torch import nn

from nbedge import data
from nbedge.data import Pictures
from nbedge.preprocessing import Preprocessing
from nbedge.probing import BRANCHES, CONTROL, GIANT, LEAD, RAISED, Lead, Probe, Try, networks, probe
from nbedge.proposal import propose
from nbedge.samples import mobilenet_v2_tiny
from nbedge.selection import parse
from nbedge.training import TrainSettings

SHAPE = (1, 28, 28)
X = torch.zeros(1, *SHAPE)


def build(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return mobilenet_v2_tiny(10, width_mult=0.25)


def found(*leads: float) -> Probe:
    tries = [Try(CONTROL, seed, rate, 0.5 - rate) for seed in range(len(leads)) for rate in (0.1, 0.2)]
    tries += [Try(GIANT, seed, rate, 0.4 + lead / 100 - (rate - 0.2) ** 2)
              for seed, lead in enumerate(leads) for rate in (0.1, 0.2)]  # fmt: skip
    return Probe(5, tuple(tries), {GIANT: LEAD})


def test_each_network_is_judged_at_its_own_best_rate() -> None:
    shown = found(3.0, 5.0)
    assert (shown.rate(CONTROL), shown.rate(GIANT)) == (0.1, 0.2)
    assert shown.best(CONTROL) == {0: 0.4, 1: 0.4}
    assert shown.lead(GIANT).mean == pytest.approx(4.0)
    assert shown.lead(GIANT).error == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("leads", "verdict"),
    [
        ((5.0, 5.2), "likely"),
        ((2.5, 5.0), "open"),
        ((9.0,), "open"),
        ((-1.0, -1.2), "unlikely"),
        ((1.0, 1.1), "unlikely"),
    ],
)
def test_the_verdict_needs_a_clear_lead(leads: tuple[float, ...], verdict: str) -> None:
    shown = found(*leads)
    assert shown.verdict == verdict
    assert f"{shown.lead(GIANT).mean:+.1f} points" in shown.why


def test_of_one_seed_no_error_is_known() -> None:
    assert str(Lead(1.0, inf)) == "+1.0 points"
    assert str(Lead(1.0, 0.25)) == "+1.0 points (standard error 0.2)"


class Sealed(Pictures):
    """Pictures that nobody may read."""

    def __len__(self) -> int:
        raise AssertionError("the test pictures are read")


@pytest.mark.group("train")
def test_the_same_probe_gives_the_same_figures_and_leaves_the_test_pictures_alone() -> None:
    splits = data.load("generated:10", SHAPE)
    sealed = replace(splits, test=Sealed(splits.test.images, splits.test.labels))
    plan = propose(build(0), X)
    prepared, settings = Preprocessing(SHAPE, (0.5,), (0.25,)), TrainSettings(16, warmup_epochs=0.0)
    counted: list[int] = []
    first, again = (
        probe(build, plan, sealed, prepared, settings, epochs=1, seeds=(0, 1), rates=(0.05, 0.1), told=counted.append)
        for _ in range(2)
    )
    assert first == again
    assert counted == [*range(1, 17)] * 2
    assert {each.name for each in first.tries} == {CONTROL, RAISED, GIANT, BRANCHES}
    assert first.verdict in ("likely", "unlikely", "open")


@pytest.mark.group("train")
def test_a_rate_at_which_training_diverges_is_only_the_worse_one() -> None:
    splits = data.load("generated:10", SHAPE)
    settings = TrainSettings(16, warmup_epochs=0.0)
    shown = probe(build, propose(build(0), X), splits, Preprocessing(SHAPE, (0.5,), (0.25,)), settings, epochs=3,
                  seeds=(0,), rates=(0.05, 1e30))  # fmt: skip
    assert {each.validation_score for each in shown.tries if each.learning_rate == 1e30} == {0.0}
    assert shown.rate(CONTROL) == shown.rate(GIANT) == 0.05


def test_a_network_without_norms_in_front_of_activations_is_not_raised() -> None:
    def plain(_seed: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 28 * 28, 10))

    plan = propose(plain(0), X, block="basic")
    assert list(networks(plain, plan, X)) == [CONTROL, GIANT, BRANCHES]


def test_a_network_without_convolutions_has_no_branches() -> None:
    def flat(_seed: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 8), nn.ReLU(), nn.Linear(8, 10))

    assert list(networks(flat, propose(flat(0), X, block="basic"), X)) == [CONTROL, GIANT]


def test_one_way_that_pays_is_enough_and_what_is_linear_needs_no_margin() -> None:
    shown = found(-1.0, -1.2)
    branches = [Try(BRANCHES, seed, 0.1, 0.41 + seed / 1000) for seed in range(2)]
    both = Probe(5, (*shown.tries, *branches), {GIANT: LEAD, BRANCHES: 0.0})
    assert [both.chance(name) for name in both.needed] == ["unlikely", "likely"]
    assert both.verdict == "likely"
    assert "too little would be left (of a giant, 3 are needed); branches +1.0 points" in both.why
    assert "all of which is left after contraction" in both.why


def test_branches_start_with_raised_norms_in_separable_blocks_without_shortcuts() -> None:
    def straight(_seed: int) -> nn.Module:
        layers = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4), nn.ReLU()
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * 676, 10))

    def biases(make: Callable[[int], nn.Module]) -> set[float]:
        model = networks(make, propose(make(0), X, choose=parse("name:*")), X)[BRANCHES](0)
        return {bias for m in model.modules() if isinstance(m, nn.BatchNorm2d) for bias in m.bias.tolist()}

    assert biases(straight) == {0.0, 1.0}
    assert biases(build) == {0.0}
