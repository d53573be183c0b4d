"""A folder that appears whole or not at all, and takes the place only of one that nbedge has written."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from nbedge import files
from nbedge.deployment.record import inventory, written
from nbedge.errors import InputError


def refuse_foreign(folder: Path, overwrite: bool) -> None:
    """Refuse to write over a folder, unless it is to be replaced and holds nothing that nbedge has not written.

    Raises:
        InputError: it may not be replaced, or is no folder, or holds a file of somebody else, or a changed one.
    """
    files.refuse_existing(folder, overwrite)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    known = written(folder) if folder.is_dir() else None
    if known is None:
        raise InputError(f"{folder} was not written by nbedge deploy and is not replaced; choose another folder")
    for path, sha256 in inventory(folder).items():
        if known.get(path) != sha256:
            what = "was changed since" if path in known else "was not written by nbedge"
            raise InputError(
                f"{folder / path} {what}, and --overwrite would delete it; move it away first, or run make clean if "
                "make has built it"
            )


@contextmanager
def appearing_folder(folder: Path) -> Iterator[Path]:
    """Give a new folder beside `folder`; it becomes `folder` when the block ends without an error."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as place:
        part, old = Path(place) / "new", Path(place) / "old"
        part.mkdir()
        yield part
        if folder.exists():
            folder.rename(old)
        try:
            part.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
