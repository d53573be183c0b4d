"""Subject: a model ready to run, whatever it is, with what is known of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbedge.artifact import SCHEMES
from nbedge.errors import InputError
from nbedge.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import nn

    from nbedge.runtime import Runner

#: sizes of a picture: channels, height, width
PICTURE_RANK = 3


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A model ready to run.

    Attributes:
        name: for people.
        model: the module, or the runner of an exported file.
        preprocessing: of pictures; None where nobody said.
        classes: names of the outputs; empty where nobody said.
        scheme: of an exported file, as its sidecar or the types of its ends tell; "fp32" for a module.
        shape: of one input, (channels, height, width) for pictures.
        path: of an exported file.
        derived_from: name of the file that it was made from; empty where nobody said.
        calibration: what is known of the inputs that its quantizer saw; empty where nobody said.
        head: what it gives, "logits" or "softmax" for probabilities; empty where nobody said.
        remedies: what was done to the float network before it was quantized.
        exempt: layers that compute in more bits than the scheme says.
        task: what its outputs mean, "classification" or "detection"; empty where nobody said.
    """

    name: str
    model: "nn.Module | Runner"
    preprocessing: Preprocessing | None
    classes: tuple[str, ...]
    scheme: str
    shape: tuple[int, ...]
    path: Path | None = None
    derived_from: str = ""
    calibration: Mapping[str, Any] = field(default_factory=dict)
    head: str = ""
    remedies: tuple[str, ...] = ()
    exempt: tuple[str, ...] = ()
    task: str = ""

    @property
    def quantized(self) -> bool:
        """Whether its weights or activations have fewer digits than float32."""
        return SCHEMES[self.scheme][:2] != ("fp32", "fp32")

    def prepared(self) -> Preprocessing:
        """Return the preprocessing.

        Raises:
            InputError: nobody said what it is.
        """
        if self.preprocessing is None:
            raise InputError(f"{self.name} does not say how pictures are normalised; pass --mean and --std")
        return self.preprocessing

    def pictured(self) -> tuple[int, int, int]:
        """Return (channels, height, width) of the pictures that it takes.

        Raises:
            InputError: it takes something else.
        """
        if len(self.shape) != PICTURE_RANK:
            raise InputError(f"{self.name} takes inputs of shape {self.shape}, not pictures")
        channels, height, width = self.shape
        return channels, height, width


def refuse_other_data(subject: Subject, task: str, classes: tuple[str, ...], data: str) -> None:
    """Refuse pictures of another task or other classes than the subject's: answers would count as what they are not.

    Raises:
        InputError: they differ.
    """
    if subject.task and subject.task != task:
        raise InputError(f"{subject.name} does {subject.task}, {data} is for {task}; give data of its own task")
    if subject.classes and classes and subject.classes != classes:
        raise InputError(
            f"{subject.name} knows the classes {_some(subject.classes)}, {data} has {_some(classes)}; "
            "give data of its own classes"
        )


def _some(words: tuple[str, ...]) -> str:
    return ", ".join(words[:10]) + (f" and {len(words) - 10} more" if len(words) > 10 else "")
