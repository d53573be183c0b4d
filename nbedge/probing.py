"""probe(): short trainings of the tiny network and of its giant, to guess whether boosting is likely to pay."""

import itertools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf, sqrt

import torch
from torch import Tensor, nn

from nbedge.data import Splits
from nbedge.errors import DivergenceError, InputError
from nbedge.expansion import expand
from nbedge.initialization import raise_norms_
from nbedge.plan import Plan
from nbedge.preprocessing import Preprocessing
from nbedge.training import TrainSettings, train

CONTROL, RAISED, GIANT = "control", "raised norms", "giant"
#: points by which the giant has to lead, standard errors taken off: of a lead of 2.6 points 0.3 were left (1 network)
LEAD = 2.0

#: seed -> a tiny network with fresh weights
Build = Callable[[int], nn.Module]


@dataclass(frozen=True, slots=True)
class Try:
    """One short training; `validation_top1` is a fraction, 0 if the training diverged."""

    name: str
    seed: int
    learning_rate: float
    validation_top1: float


@dataclass(frozen=True, slots=True)
class Lead:
    """By how much one network leads the control, in points: mean over seeds and its standard error, inf of one seed."""

    mean: float
    error: float

    def __str__(self) -> str:
        """Show it with its sign."""
        return f"{self.mean:+.1f} points" + ("" if self.error == inf else f" (standard error {self.error:.1f})")


@dataclass(frozen=True, slots=True)
class Probe:
    """What the short trainings showed.

    Attributes:
        epochs: of each.
        tries: all of them.
    """

    epochs: int
    tries: tuple[Try, ...]

    def rate(self, name: str) -> float:
        """Return the learning rate of the best mean accuracy over all seeds."""
        sums: dict[float, float] = {}
        for found in self.tries:
            if found.name == name:
                sums[found.learning_rate] = sums.get(found.learning_rate, 0.0) + found.validation_top1
        return max(sums, key=lambda rate: sums[rate])

    def best(self, name: str) -> dict[int, float]:
        """Return seed -> accuracy (a fraction) at the best learning rate."""
        kept = [found for found in self.tries if (found.name, found.learning_rate) == (name, self.rate(name))]
        return {found.seed: found.validation_top1 for found in kept}

    def lead(self, name: str) -> Lead:
        """Return by how much a network leads the control, seed by seed."""
        control = self.best(CONTROL)
        points = [100 * (top1 - control[seed]) for seed, top1 in self.best(name).items()]
        error = statistics.stdev(points) / sqrt(len(points)) if len(points) > 1 else inf
        return Lead(statistics.mean(points), error)

    @property
    def verdict(self) -> str:
        """Whether boosting is "likely" or "unlikely" to pay, or that is "open"."""
        lead = self.lead(GIANT)
        if lead.mean - 2 * lead.error > LEAD:
            return "likely"
        return "unlikely" if lead.mean + 2 * lead.error < LEAD else "open"

    @property
    def why(self) -> str:
        """The verdict in words."""
        words = {
            "likely": "so boosting may pay: a part of such a lead is left after contraction",
            "unlikely": f"which is less than {LEAD:g}: too little would be left after contraction",
            "open": "which is too close to call; give more --epochs or --seeds",
        }
        return f"Behind {self.epochs} epochs the giant is {self.lead(GIANT)} from the control, {words[self.verdict]}."


def probe(
    build: Build,
    plan: Plan,
    splits: Splits,
    preprocessing: Preprocessing,
    settings: TrainSettings,
    *,
    epochs: int,
    seeds: Sequence[int] = (0, 1),
    rates: Sequence[float] = (0.2, 0.8),
    told: Callable[[int], None] = lambda _done: None,
) -> Probe:
    """Train the tiny network, the same with raised norms, and the giant for a few epochs at several learning rates.

    The better rate of each counts: an untuned control would make anything look good. Validation pictures judge; the
    test pictures are not read. A short training underestimates a giant, which needs many steps.

    Args:
        build: seed -> a tiny network with fresh weights.
        plan: of the giant.
        splits: the pictures.
        preprocessing: of the pictures.
        settings: of the optimizer; its learning rate is not used.
        epochs: of each training, in one cosine.
        seeds: of weights and order.
        rates: learning rates that are tried.
        told: how many trainings are done, after each.

    Raises:
        InputError: fewer training pictures than a batch, or outputs other than one a class.
    """
    tries = []
    example = torch.zeros(1, *preprocessing.shape)
    for name, make in networks(build, plan, example).items():
        for seed, rate in itertools.product(seeds, rates):
            chosen = replace(settings, learning_rate=rate)
            try:
                curve = train(make(seed), splits, preprocessing, chosen, epochs=epochs, seed=seed)
                top1 = curve[-1].validation_top1
            except DivergenceError:
                top1 = 0.0
            tries.append(Try(name, seed, rate, top1))
            told(len(tries))
    return Probe(epochs, tuple(tries))


def networks(build: Build, plan: Plan, example: Tensor) -> dict[str, Build]:
    """Return name -> what builds each network that is probed; without BatchNorms to be raised there are two."""

    def raised(seed: int) -> nn.Module:
        model = build(seed)
        raise_norms_(model, example)
        return model

    found = {CONTROL: build, RAISED: raised, GIANT: lambda seed: expand(build(seed), plan, seed=seed)}
    try:
        raised(0)
    except InputError:
        del found[RAISED]
    return found
