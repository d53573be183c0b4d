"""The progress bar of a training phase."""

from contextlib import ExitStack

import pytorch_lightning as lightning

from nbedge.progress import Bar, bar


class EpochBar(lightning.Callback):
    """Show epochs done, the time taken and the time left; a resumed run begins where it stands."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._open = ExitStack()
        self._bar: Bar | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Open the bar."""
        self._bar = self._open.enter_context(bar(self._title, trainer.estimated_stepping_batches))
        self._show(trainer)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: object, batch: object,
        batch_idx: int,
    ) -> None:  # fmt: skip
        """Move on by one step."""
        self._show(trainer)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Close the bar."""
        self._open.close()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Close the bar, so that the error is readable."""
        self._open.close()

    def _show(self, trainer: lightning.Trainer) -> None:
        if self._bar:
            epoch = min(trainer.current_epoch + 1, trainer.max_epochs or 0)
            self._bar.to(trainer.global_step, f"epoch {epoch}/{trainer.max_epochs}")
