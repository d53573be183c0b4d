"""Pictures with boxes in the form of Pascal VOC: one XML file a picture."""

from pathlib import Path
from xml.etree import ElementTree

from nbedge import files
from nbedge.data.annotations import Annotated, Object, source_of, with_test
from nbedge.data.decoding import size_of
from nbedge.data.folder import SUFFIXES
from nbedge.data.records import Source
from nbedge.errors import InputError

ANNOTATIONS, PICTURES, LISTS = "Annotations", "JPEGImages", "ImageSets/Main"


def read_voc(path: Path, shape: tuple[int, int, int]) -> Source:
    """Read a folder with Annotations/NAME.xml, JPEGImages/NAME.jpg and ImageSets/Main/{train,val,test}.txt.

    Without a list of test pictures, those of val are the test; without any, every fifth picture by name.

    Raises:
        InputError: a folder, a picture or an annotation is missing or damaged, or a box is none.
    """
    for name in (ANNOTATIONS, PICTURES):
        if not (path / name).is_dir():
            raise InputError(f"{path} has no folder {name}; voc:PATH is a folder with {ANNOTATIONS} and {PICTURES}")
    pictures = {file.stem: file for file in sorted((path / PICTURES).iterdir()) if file.suffix.lower() in SUFFIXES}
    lists = {name: found for name in ("train", "val", "test") if (found := _listed(path, name))}
    for file in sorted((path / ANNOTATIONS).glob("*.xml")):
        if file.stem not in pictures:
            raise InputError(f"{file} has no picture {path / PICTURES / file.stem}.jpg; add it or remove the file")
    every = sorted(file.stem for file in (path / ANNOTATIONS).glob("*.xml"))
    lists = with_test(lists or {"all": every}, path / LISTS, "PART.txt, one name a line")
    parts = {part: [_read(path, name, pictures) for name in names] for part, names in lists.items()}
    return source_of(path, parts["train"], parts["test"], parts.get("val"), shape)


def _listed(path: Path, name: str) -> list[str]:
    """Return the names in a list, which may have a number behind each."""
    file = path / LISTS / f"{name}.txt"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return [line.split()[0] for line in lines if line.strip()]


def _read(path: Path, name: str, pictures: dict[str, Path]) -> Annotated:
    if name not in pictures:
        raise InputError(f"{path / LISTS} lists {name!r}, but {path / PICTURES} has no such picture; remove the line")
    file = files.existing(path / ANNOTATIONS / f"{name}.xml", "the annotation")
    try:
        root = ElementTree.parse(file).getroot()
        objects = tuple(_object(entry) for entry in root.iter("object"))
        size = (int(root.findtext("size/width") or 0), int(root.findtext("size/height") or 0))
    except (ElementTree.ParseError, ValueError, OSError) as error:
        raise InputError(f"{file} is no annotation of Pascal VOC ({error}); repair or remove it") from error
    return Annotated(pictures[name], size if min(size) > 0 else size_of(pictures[name]), objects, str(file))


def _object(entry: ElementTree.Element) -> Object:
    """Read an object; its first pixel is numbered 1, its last one belongs to it."""
    numbers = [entry.findtext(f"bndbox/{name}") for name in ("xmin", "ymin", "xmax", "ymax")]
    name = (entry.findtext("name") or "").strip()
    if not name or None in numbers:
        raise ValueError("an object lacks its name or its bndbox")
    left, top, right, bottom = (float(number or 0) for number in numbers)
    return Object(name, (left - 1, top - 1, right, bottom), entry.findtext("difficult") == "1")
