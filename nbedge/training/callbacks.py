"""What rides along with a training: the slopes, the curve, and the state that a killed run resumes from."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import nn

from nbedge import files
from nbedge.data import Pictures
from nbedge.errors import InputError
from nbedge.evaluation import logits_of_module, top_k
from nbedge.linearization import PLT
from nbedge.preprocessing import Preprocessing


@dataclass(frozen=True, slots=True)
class Epoch:
    """One point of the training curve; accuracy is a fraction, the slope None where the model has none."""

    epoch: int
    train_loss: float
    validation_top1: float
    learning_rate: float
    slope: float | None


class LinearizeCallback(lightning.Callback):
    """Apply PLT before each step; its state travels in the training checkpoint."""

    def __init__(self, plt: PLT) -> None:
        self._plt = plt

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the slopes that belong to this step."""
        self._plt.apply(pl_module, trainer.global_step)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Set the slopes that belong to the end."""
        self._plt.apply(pl_module, trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """Return the schedule's state."""
        return self._plt.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the schedule's state."""
        self._plt.load_state_dict(state_dict)


class SeedCallback(lightning.Callback):
    """Seed what dropout draws from with (seed, step), so that a resumed run draws what the undisturbed one drew."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed torch's own generators."""
        torch.manual_seed((self._seed * 1_000_003 + trainer.global_step) % 2**63)


class CurveCallback(lightning.Callback):
    """Collect one `Epoch` an epoch; the points so far travel in the training checkpoint."""

    def __init__(self, model: nn.Module, held: Pictures, preprocessing: Preprocessing, plt: PLT | None) -> None:
        self._model, self._held, self._preprocessing, self._plt = model, held, preprocessing, plt
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
        loss = float(self._loss) / self._seen
        if not math.isfinite(loss):
            raise InputError(
                f"the loss is {loss} in epoch {trainer.current_epoch + 1}; the training diverged: "
                "lower learning_rate or raise warmup_epochs"
            )
        logits = logits_of_module(self._model, self._held.images, self._preprocessing)
        self.epochs.append(
            Epoch(
                epoch=trainer.current_epoch + 1,
                train_loss=loss,
                validation_top1=top_k(logits, self._held.labels, 1),
                learning_rate=trainer.optimizers[0].param_groups[0]["lr"],
                slope=self._plt.slope(trainer.global_step) if self._plt else None,
            )
        )

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
        with files.appearing(self._path) as part:
            trainer.save_checkpoint(part)
