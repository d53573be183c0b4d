"""train(): one phase of training, of the tiny model, the giant, or the giant under PLT."""

import logging
import math
import signal
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from nbedge.data import Splits
from nbedge.errors import InputError
from nbedge.linearization import PLT
from nbedge.preprocessing import Preprocessing
from nbedge.training.batches import AUGMENTATIONS, batches
from nbedge.training.callbacks import CurveCallback, Epoch, LinearizeCallback, ResumeCallback, SeedCallback


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How a model is trained: SGD with Nesterov momentum, warm-up, then one cosine to 0.

    Attributes:
        batch_size: pictures a step.
        learning_rate: at the top of the schedule.
        warmup_epochs: epochs (or a part of one) of linear warm-up.
        momentum: of SGD.
        weight_decay: on convolution and linear weights only.
        label_smoothing: of the cross-entropy.
        augment: any of "shift" and "flip".
    """

    batch_size: int = 256
    learning_rate: float = 0.4
    warmup_epochs: float = 0.5
    momentum: float = 0.9
    weight_decay: float = 4e-5
    label_smoothing: float = 0.0
    augment: tuple[str, ...] = ("shift", "flip")

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        if self.batch_size < 1:
            raise InputError(f"batch_size is {self.batch_size}; give 1 or more")
        if self.learning_rate <= 0:
            raise InputError(f"learning_rate is {self.learning_rate}; give a number above 0")
        unknown = set(self.augment) - set(AUGMENTATIONS)
        if unknown:
            raise InputError(f"augment holds {min(unknown)!r}; choose from {', '.join(AUGMENTATIONS)}")


class Classifier(lightning.LightningModule):
    """Cross-entropy on logits, and the optimizer of `TrainSettings`."""

    def __init__(self, model: nn.Module, settings: TrainSettings, steps: int, warmup: int) -> None:
        super().__init__()
        self.model = model
        self._settings, self._steps, self._warmup = settings, steps, warmup

    def training_step(self, batch: tuple[Tensor, Tensor], _index: int) -> Tensor:
        """Return the loss of one batch."""
        x, labels = batch
        return functional.cross_entropy(self.model(x), labels, label_smoothing=self._settings.label_smoothing)

    def configure_optimizers(self) -> Any:
        """Return SGD and its schedule, one value a step."""
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": self._settings.weight_decay},
            {"params": others},
        ]
        optimizer = torch.optim.SGD(groups, self._settings.learning_rate, self._settings.momentum, nesterov=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _share(self, step: int) -> float:
        warm = min(1.0, (step + 1) / self._warmup) if self._warmup else 1.0
        return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self._steps)))


def train(
    model: nn.Module,
    data: Splits,
    preprocessing: Preprocessing,
    settings: TrainSettings,
    *,
    epochs: int,
    seed: int = 0,
    plt: PLT | None = None,
    resume: Path | None = None,
    title: str = "training",
    progress: bool = False,
) -> list[Epoch]:
    """Train `model` in place and return its curve; it is left in eval mode on the CPU.

    Args:
        model: takes (n, c, h, w), gives logits (n, classes).
        data: train is fitted, validation is looked at after each epoch.
        preprocessing: of the pictures.
        settings: of the optimizer and the augmentation.
        epochs: over the training split.
        seed: of order, augmentation and dropout; each epoch depends on (seed, epoch) alone.
        plt: slopes to apply before each step.
        resume: where the state is kept; if it is there already, training goes on from it.
        title: shown before the progress bar.
        progress: show a progress bar on stderr.

    Raises:
        InputError: fewer training pictures than a batch, or a loss that is not finite.
    """
    if len(data.train) < settings.batch_size:
        raise InputError(
            f"batch_size is {settings.batch_size}, but only {len(data.train)} pictures are left for training; lower it"
        )
    loader = batches(data.train, preprocessing, settings.batch_size, seed, settings.augment)
    steps = len(loader) * epochs
    curve = CurveCallback(model, data.validation, preprocessing, plt)
    callbacks = [SeedCallback(seed), curve]
    callbacks += [*([LinearizeCallback(plt)] if plt else []), *([ResumeCallback(resume)] if resume else [])]
    module = Classifier(model, settings, steps, round(settings.warmup_epochs * len(loader)))
    _to_layout(model.train(), torch.channels_last)  # 1.3 to 2.6 times faster than NCHW on a CPU
    with torch.random.fork_rng(devices=[]):
        _fit(module, loader, callbacks, epochs, resume, title if progress else None)
    _to_layout(model.cpu().eval(), torch.contiguous_format)
    return curve.epochs


def _to_layout(model: nn.Module, layout: torch.memory_format) -> None:
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=layout)


def _fit(
    module: Classifier, loader: DataLoader[tuple[Tensor, Tensor]], callbacks: list[lightning.Callback], epochs: int,
    resume: Path | None, title: str | None,
) -> None:  # fmt: skip
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # Lightning advises on worker processes, which pictures in memory do not need
        warnings.filterwarnings("ignore", category=UserWarning, module="pytorch_lightning")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        trainer = lightning.Trainer(
            max_epochs=epochs, callbacks=[*callbacks, *([_bar(title)] if title else [])], devices=1, logger=False,
            enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=False,
            use_distributed_sampler=False,
        )  # fmt: skip
        state = resume if resume and resume.exists() else None
        try:
            trainer.fit(module, loader, ckpt_path=state, weights_only=True)
        except SystemExit as error:  # Lightning answers Ctrl-C with exit(1), and stops listening to further ones
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt from error


def _bar(title: str) -> lightning.Callback:
    from nbedge.training.bar import EpochBar

    return EpochBar(title)
