"""deploy(): from exported files to the folder of a target."""

import os
from collections.abc import Sequence
from pathlib import Path

from nbedge.artifact import read, sidecar
from nbedge.deployment.folder import appearing_folder, refuse_foreign
from nbedge.deployment.record import Deployment, inventory
from nbedge.deployment.request import Request
from nbedge.deployment.targets import OPTIONS, TARGETS
from nbedge.errors import InputError


def deploy(
    file: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    target: str,
    out: str | os.PathLike[str],
    name: str | None = None,
    picture: str | os.PathLike[str] | None = None,
    core: str | None = None,
    board: str | None = None,
    data: str | None = None,
    overwrite: bool = False,
) -> Deployment:
    """Write the folder `out` with all that a target needs to run a network, and return what was written.

    Args:
        file: an exported file with its sidecar, or several of one network; the first is used where it can be. The
            targets for microcontrollers take one, and need no sidecar.
        target: one of `TARGETS`.
        out: the folder; it appears whole or not at all.
        name: of the network and its files; None: that of the first file, on microcontrollers "model".
        picture: one to try it with; the answer to it stands in model.json.
        core: of the microcontroller, one of `nbedge.device.cores.CORES`.
        board: one of `nbedge.deployment.BOARDS`, which the network must fit.
        data: real pictures, as the command line names data: golden vectors are made of them.
        overwrite: replace a folder that nbedge has written, and nobody changed.

    Raises:
        GateError: what was written computes something else.
        InputError: the target is not known or does not run the file, a file has no sidecar, an option is not the
            target's, the folder is in use, or the network does not fit the board.
        MissingDependencyError: a runtime is not here.
    """
    if target not in TARGETS:
        raise InputError(f"no target is called {target!r}; choose from {', '.join(TARGETS)}")
    wanted, folder = TARGETS[target], Path(out).resolve()
    paths = [Path(file)] if isinstance(file, str | os.PathLike) else [Path(each) for each in file]
    if not paths:
        raise InputError("there is no file to deploy; give at least one")
    refuse_foreign(folder, overwrite)
    shown = Path(picture) if picture is not None else None
    request = Request(tuple(paths), target, name, shown, core, board, data)
    for option in OPTIONS:
        if getattr(request, option) is not None and option not in wanted.options:
            raise InputError(f"--{option} has no effect on the target {target}; leave it out")
    _refuse_task(paths[0], target)
    with appearing_folder(folder) as part:
        used = wanted.write(request, part)
        contents = inventory(part)
        size = sum((part / path).stat().st_size for path in contents)
        made = Deployment(folder, target, used.name, used.file, contents, size, used.findings, used.fit)
        made.write(part)
    return made


def _refuse_task(path: Path, target: str) -> None:
    """Refuse a file whose answers the program of a target cannot read."""
    if not sidecar(path).exists():
        return
    task = read(path).task
    if task not in (*TARGETS[target].tasks, ""):
        able = ", ".join(name for name, other in TARGETS.items() if task in other.tasks)
        raise InputError(f"{path} does {task}, which the program of the target {target} does not; choose from {able}")
