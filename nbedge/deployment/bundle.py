"""Bundle: the files of one network that go into a folder, and what is known of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nbedge import artifact, files
from nbedge.artifact import Artifact
from nbedge.errors import InputError

#: names that are file names on every system
NAME = re.compile(r"\w[\w.-]*")
FLOAT_IO = "int8-float-io"
#: suffixes of pictures that every browser shows
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a target writes into its folder.

    Attributes:
        name: of the network.
        artifacts: its files; the first is the one that the page or program opens.
        picture: one to try it with.
    """

    name: str
    artifacts: tuple[Artifact, ...]
    picture: Path | None = None

    @property
    def first(self) -> Artifact:
        """The file that the page or program opens."""
        return self.artifacts[0]

    def file_name(self, file: Artifact) -> str:
        """Return the name of a file in the folder."""
        return f"{self.name}.{file.scheme}{file.path.suffix}"

    @property
    def picture_name(self) -> str | None:
        """The picture's name in the folder."""
        return f"picture{self.picture.suffix.lower()}" if self.picture else None

    def of(self, *artifacts: Artifact) -> "Bundle":
        """Return the bundle with other files."""
        return replace(self, artifacts=artifacts)


def gather(
    paths: Sequence[Path], formats: Sequence[str], target: str, name: str | None, picture: Path | None
) -> Bundle:
    """Return the bundle of files of one network, with the float-I/O file that lies beside the first one.

    Args:
        paths: exported files with their sidecars.
        formats: suffixes that the target runs.
        target: its name.
        name: of the network; None: that of the first file.
        picture: one to try it with.

    Raises:
        InputError: a file is of another format or another network, has no sidecar, takes several inputs, or a name or
            the picture does not do.
    """
    found = [_read(path, formats, target) for path in paths]
    first = found[0]
    named = first.path.name.removesuffix(first.path.suffix).removesuffix(f".{first.scheme}") if name is None else name
    if not NAME.fullmatch(named):
        raise InputError(f"--name {named!r} is no file name; use letters, digits, _, - and .")
    beside = _float_io_beside(first)
    if beside and beside.path.name not in {file.path.name for file in found}:
        found.append(beside)
    bundle = Bundle(named, tuple(found), picture)
    for file in found[1:]:
        _refuse_another_network(first, file)
    names = [bundle.file_name(file) for file in found]
    if len(set(names)) < len(names):
        raise InputError(f"two files are of the scheme {found[-1].scheme!r}; give one of each")
    _refuse_unreadable(picture, first)
    return bundle


def _read(path: Path, formats: Sequence[str], target: str) -> Artifact:
    if files.existing(path, "the file").suffix not in formats:
        wanted = " or ".join(formats)
        cure = "nbedge export writes" if path.suffix == ".safetensors" else "give"
        raise InputError(f"{path}: the target {target} does not run {path.suffix or 'such files'}; {cure} {wanted}")
    place = artifact.sidecar(path)
    if not place.exists():
        raise InputError(
            f"{path} has no {place.name} beside it, which says how it is fed; export it with nbedge export"
        )
    found = artifact.read(path)
    if found.preprocessing is None or len(found.inputs) != 1 or len(found.inputs[0].shape) != 4 or not found.outputs:
        raise InputError(f"{path} takes other inputs than one picture, and cannot be deployed")
    return found


def _float_io_beside(first: Artifact) -> Artifact | None:
    """Return the file of the scheme int8-float-io that was made beside `first` of the same network, if there is one."""
    name = first.path.name.replace(f".{first.scheme}.", f".{FLOAT_IO}.")
    path = first.path.with_name(name)
    if first.path.suffix != ".tflite" or first.scheme != "int8" or not artifact.sidecar(path).exists():
        return None
    found = artifact.read(path)
    return found if found.derived_from == first.derived_from and found.classes == first.classes else None


def _refuse_another_network(first: Artifact, other: Artifact) -> None:
    if other.classes != first.classes or other.prepared().shape != first.prepared().shape:
        raise InputError(f"{other.path} is of another network than {first.path}: classes or input size differ")


def _refuse_unreadable(picture: Path | None, first: Artifact) -> None:
    """Refuse a picture that is none, or that no browser shows."""
    if picture is None:
        return
    if files.existing(picture, "the picture").suffix.lower() not in PICTURES:
        raise InputError(f"the picture {picture} is none that every browser shows; give {', '.join(PICTURES)}")
    from nbedge.data import picture as read_picture

    read_picture(picture, first.prepared().shape)
