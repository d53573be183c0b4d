"""Subject: a model ready to run, whatever it is, with what is known of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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


def refuse_other_classes(subject: Subject, classes: tuple[str, ...], data: str) -> None:
    """Refuse pictures of other classes than the subject names: its answers would be counted as what they are not.

    Raises:
        InputError: they differ.
    """
    if subject.classes and classes and subject.classes != classes:
        raise InputError(
            f"{subject.name} knows the classes {_some(subject.classes)}, {data} has {_some(classes)}; "
            "give data of its own classes"
        )


def _some(words: tuple[str, ...]) -> str:
    return ", ".join(words[:10]) + (f" and {len(words) - 10} more" if len(words) > 10 else "")


def aligned(before: Subject, after: Subject) -> tuple[Subject, Subject]:
    """Return both with the one shape that their inputs are made in: (c, h, w), wherever each of them has its channels.

    A size that is left open in one is that of the other.

    Raises:
        InputError: they take inputs of other sizes, or a size is open in both.
    """
    shape = _shared(before, after)
    if shape is None:
        raise InputError(
            f"{before.name} takes {before.shape}, {after.name} takes {after.shape}: they cannot be compared"
        )
    if 0 in shape:
        raise InputError(f"{before.name} and {after.name} take inputs of any size; pass --input, e.g. --input 3x96x96")
    return _reshaped(before, shape), _reshaped(after, shape)


def _shared(before: Subject, after: Subject) -> tuple[int, ...] | None:
    """Return the shape from which the other one differs at most by channels that come last."""
    one, other = (after, before) if before.path and not after.path else (before, after)  # a module's is no guess
    for first, second in ((one, other), (other, one)):
        for shape in (second.shape, second.shape[-1:] + second.shape[:-1]):
            pairs = list(zip(first.shape, shape, strict=False))
            if len(first.shape) == len(shape) and all(a == b or 0 in (a, b) for a, b in pairs):
                return tuple(a or b for a, b in pairs)
        if first.path is None:
            break
    return None


def _reshaped(subject: Subject, shape: tuple[int, ...]) -> Subject:
    prepared = subject.preprocessing
    if prepared is not None and 0 in prepared.shape and len(shape) == PICTURE_RANK:
        channels, height, width = shape
        prepared = replace(prepared, shape=(channels, height, width))
    return replace(subject, shape=shape, preprocessing=prepared)
