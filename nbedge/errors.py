"""Every error that nbedge raises, as one tree.

    NbedgeError                     one root to catch
    ├── GateError                   1  a check ran and failed
    ├── InputError                  2  wrong usage or bad input
    │   ├── PlanError                  a plan that does not fit the model, or cannot be read
    │   ├── ContractionError           a giant that cannot become the tiny model
    │   ├── CheckpointError            a checkpoint that cannot be opened
    │   ├── DivergenceError            a training whose loss is no number any more
    │   └── ExportError                a conversion that cannot be done or went wrong
    ├── MissingDependencyError      3  an optional package is not installed
    └── DeviceError                 4  the device did not answer

The number is the exit status of the command line. A message says what is wrong, where, and what to do.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar


class NbedgeError(Exception):
    """Root of all errors raised on purpose."""

    exit_status: ClassVar[int] = 2


class GateError(NbedgeError):
    """A check ran and failed: a verdict of FAIL, or a limit exceeded.

    Attributes:
        ladder: of an exported file, what was tried to save it, see `nbedge.artifact.Artifact.ladder`.
    """

    exit_status = 1

    def __init__(self, message: str, ladder: Mapping[str, Any] | None = None) -> None:
        """Say what failed."""
        super().__init__(message)
        self.ladder = ladder or {}


class InputError(NbedgeError):
    """Wrong usage or bad input."""


class PlanError(InputError):
    """A plan that does not fit the model, or that cannot be read."""


class ContractionError(InputError):
    """A giant that cannot become the tiny model in the state it is in."""


class CheckpointError(InputError):
    """A checkpoint that cannot be opened."""


class DivergenceError(InputError):
    """A training whose loss is not finite any more."""


class ExportError(InputError):
    """A conversion that cannot be done, or whose converter failed."""


class MissingDependencyError(NbedgeError):
    """An optional package is not installed; the message holds the command that installs it."""

    exit_status = 3


class DeviceError(NbedgeError):
    """The device did not answer."""

    exit_status = 4


def named_error(name: str) -> type[NbedgeError] | None:
    """Return the class of this tree that another process names; None for any other error."""
    found = globals().get(name)
    return found if isinstance(found, type) and issubclass(found, NbedgeError) else None


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Turn a failed import inside the block into the command that installs the extra `extra`.

    Raises:
        MissingDependencyError: a module imported inside the block is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"the package {error.name!r} is not installed; run: pip install 'nbedge[{extra}]'"
        ) from error


def first_line(error: Exception) -> str:
    """Return the first line of what somebody else's error says, or else what kind it is."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
