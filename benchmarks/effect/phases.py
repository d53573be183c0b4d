"""A phase: one stretch of training with one network, one objective and one piece of a cosine; a method has several."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional

from effect.averaging import Average
from effect.changes import Change, Keep, Setting
from effect.objectives import Goal, Labels
from nbedge.linearization import ORDERS, PLT, least_sensitive_first, sensitivities
from nbedge.slopes import set_slope_
from nbedge.tracing import evaluating

#: a forward and a backward pass cost three forward ones
TRAINED = 3


#: order of a ramp, and the pictures on which it is measured
SENSITIVE, MEASURED = "least-sensitive-first", 1024


@dataclass(frozen=True, slots=True, eq=False)
class Begin:
    """What a phase begins with: the network that the one before left, if there is one, and the setting."""

    model: nn.Module | None
    setting: Setting


class Slopes(Protocol):
    """How the slopes go through a phase."""

    def setter(self, model: nn.Module, steps: int, begin: Begin) -> Callable[[int], None]:
        """Return what sets the slopes of `model` before step number n of `steps`, and behind the last one."""


@dataclass(frozen=True, slots=True)
class Still:
    """The slopes stay as they are."""

    def setter(self, model: nn.Module, steps: int, begin: Begin) -> Callable[[int], None]:
        """Return what does nothing."""
        return lambda _step: None


@dataclass(frozen=True, slots=True)
class Rising:
    """Slopes rise from 0 to 1 between two shares of the phase.

    Attributes:
        start: share of the phase with slope 0 (or falling to it).
        end: share after which all slopes are 1.
        shape: linear or cosine.
        order: together, front-to-back, back-to-front, or least-sensitive-first: by how much the loss of the network
            that the phase begins with rises, on `MEASURED` of its training pictures, where one block alone is linear.
        fall: share of the phase over which slopes fall from 1 first, for sites that start factorized.
    """

    start: float = 0.0
    end: float = 0.25
    shape: str = "linear"
    order: str = "together"
    fall: float = 0.0

    def setter(self, model: nn.Module, steps: int, begin: Begin) -> Callable[[int], None]:
        """Return what applies PLT; behind the last step it sets 1."""
        fall = round(self.fall * steps)
        start = max(fall, round(self.start * steps))
        end = max(start + 1, round(self.end * steps))
        ordered = by_sensitivity(begin) if self.order == SENSITIVE else ORDERS[self.order](model)
        plt = PLT(start, end, self.shape, tuple(ordered), fall)

        def apply(step: int) -> None:
            plt.apply(model, step)
            if step >= steps:
                set_slope_(model, 1.0)

        return apply


def by_sensitivity(begin: Begin) -> tuple[str, ...]:
    """Return the layers of the giant's blocks, the one whose linearization costs least first."""
    images, labels = begin.setting.seen(MEASURED)

    @torch.no_grad()
    def loss(giant: nn.Module) -> float:
        with evaluating(giant):
            return float(functional.cross_entropy(giant(images), labels))

    assert begin.model is not None, "the order by sensitivity needs a phase before"
    return least_sensitive_first(sensitivities(copy.deepcopy(begin.model), loss))


KEEP, STILL, LABELS, LAST = Keep(), Still(), Labels(), Average()


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase; its words, with those of the phases before it, is what identifies its result.

    Attributes:
        name: for people.
        epochs: over the training pictures; a part of one is possible.
        change: done to the network first.
        slopes: of a giant.
        goal: what is minimised.
        factor: on the run's learning rate.
        before: epochs of earlier phases, and
        after: of later ones, that share one cosine with this one.
        average: of the weights, taken as the result.
        finish: done to the network at the end of the phase.
        first: in a transfer, it is trained on the pictures that come first.
    """

    name: str
    epochs: float
    change: Change = KEEP
    slopes: Slopes = STILL
    goal: Goal = LABELS
    factor: float = 1.0
    before: float = 0.0
    after: float = 0.0
    average: Average = LAST
    finish: tuple[Change, ...] = ()
    first: bool = False


@dataclass(frozen=True, slots=True)
class Price:
    """What a phase costs: steps, and multiply-accumulates of training for one input."""

    steps: int
    macs: int

    def of(self, batch: int) -> int:
        """Return the multiply-accumulates of training in the whole phase."""
        return self.steps * self.macs * batch


def price(phase: Phase, model: nn.Module, previous: nn.Module | None, setting: Setting, each: int) -> Price:
    """Return what `phase` costs: a trained pass counts three times a forward one, a teacher's once.

    Args:
        phase: whose cost is asked.
        model: the network that it trains, after its change.
        previous: the network before it.
        setting: of the run.
        each: steps of an epoch.
    """
    return Price(round(phase.epochs * each), TRAINED * setting.macs(model) + phase.goal.passes(previous, setting))
