"""What a phase minimises: the loss of the labels, with what a teacher or wider networks that share its weights add."""

import copy
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from effect.changes import Setting
from nbedge.blocks import expanded_blocks
from nbedge.distillation import CrossEntropy, Distillation, Objective, TeacherFree
from nbedge.slopes import penalty


class Goal(Protocol):
    """An objective before it is made for one run; frozen, and its words are part of what identifies the run."""

    def made(self, previous: nn.Module | None, setting: Setting) -> Objective:
        """Return the objective; `previous` is the network as the phase before left it."""

    def passes(self, previous: nn.Module | None, setting: Setting) -> int:
        """Return the multiply-accumulates of the forward passes beyond the trained network's, for one input."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Cross-entropy."""

    smoothing: float = 0.0

    def made(self, previous: nn.Module | None, setting: Setting) -> Objective:
        """Return the objective."""
        return CrossEntropy(self.smoothing)

    def passes(self, previous: nn.Module | None, setting: Setting) -> int:
        """Return 0."""
        return 0


@dataclass(frozen=True, slots=True)
class Straightened:
    """Cross-entropy and `weight` times what is not linear yet, for slopes that are learned."""

    weight: float = 0.1

    def made(self, previous: nn.Module | None, setting: Setting) -> Objective:
        """Return the objective."""
        plain = CrossEntropy()
        return lambda model, x, labels: plain(model, x, labels) + self.weight * penalty(model)

    def passes(self, previous: nn.Module | None, setting: Setting) -> int:
        """Return 0."""
        return 0


@dataclass(frozen=True, slots=True)
class Virtual:
    """Distillation without a teacher, see `nbedge.distillation.TeacherFree`."""

    weight: float = 0.5
    temperature: float = 20.0

    def made(self, previous: nn.Module | None, setting: Setting) -> Objective:
        """Return the objective."""
        return TeacherFree(self.weight, self.temperature)

    def passes(self, previous: nn.Module | None, setting: Setting) -> int:
        """Return 0."""
        return 0


@dataclass(frozen=True, slots=True)
class Teacher:
    """Distillation from the network as the phase before left it, see `nbedge.distillation.Distillation`.

    Attributes:
        features: weight of the distance between what stands behind the teacher's blocks and the model's own.
    """

    weight: float = 0.5
    temperature: float = 4.0
    features: float = 0.0

    def made(self, previous: nn.Module | None, setting: Setting) -> Objective:
        """Return the objective, with a copy of `previous`."""
        assert previous is not None, "a teacher needs a phase before"
        teacher = copy.deepcopy(previous)
        blocks = expanded_blocks(teacher) if self.features else []
        at = tuple(block.site.norm or block.site.layer for _, block in blocks)
        return Distillation(teacher, self.weight, self.temperature, self.features, at)

    def passes(self, previous: nn.Module | None, setting: Setting) -> int:
        """Return those of the teacher, which are forward only: a third of what a trained pass is counted as."""
        assert previous is not None, "a teacher needs a phase before"
        return setting.macs(previous)
