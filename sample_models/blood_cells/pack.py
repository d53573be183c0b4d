"""Pack crops of blood cells into `data/{train,val,test}/{platelet,red,white}/NNNN.jpg` beside this file.

Usage: `python sample_models/blood_cells/pack.py bccd.tar.gz`, with the 364 pictures and boxes of
https://github.com/Shenggan/BCCD_Dataset. Running it twice writes the same bytes (with the same Pillow).

Choices:

* Every crop is a square of 144 px, scaled down by the same 1.5 to 96 px. A square fitted to each box would blow
  platelets up and shrink white cells, and blur alone would tell the classes apart. Real size stays visible.
* A crop of a platelet or a red cell has next to no white cell in it, and one of a red cell no marked platelet.
* A picture stays in its official split, and as many crops of each class are drawn as the rarest class has.
* BCCD shows some fields twice, often in two splits. The twins are left out, so that no cell is in two splits.
"""

import argparse
import io
import random
import shutil
import tarfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image

SPLITS = ("train", "val", "test")
CLASSES = {"Platelets": "platelet", "RBC": "red", "WBC": "white"}
# Longest side of a believable box in px: leaves out empty boxes and three wrong labels (pictures 113, 133 and 135).
SIDES = {"platelet": range(20, 101), "red": range(60, 181), "white": range(80, 361)}
# Pictures that show cells of a picture of another split: 13 of train, then 6 of val (none of test is left out).
TRAIN_TWINS = (20, 38, 204, 232, 242, 247, 248, 254, 257, 258, 259, 263, 276)
VAL_TWINS = (193, 236, 260, 261, 262, 386)
FIELD = 144
SIZE = 96
MAX_WHITE = 0.1
QUALITY = 90
SEED = 0


class Box(NamedTuple):
    """A rectangle in pixels of the picture."""

    left: int
    top: int
    right: int
    bottom: int


class Cell(NamedTuple):
    """A marked cell: its class and its box."""

    label: str
    box: Box


class Crop(NamedTuple):
    """The field around one cell of one picture."""

    picture: str
    field: Box


def read_archive(path: Path) -> dict[str, bytes]:
    """Return the content of every file of the archive, by its path below `bccd/BCCD/`."""
    with tarfile.open(path) as archive:
        files = {m.name: archive.extractfile(m) for m in archive if m.isfile()}
        return {name.removeprefix("bccd/BCCD/"): file.read() for name, file in files.items() if file}


def pictures_of(files: dict[str, bytes], split: str) -> list[str]:
    """Return the names of the pictures of an official split, without the twins."""
    twins = {f"BloodImage_{number:05}" for number in TRAIN_TWINS + VAL_TWINS}
    return [p for p in files[f"ImageSets/Main/{split}.txt"].decode().split() if p not in twins]


def cells_of(annotation: bytes) -> list[Cell]:
    """Return the cells that a Pascal-VOC file marks."""
    objects = ET.fromstring(annotation).iter("object")
    return [Cell(CLASSES[o.findtext("name", "")], _read_box(o)) for o in objects]


def _read_box(node: ET.Element) -> Box:
    left, top, right, bottom = (int(node.findtext(f"bndbox/{k}", "")) for k in ("xmin", "ymin", "xmax", "ymax"))
    return Box(left, top, right, bottom)


def field_around(box: Box, width: int, height: int) -> Box:
    """Return the square of side FIELD centred on the box, shifted into the picture."""
    left = min(max((box.left + box.right - FIELD) // 2, 0), width - FIELD)
    top = min(max((box.top + box.bottom - FIELD) // 2, 0), height - FIELD)
    return Box(left, top, left + FIELD, top + FIELD)


def covered(field: Box, cells: list[Cell], label: str) -> float:
    """Return the part of the field, 0 to 1 or more, that boxes of one class cover (summed)."""
    return sum(_overlap(field, cell.box) for cell in cells if cell.label == label) / FIELD**2


def _overlap(a: Box, b: Box) -> int:
    width, height = min(a.right, b.right) - max(a.left, b.left), min(a.bottom, b.bottom) - max(a.top, b.top)
    return max(0, width) * max(0, height)


def is_clear(cell: Cell, field: Box, cells: list[Cell]) -> bool:
    """Return whether the box is believable and nothing in the field speaks for another class."""
    side = max(cell.box.right - cell.box.left, cell.box.bottom - cell.box.top)
    white = cell.label != "white" and covered(field, cells, "white") > MAX_WHITE
    platelet = cell.label == "red" and covered(field, cells, "platelet") > 0
    return side in SIDES[cell.label] and not white and not platelet


def find_crops(files: dict[str, bytes], split: str) -> Iterator[tuple[str, Crop]]:
    """Yield class and crop of every usable cell of a split."""
    for picture in pictures_of(files, split):
        width, height = Image.open(io.BytesIO(files[f"JPEGImages/{picture}.jpg"])).size
        cells = cells_of(files[f"Annotations/{picture}.xml"])
        for cell in cells:
            field = field_around(cell.box, width, height)
            if is_clear(cell, field, cells):
                yield cell.label, Crop(picture, field)


def balanced(crops: list[tuple[str, Crop]], rng: random.Random) -> dict[str, list[Crop]]:
    """Draw the same number of crops of each class: all that the rarest class has."""
    by_class = {label: sorted({c for name, c in crops if name == label}) for label in CLASSES.values()}
    count = min(map(len, by_class.values()))
    return {label: sorted(rng.sample(found, count)) for label, found in by_class.items()}


def write_crop(files: dict[str, bytes], crop: Crop, path: Path) -> None:
    """Cut the crop out of its picture, scale it to SIZE and write it as JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.open(io.BytesIO(files[f"JPEGImages/{crop.picture}.jpg"])).convert("RGB")
    small = picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS, box=crop.field)
    small.save(path, quality=QUALITY, optimize=True)


def pack(archive: Path, folder: Path) -> None:
    """Replace `folder` by the crops of the archive."""
    files = read_archive(archive)
    rng = random.Random(SEED)
    shutil.rmtree(folder, ignore_errors=True)
    for split in SPLITS:
        for label, crops in balanced(list(find_crops(files, split)), rng).items():
            for number, crop in enumerate(crops):
                write_crop(files, crop, folder / split / label / f"{number:04}.jpg")


def main() -> None:
    """Read the command line and pack."""
    parser = argparse.ArgumentParser(description="Pack crops of blood cells into data/ beside this file.")
    parser.add_argument("archive", type=Path, help="bccd.tar.gz")
    pack(parser.parse_args().archive, Path(__file__).with_name("data"))


if __name__ == "__main__":
    main()
