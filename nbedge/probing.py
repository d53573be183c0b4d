"""probe(): short trainings of the tiny network and of its giant, to guess whether boosting is likely to pay."""

import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, sqrt

import torch
from torch import Tensor, nn

from nbedge.data import Splits
from nbedge.errors import DivergenceError, PlanError
from nbedge.expansion import expand
from nbedge.initialization import activated_norms, raise_norms_, usual_bias
from nbedge.plan import Plan
from nbedge.preprocessing import Preprocessing
from nbedge.proposal import propose
from nbedge.selection import parse
from nbedge.training import TrainSettings, train

CONTROL, RAISED, GIANT, BRANCHES = "control", "raised norms", "giant", "branches"
#: points by which a giant that has to be made linear must lead, standard errors taken off: of leads of 0.8 to 2.9
#: points nothing was left (docs/results.md); blocks that are linear from the start lose nothing
LEAD = 3.0

#: learning rates that are tried
RATES = (0.2, 0.8)
#: seed -> a tiny network with fresh weights
Build = Callable[[int], nn.Module]


@dataclass(frozen=True, slots=True)
class Try:
    """One short training; `validation_score` is a fraction, 0 if the training diverged."""

    name: str
    seed: int
    learning_rate: float
    validation_score: float


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
        needed: name of what contracts to the tiny network -> points by which it must lead for boosting to pay.
    """

    epochs: int
    tries: tuple[Try, ...]
    needed: Mapping[str, float]

    def rate(self, name: str) -> float:
        """Return the learning rate of the best mean accuracy over all seeds."""
        sums: dict[float, float] = {}
        for found in self.tries:
            if found.name == name:
                sums[found.learning_rate] = sums.get(found.learning_rate, 0.0) + found.validation_score
        return max(sums, key=lambda rate: sums[rate])

    def best(self, name: str) -> dict[int, float]:
        """Return seed -> accuracy (a fraction) at the best learning rate."""
        kept = [found for found in self.tries if (found.name, found.learning_rate) == (name, self.rate(name))]
        return {found.seed: found.validation_score for found in kept}

    def lead(self, name: str) -> Lead:
        """Return by how much a network leads the control, seed by seed."""
        control = self.best(CONTROL)
        points = [100 * (top1 - control[seed]) for seed, top1 in self.best(name).items()]
        error = statistics.stdev(points) / sqrt(len(points)) if len(points) > 1 else inf
        return Lead(statistics.mean(points), error)

    @property
    def verdict(self) -> str:
        """Whether any way of boosting is "likely" to pay, all are "unlikely" to, or that is "open"."""
        found = [self.chance(name) for name in self.needed]
        return next(word for word in ("likely", "open", "unlikely") if word in found)

    def chance(self, name: str) -> str:
        """Whether one way of boosting is "likely" or "unlikely" to pay, or that is "open"."""
        lead, needed = self.lead(name), self.needed[name]
        if lead.mean - 2 * lead.error > needed:
            return "likely"
        return "unlikely" if lead.mean + 2 * lead.error < needed else "open"

    @property
    def why(self) -> str:
        """The verdict in words."""
        said = "; ".join(f"{name} {self.lead(name)}, {self._words(name)}" for name in self.needed)
        more = "" if self.verdict != "open" else " More --epochs or --seeds may tell."
        return f"Behind {self.epochs} epochs, from the control: {said}.{more}"

    def _words(self, name: str) -> str:
        needed, chance = self.needed[name], self.chance(name)
        if chance == "open":
            return "too close to call"
        if needed:
            left = "a part of it is left after contraction" if chance == "likely" else "too little would be left"
            return f"{left} (of a giant, {needed:g} are needed)"
        return "all of which is left after contraction" if chance == "likely" else "which is no lead"


def probe(
    build: Build,
    plan: Plan,
    splits: Splits,
    preprocessing: Preprocessing,
    settings: TrainSettings,
    *,
    epochs: int,
    seeds: Sequence[int] = (0, 1),
    rates: Sequence[float] = RATES,
    told: Callable[[int], None] = lambda _done: None,
) -> Probe:
    """Train the tiny network, with raised norms, as a giant, and as branches, a few epochs at several learning rates.

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
                top1 = curve[-1].validation_score
            except DivergenceError:
                top1 = 0.0
            tries.append(Try(name, seed, rate, top1))
            told(len(tries))
    trained = {each.name for each in tries}
    return Probe(epochs, tuple(tries), {name: lead for name, lead in _needed(plan).items() if name in trained})


def _needed(plan: Plan) -> dict[str, float]:
    straight = all(site.block in ("linear", "branches") for site in plan.sites)
    return {GIANT: 0.0 if straight else LEAD, BRANCHES: 0.0}


def networks(build: Build, plan: Plan, example: Tensor) -> dict[str, Build]:
    """Return name -> what builds each network that is probed: those that the tiny network allows."""
    found = {CONTROL: build, RAISED: lambda seed: _raised(build(seed), example)}
    found |= {GIANT: lambda seed: expand(build(seed), plan, seed=seed)}
    tiny = build(0)
    if not activated_norms(tiny, example):
        del found[RAISED]
    try:
        branches = propose(tiny, example, block="branches", ratio=1, choose=parse("name:*"))
    except PlanError:  # no layer takes them
        return found
    bias = usual_bias(tiny, example)

    def branched(seed: int) -> nn.Module:
        model = _raised(build(seed), example) if bias else build(seed)
        return expand(model, branches, seed=seed)

    return {**found, BRANCHES: branched}


def _raised(model: nn.Module, example: Tensor) -> nn.Module:
    raise_norms_(model, example)
    return model
