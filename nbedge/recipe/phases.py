"""The sections of a recipe that say how giant and tuning are trained; `nbedge.recipe.records` checks their values."""

import math
from dataclasses import dataclass

from nbedge.training import TrainSettings

#: what is trained after slope 1
TAILS = ("giant", "squeezed", "contract-and-tune")
#: how giant and tuning share the learning rate
SCHEDULES = ("two-phase", "one-cycle")
#: the order of PLT that has to be measured
MEASURED = "least-sensitive-first"


@dataclass(frozen=True, slots=True)
class TrainSection(TrainSettings):
    """How long, and how. The control is trained for giant_epochs + plt_epochs, in one cosine.

    Attributes:
        giant_epochs: of the giant, slope 0.
        plt_epochs: of the tuning, in which the slopes rise to 1.
        ramp: share of the tuning over which they rise; the rest is trained at slope 1.
        schedule: "two-phase": giant and tuning have a cosine each, as published; "one-cycle": one for both.
        plt_learning_rate: at the top of the tuning's schedule; 0: that of the giant.
        tail: what is trained after slope 1. "giant": the giant. "squeezed": the giant, which runs as the tiny model
            while its factors are trained. "contract-and-tune": the contracted model.
        reestimate: training pictures on which BatchNorm statistics are measured anew before contraction; 0: none.
    """

    giant_epochs: int = 20
    plt_epochs: int = 20
    ramp: float = 0.25
    schedule: str = "two-phase"
    plt_learning_rate: float = 0.0
    tail: str = "giant"
    reestimate: int = 0

    @property
    def ramp_epochs(self) -> int:
        """Whole epochs of the tuning before contraction, where the contracted model is tuned."""
        return min(self.plt_epochs - 1, max(1, math.ceil(self.ramp * self.plt_epochs)))

    @property
    def shared_epochs(self) -> tuple[int, int]:
        """Epochs of the giant, and of the tuning, that stand in one cosine with the other phase."""
        return (self.giant_epochs, self.plt_epochs) if self.schedule == "one-cycle" else (0, 0)


@dataclass(frozen=True, slots=True)
class PltSection:
    """How the slopes rise.

    Attributes:
        shape: linear or cosine.
        order: together, front-to-back, back-to-front or least-sensitive-first (measured on validation pictures).
        penalty: weight in the loss of slopes that are learned; 0: they follow the schedule alone.
        fall: share of the tuning over which the slopes fall from 1 first, for plans that start factorized.
    """

    shape: str = "linear"
    order: str = "together"
    penalty: float = 0.0
    fall: float = 0.0


@dataclass(frozen=True, slots=True)
class DistillSection:
    """What the tuning learns from besides the labels.

    Attributes:
        teacher: "giant": the giant as it was before the tuning; "virtual": teacher-free; a path: that checkpoint;
            empty: nothing.
        weight: of the teacher in the loss, between 0 and 1.
        temperature: that softens its answers.
        features: weight of the distance between feature maps behind the expanded layers; of the teacher "giant" only.
    """

    teacher: str = ""
    weight: float = 0.5
    temperature: float = 4.0
    features: float = 0.0
