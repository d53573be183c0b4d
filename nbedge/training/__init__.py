"""Training by PyTorch Lightning: the settings, the batches, the curve, and what makes a killed run resume exactly."""

from nbedge.training.batches import batches
from nbedge.training.callbacks import Epoch
from nbedge.training.fit import Straightening, train
from nbedge.training.sampling import Place, steps_per_epoch
from nbedge.training.settings import TrainSettings

__all__ = ["Epoch", "Place", "Straightening", "TrainSettings", "batches", "steps_per_epoch", "train"]
