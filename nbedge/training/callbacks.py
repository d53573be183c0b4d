"""What rides along with a training: the slopes, the curve, and the state that a killed run resumes from."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import nn

from nbedge.data import Pictures
from nbedge.errors import DivergenceError
from nbedge.evaluation import outputs_of_module
from nbedge.linearization import PLT
from nbedge.preprocessing import Preprocessing
from nbedge.slopes import copy_slopes_
from nbedge.task import Task
from nbedge.training import processes
from nbedge.training.sampling import here


@dataclass(frozen=True, slots=True)
class Epoch:
    """One point of the training curve; the score is a fraction, the slope None where the model has none."""

    epoch: int
    train_loss: float
    validation_score: float
    learning_rate: float
    slope: float | None


class LinearizeCallback(lightning.Callback):
    """Apply PLT before each step; its state travels in the training checkpoint.

    A copy that Lightning's `WeightAveraging` keeps gets the slopes as they are: averaged, they would lag behind 1.
    """

    def __init__(self, plt: PLT, afterwards: Callable[[nn.Module], None] = lambda _model: None) -> None:
        """Remember the schedule, and what is told once of the model at slope 1."""
        self._plt, self._afterwards, self._done = plt, afterwards, False

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the slopes that belong to this step."""
        self._apply(trainer, pl_module)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Set the slopes that belong to the end."""
        self._apply(trainer, pl_module)

    def _apply(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        slope = self._plt.apply(pl_module, trainer.global_step)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, WeightAveraging) and callback._average_model is not None:
                copy_slopes_(pl_module, callback._average_model)
        # a pure function of the step: a resumed training finds the same answer
        if slope == 1.0 and not self._done:
            self._afterwards(pl_module)
            self._done = True

    def state_dict(self) -> dict[str, Any]:
        """Return the schedule's state."""
        return self._plt.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the schedule's state."""
        self._plt.load_state_dict(state_dict)


class SeedCallback(lightning.Callback):
    """Seed what dropout draws from with (seed, step, process): a resumed run draws what the undisturbed one drew."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed torch's own generators."""
        piece = batch_idx % trainer.accumulate_grad_batches
        drawn = self._seed * 1_000_003 + trainer.global_step + (piece * 1009 + here().rank) * 2**40
        torch.manual_seed(drawn % 2**63)


class CurveCallback(lightning.Callback):
    """Collect one `Epoch` an epoch; the points so far travel in the training checkpoint."""

    def __init__(
        self, model: nn.Module, held: Pictures, task: Task, preprocessing: Preprocessing, plt: PLT | None
    ) -> None:  # fmt: skip
        self._model, self._held, self._task, self._preprocessing, self._plt = model, held, task, preprocessing, plt
        self._loss, self._seen = torch.zeros(()), 0
        self.epochs: list[Epoch] = []

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin a new mean."""
        self._loss, self._seen = torch.zeros((), device=pl_module.device), 0

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the batch's loss."""
        self._loss += outputs["loss"].detach()
        self._seen += 1

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Look at the validation split and add the point."""
        loss = float(processes.total(self._loss.clone())) / self._seen / here().world
        if not math.isfinite(loss):
            raise DivergenceError(
                f"the loss is {loss} in epoch {trainer.current_epoch + 1}; the training diverged: "
                "lower learning_rate or raise warmup_epochs"
            )
        self.epochs.append(
            Epoch(
                epoch=trainer.current_epoch + 1,
                train_loss=loss,
                validation_score=self._score(pl_module.device),
                learning_rate=trainer.optimizers[0].param_groups[0]["lr"],
                slope=self._plt.slope(trainer.global_step) if self._plt else None,
            )
        )

    def _score(self, device: torch.device) -> float:
        """Return the score on the validation split; of one that adds up each process answers its part."""
        if not self._task.additive:
            return self._of(self._held)
        part = self._held.take(np.arange(here().rank, len(self._held), here().world))
        right = round(self._of(part) * len(part)) if len(part) else 0
        found = processes.total(torch.tensor(right, dtype=torch.float64, device=device))
        return found.item() / len(self._held)

    def _of(self, part: Pictures) -> float:
        return self._task.score(outputs_of_module(self._model, part.images, self._preprocessing), part.labels)

    def state_dict(self) -> dict[str, Any]:
        """Return the points so far as plain values."""
        return {"epochs": [asdict(epoch) for epoch in self.epochs]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the points."""
        self.epochs = [Epoch(**values) for values in state_dict["epochs"]]


class ResumeCallback(lightning.Callback):
    """Save the training state after each epoch, whole or not at all."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write beside, then rename: a kill in the middle leaves the last complete state."""
        part = self._path.with_name(f".{self._path.name}")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        trainer.save_checkpoint(part)  # every process calls it, the first writes
        if here().rank == 0:
            part.replace(self._path)
