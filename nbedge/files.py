"""Files that appear whole or not at all, and what identifies them."""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nbedge.errors import InputError


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` when the block ends without an error."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; choose the name of a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    # the suffix is kept: some writers look at it
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        error.filename = str(path)  # nobody knows the other one
        raise
    os.close(handle)
    part = Path(name)
    part.chmod(0o666 & ~_umask())
    try:
        yield part
        part.replace(path)
    except OSError as error:
        if name in (error.filename, error.filename2):  # nobody knows that one, nor what was copied to it
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        part.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with appearing(path) as part:
        part.write_bytes(content)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON to `path`, whole or not at all."""
    write_bytes(path, (as_json(content) + "\n").encode())


def as_json(content: Any) -> str:
    """Return indented JSON; a number that is not finite, for which the standard has no word, is null."""
    return json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False)


def _finite(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    return [_finite(value) for value in content] if isinstance(content, list | tuple) else content


def sha256(path: Path) -> str:
    """Return the sha256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Refuse to write over `path`, or where nothing can be written: before the work is done.

    Raises:
        InputError: `path` exists and `overwrite` is false, or it cannot be made.
    """
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already; choose another name or pass --overwrite")
    folder = next(place for place in path.absolute().parents if place.exists())
    try:
        tempfile.TemporaryFile(dir=folder).close()  # permissions do not tell: root may write to /proc, and cannot
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {folder} is no folder to write to; choose another place"
        ) from error


def refuse_existing_file(path: Path, overwrite: bool) -> None:
    """Refuse to write over a file as `refuse_existing` does, and over a folder in any case.

    Raises:
        InputError: it is so.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; choose the name of a file")
    refuse_existing(path, overwrite)


def text(path: Path, what: str) -> str:
    """Return what a text file holds.

    Raises:
        InputError: nothing lies at `path`, or it is no text; `what` says what was looked for.
    """
    try:
        return existing(path, what).read_text(encoding="utf-8")
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise InputError(f"{what} {path} is no text file; check the path") from error


def existing(path: Path, what: str) -> Path:
    """Return `path` if it exists.

    Raises:
        InputError: nothing lies at `path`; `what` says what was looked for.
    """
    if not path.exists():
        raise InputError(f"{what} {path} does not exist; check the path")
    return path
