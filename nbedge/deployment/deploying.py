"""deploy(): from exported files to the folder of a target."""

import os
from collections.abc import Sequence
from pathlib import Path

from nbedge.deployment.bundle import gather
from nbedge.deployment.folder import appearing_folder, refuse_foreign
from nbedge.deployment.record import Deployment, inventory
from nbedge.deployment.targets import TARGETS
from nbedge.errors import InputError


def deploy(
    file: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    target: str,
    out: str | os.PathLike[str],
    name: str | None = None,
    picture: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Deployment:
    """Write the folder `out` with all that a target needs to run a network, and return what was written.

    Args:
        file: an exported file with its sidecar, or several of one network; the first is used where it can be.
        target: one of `TARGETS`.
        out: the folder; it appears whole or not at all.
        name: of the network and its files; None: that of the first file.
        picture: one to try it with; the answer to it stands in model.json.
        overwrite: replace a folder that nbedge has written, and nobody changed.

    Raises:
        InputError: the target is not known or does not run the file, a file has no sidecar, or the folder is in use.
        MissingDependencyError: a runtime is not here.
    """
    if target not in TARGETS:
        raise InputError(f"no target is called {target!r}; choose from {', '.join(TARGETS)}")
    wanted, folder = TARGETS[target], Path(out).resolve()
    paths = [Path(file)] if isinstance(file, str | os.PathLike) else [Path(each) for each in file]
    if not paths:
        raise InputError("there is no file to deploy; give at least one")
    refuse_foreign(folder, overwrite)
    bundle = gather(paths, wanted.formats, target, name, Path(picture) if picture is not None else None)
    with appearing_folder(folder) as part:
        used = wanted.write(bundle, part)
        contents = inventory(part)
        size = sum((part / path).stat().st_size for path in contents)
        made = Deployment(folder, target, used.name, used.file_name(used.first), contents, size)
        made.write(part)
    return made
