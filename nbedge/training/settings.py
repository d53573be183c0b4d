"""How a model is trained."""

import math
from dataclasses import dataclass

from nbedge.errors import InputError
from nbedge.training.batches import AUGMENTATIONS

#: words of PyTorch Lightning
PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How a model is trained: SGD with Nesterov momentum, warm-up, then one cosine to 0.

    Attributes:
        batch_size: pictures a step of the optimizer, of all processes together.
        learning_rate: at the top of the schedule.
        warmup_epochs: epochs (or a part of one) of linear warm-up.
        momentum: of SGD.
        weight_decay: on convolution and linear weights only.
        label_smoothing: of the cross-entropy.
        augment: any of "shift" and "flip".
        precision: "32-true", "16-mixed" or "bf16-mixed"; on a CPU bf16 slows small networks down.
        accumulate: pieces that a step's batch is cut into, where memory is short.
        workers: processes that read and decode pictures.
    """

    batch_size: int = 256
    learning_rate: float = 0.4
    warmup_epochs: float = 0.5
    momentum: float = 0.9
    weight_decay: float = 4e-5
    label_smoothing: float = 0.0
    augment: tuple[str, ...] = ("shift", "flip")
    precision: str = "32-true"
    accumulate: int = 1
    workers: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        if self.batch_size < 1:
            raise InputError(f"batch_size is {self.batch_size}; give 1 or more")
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"learning_rate is {self.learning_rate}; give a number above 0")
        unknown = set(self.augment) - set(AUGMENTATIONS)
        if unknown:
            raise InputError(f"augment holds {min(unknown)!r}; choose from {', '.join(AUGMENTATIONS)}")
        if self.precision not in PRECISIONS:
            raise InputError(f"precision is {self.precision!r}; choose from {', '.join(PRECISIONS)}")
        if self.accumulate < 1 or self.batch_size % self.accumulate:
            raise InputError(f"accumulate is {self.accumulate}; give a whole number that divides {self.batch_size}")
        if self.workers < 0:
            raise InputError(f"workers is {self.workers}; give 0 or more")
