"""train(): one phase of training, of the tiny model, the giant, or the giant under PLT."""

import logging
import math
import signal
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from nbedge.data import Splits
from nbedge.detection.objective import CentreLoss
from nbedge.distillation import CrossEntropy, Objective
from nbedge.errors import InputError
from nbedge.evaluation import named
from nbedge.linearization import PLT
from nbedge.preprocessing import Preprocessing
from nbedge.slopes import penalty
from nbedge.task import DETECTION, Task, task_of
from nbedge.tracing import evaluating
from nbedge.training import processes
from nbedge.training.batches import batches
from nbedge.training.callbacks import CurveCallback, Epoch, LinearizeCallback, ResumeCallback, SeedCallback
from nbedge.training.schedule import Schedule
from nbedge.training.settings import TrainSettings


@dataclass(frozen=True, slots=True)
class Straightening:
    """How a giant becomes linear while it is trained.

    Attributes:
        plt: the schedule of the slopes.
        penalty: weight in the loss of what is not linear yet, for slopes that are learned.
        afterwards: told once, before the first step at slope 1, with the model; `nbedge.blocks.squeeze_` lets the rest
            of the training cost about what the tiny model costs.
    """

    plt: PLT
    penalty: float = 0.0
    afterwards: Callable[[nn.Module], None] = field(default=lambda _model: None)


def _refuse_outputs(model: nn.Module, shape: tuple[int, ...], task: Task, classes: tuple[str, ...]) -> None:
    like = next(model.parameters(), torch.empty(0))
    with evaluating(model), torch.inference_mode():
        found = named(model(torch.zeros(1, *shape).to(like)))
    wrong = task.unfit(found, len(classes))
    if wrong:
        raise InputError(f"the model {wrong} (the data has {len(classes)} classes); change its arguments or the data")


def usual_objective(task: Task, smoothing: float = 0.0) -> Objective:
    """Return what the training for a task minimises: cross-entropy with label smoothing, or the loss of a detector."""
    return CentreLoss() if task is DETECTION else CrossEntropy(smoothing)


class Training(lightning.LightningModule):
    """An objective, and the optimizer of `TrainSettings`."""

    def __init__(
        self, model: nn.Module, settings: TrainSettings, schedule: Schedule, objective: Objective, penalty: float = 0.0
    ) -> None:
        super().__init__()
        self.model = model
        self._settings, self._schedule, self._objective, self._penalty = settings, schedule, objective, penalty

    def training_step(self, batch: tuple[Tensor, Tensor], _index: int) -> Tensor:
        """Return the loss of one batch."""
        loss = self._objective(self.model, *batch)
        return loss + self._penalty * penalty(self.model) if self._penalty else loss

    def configure_optimizers(self) -> Any:
        """Return SGD and its schedule, one value a step."""
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": self._settings.weight_decay},
            {"params": others},
        ]
        optimizer = torch.optim.SGD(groups, self._settings.learning_rate, self._settings.momentum, nesterov=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._schedule.share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def train(
    model: nn.Module,
    data: Splits,
    preprocessing: Preprocessing,
    settings: TrainSettings,
    *,
    epochs: int,
    seed: int = 0,
    plt: PLT | Straightening | None = None,
    objective: Objective | None = None,
    before: int = 0,
    after: int = 0,
    callbacks: Sequence[lightning.Callback] = (),
    resume: Path | None = None,
    title: str = "training",
    progress: bool = False,
) -> list[Epoch]:
    """Train `model` in place and return its curve; it is left in eval mode on the CPU.

    Under torchrun or Slurm every process calls this; each takes its part of every batch, and gradients are averaged.

    Args:
        model: takes (n, c, h, w), gives what the task of the data asks for: logits (n, classes), or a detector's maps.
        data: train is fitted, validation is looked at after each epoch.
        preprocessing: of the pictures.
        settings: of the optimizer and the augmentation.
        epochs: over the training split.
        seed: of order, augmentation and dropout; each epoch depends on (seed, epoch) alone.
        plt: slopes to apply before each step.
        objective: what is minimised; None: what is usual for the task, with the label smoothing of the settings.
        before: epochs of an earlier phase, and
        after: of a later one, that share one schedule of the learning rate with this one.
        callbacks: of PyTorch Lightning, such as an average of the weights; slopes are kept out of averages.
        resume: where the state is kept; if it is there already, training goes on from it.
        title: shown before the progress bar.
        progress: show a progress bar on stderr.

    Raises:
        InputError: fewer training pictures than a batch, outputs of another task, or a loss that is not finite.
    """
    task = task_of(data.task)
    _refuse_outputs(model, preprocessing.shape, task, data.classes)
    if len(data.train) < settings.batch_size:
        raise InputError(
            f"batch_size is {settings.batch_size}, but only {len(data.train)} pictures are left for training; lower it"
        )
    straight = Straightening(plt) if isinstance(plt, PLT) else plt
    with processes.together():
        loader = batches(
            data.train, preprocessing, settings.batch_size // settings.accumulate, seed, settings.augment,
            workers=settings.workers,
        )  # fmt: skip
        each = math.ceil(len(loader) / settings.accumulate)
        schedule = Schedule(each * (before + epochs + after), round(settings.warmup_epochs * each), each * before)
        curve = CurveCallback(model, data.validation, task, preprocessing, straight.plt if straight else None)
        own = [SeedCallback(seed), curve]
        own += [*([LinearizeCallback(straight.plt, straight.afterwards)] if straight else []), *callbacks]
        own += [ResumeCallback(resume)] if resume else []
        loss = objective or usual_objective(task, settings.label_smoothing)
        module = Training(model, settings, schedule, loss, straight.penalty if straight else 0.0)
        _to_layout(model.train(), torch.channels_last)  # 1.3 to 2.6 times faster than NCHW on a CPU
        with torch.random.fork_rng(devices=[]):
            _fit(module, loader, own, epochs, resume, title if progress else None)
    _to_layout(model.cpu().eval(), torch.contiguous_format)
    return curve.epochs


def _to_layout(model: nn.Module, layout: torch.memory_format) -> None:
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=layout)


def _fit(
    module: Training, loader: DataLoader[tuple[Tensor, Tensor]], callbacks: list[lightning.Callback], epochs: int,
    resume: Path | None, title: str | None,
) -> None:  # fmt: skip
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    each, machines = processes.layout()
    settings = module._settings
    with warnings.catch_warnings():
        # Lightning advises on worker processes, which pictures in memory do not need
        warnings.filterwarnings("ignore", category=UserWarning, module="pytorch_lightning")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        # a depthwise weight in channels-last layout has strides of its own, which DDP remarks on
        warnings.filterwarnings("ignore", message=".*bucket view strides.*")
        trainer = lightning.Trainer(
            max_epochs=epochs, callbacks=[*callbacks, *([_bar(title)] if title else [])], devices=each,
            num_nodes=machines, strategy="ddp" if each * machines > 1 else "auto", precision=settings.precision,  # type: ignore[arg-type]

            accumulate_grad_batches=settings.accumulate, logger=False, enable_checkpointing=False,
            enable_model_summary=False, enable_progress_bar=False, use_distributed_sampler=False,
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
