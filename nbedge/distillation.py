"""What training minimises: cross-entropy, alone or with what a teacher knows. It belongs to no training framework."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from nbedge.errors import InputError


class Objective(Protocol):
    """A loss that may look inside the model."""

    def __call__(self, model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
        """Run `model` on x (n, c, h, w) and return its loss on labels (n,), a scalar."""


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """Cross-entropy on logits; `smoothing` is the share of the target spread over all classes."""

    smoothing: float = 0.0

    def __call__(self, model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
        """Run `model` and return its loss."""
        return self.of(model(x), labels)

    def of(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of logits (n, k)."""
        return functional.cross_entropy(logits, labels, label_smoothing=self.smoothing)


def _softened(logits: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """Return T² KL(wanted ‖ softmax(logits / T)) of log-probabilities `wanted` (n, k), the mean over n.

    The factor T² keeps the gradient's size (Hinton et al., 2015, arXiv 1503.02531, section 2).
    """
    found = functional.log_softmax(logits / temperature, 1)
    return temperature**2 * functional.kl_div(found, wanted, reduction="batchmean", log_target=True)


@dataclass(frozen=True, slots=True)
class Distillation:
    """(1 - w) cross-entropy + w T² KL(teacher ‖ model) at temperature T, + f · the distance of features.

    The teacher may be the giant itself, frozen before its slopes rise: its outer architecture is the model's, so
    feature maps have the same shapes. A teacher much better than what the model can become did harm in short runs
    (docs/how-it-works.md), so nothing of this is on by default.

    Attributes:
        teacher: gives logits (n, k); it is held in eval mode and gets no gradient.
        weight: w, between 0 and 1.
        temperature: T, above 0.
        features: f, 0 or more.
        at: paths of modules, in teacher and model alike, whose outputs are compared.
        base: the other part of the loss.
    """

    teacher: nn.Module
    weight: float = 0.5
    temperature: float = 4.0
    features: float = 0.0
    at: tuple[str, ...] = ()
    base: CrossEntropy = field(default_factory=CrossEntropy)

    def __post_init__(self) -> None:
        """Refuse what is no mixture, and freeze the teacher."""
        _refuse_no_mixture(self.weight, self.temperature)
        if self.features < 0 or (self.features > 0 and not self.at):
            raise InputError(f"the weight of features is {self.features} at {len(self.at)} places; give 0, or places")
        self.teacher.eval().requires_grad_(False)

    def __call__(self, model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
        """Run model and teacher on x and return the loss."""
        self.teacher.to(x.device)
        with torch.no_grad(), _watched(self.teacher, self.at) as shown:
            wanted = functional.log_softmax(self.teacher(x) / self.temperature, 1)
        with _watched(model, self.at) as seen:
            logits = model(x)
        loss = (1 - self.weight) * self.base.of(logits, labels)
        loss = loss + self.weight * _softened(logits, wanted, self.temperature)
        for name in self.at:
            loss = loss + self.features / len(self.at) * _distance(seen[name], shown[name])
        return loss


def _distance(found: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean squared error in units of the variance of `wanted`, so that no layer outweighs the others."""
    return functional.mse_loss(found, wanted) / wanted.var().clamp_min(1e-12)


@contextmanager
def _watched(model: nn.Module, paths: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of the modules at `paths` while the block runs the model."""
    outputs: dict[str, Tensor] = {}
    handles = []
    for path in paths:

        def keep(_module: nn.Module, _inputs: object, output: Tensor, path: str = path) -> None:
            outputs[path] = output

        handles.append(model.get_submodule(path).register_forward_hook(keep))
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True, slots=True)
class TeacherFree:
    """(1 - w) cross-entropy + w T² KL(virtual teacher ‖ model): a teacher that is right by design.

    It gives the label the probability `correct` and all others the same one, softened by T: the regularization of
    Yuan et al., CVPR 2020 (arXiv 1909.11723), section 4.2, with T on both sides.

    Attributes:
        weight: w, between 0 and 1.
        temperature: T, above 0.
        correct: probability of the label before softening.
        base: the other part of the loss.
    """

    weight: float = 0.5
    temperature: float = 20.0
    correct: float = 0.99
    base: CrossEntropy = field(default_factory=CrossEntropy)

    def __post_init__(self) -> None:
        """Refuse what is no mixture."""
        _refuse_no_mixture(self.weight, self.temperature)
        if not 0 < self.correct < 1:
            raise InputError(f"the virtual teacher is right with probability {self.correct}; give one between 0 and 1")

    def __call__(self, model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
        """Run `model` and return its loss."""
        logits = model(x)
        classes = logits.shape[1]
        probabilities = torch.full_like(logits, (1 - self.correct) / max(classes - 1, 1))
        probabilities.scatter_(1, labels[:, None], self.correct)
        wanted = functional.log_softmax(probabilities.log() / self.temperature, 1)
        loss = (1 - self.weight) * self.base.of(logits, labels)
        return loss + self.weight * _softened(logits, wanted, self.temperature)


def _refuse_no_mixture(weight: float, temperature: float) -> None:
    if not 0 <= weight <= 1:
        raise InputError(f"the weight of distillation is {weight}; give a share from 0 to 1")
    if not temperature > 0:
        raise InputError(f"the temperature of distillation is {temperature}; give a number above 0")
