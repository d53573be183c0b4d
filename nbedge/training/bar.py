"""One progress bar for a whole training phase, on stderr."""

import pytorch_lightning as lightning
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class EpochBar(lightning.Callback):
    """Show epochs done, the time taken and the time left."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._progress: Progress | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Open the bar where the (perhaps resumed) run stands."""
        columns = (
            TextColumn("{task.description}"), BarColumn(), TextColumn("epoch {task.fields[epoch]}/{task.fields[of]}"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        )  # fmt: skip
        self._progress = Progress(*columns, console=Console(stderr=True), transient=False)
        epochs, each = trainer.max_epochs or 0, int(trainer.num_training_batches)
        self._task = self._progress.add_task(
            self._title,
            total=epochs * each,
            completed=trainer.current_epoch * each,
            epoch=trainer.current_epoch,
            of=epochs,
        )
        self._progress.start()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: object, batch: object,
        batch_idx: int,
    ) -> None:  # fmt: skip
        """Move on by one step."""
        if self._progress:
            self._progress.update(self._task, completed=trainer.global_step, epoch=trainer.current_epoch)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Close the bar."""
        if self._progress:
            self._progress.update(self._task, completed=trainer.global_step, epoch=trainer.max_epochs)
            self._progress.stop()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Close the bar, so that the error is readable."""
        if self._progress:
            self._progress.stop()
