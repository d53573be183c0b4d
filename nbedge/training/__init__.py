"""Training by PyTorch Lightning: the settings, the batches, the curve, and what makes a killed run resume exactly."""

from nbedge.training.batches import batches
from nbedge.training.callbacks import Epoch, LinearizeCallback
from nbedge.training.fit import Straightening, train, usual_objective
from nbedge.training.sampling import Place, steps_per_epoch
from nbedge.training.settings import TrainSettings

__all__ = [
    "Epoch",
    "LinearizeCallback",
    "Place",
    "Straightening",
    "TrainSettings",
    "batches",
    "steps_per_epoch",
    "train",
    "usual_objective",
]
