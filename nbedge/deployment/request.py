"""Request: what the user asks of a target; and the little that a folder's record says of what was used."""

from dataclasses import dataclass
from pathlib import Path

from nbedge.deployment.fit import Fit


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be written.

    Attributes:
        paths: exported files of one network, at least one.
        target: name of what the folder is for.
        name: of the network and its files; None: the target's own choice.
        picture: one to try it with.
        core: of the microcontroller, one of `nbedge.device.cores.CORES`; None: that of the board, else the usual one.
        board: one of `nbedge.deployment.boards.BOARDS`, which the network must fit.
        data: real pictures, as the command line names data; golden vectors are taken from them.
    """

    paths: tuple[Path, ...]
    target: str
    name: str | None = None
    picture: Path | None = None
    core: str | None = None
    board: str | None = None
    data: str | None = None


@dataclass(frozen=True, slots=True)
class Used:
    """What a folder holds of a network.

    Attributes:
        name: of the network in the folder.
        file: name of the file that the page or program opens.
        findings: what is to be known of it, in sentences for people.
        fit: what it needs of the board beside what that has; None where no board was named.
    """

    name: str
    file: str
    findings: tuple[str, ...] = ()
    fit: Fit | None = None
