"""Training by PyTorch Lightning: the settings, the batches, the curve, and what makes a killed run resume exactly."""

from nbedge.training.batches import batches, steps_per_epoch
from nbedge.training.callbacks import Epoch
from nbedge.training.fit import TrainSettings, train

__all__ = ["Epoch", "TrainSettings", "batches", "steps_per_epoch", "train"]
