"""Pack pictures of blood smears and their boxes into `data/` beside this file, in the form of COCO.

Usage: `python sample_models/blood_smears/pack.py bccd.tar.gz`, with the 364 pictures and boxes of
https://github.com/Shenggan/BCCD_Dataset. Running it twice writes the same bytes (with the same Pillow).

Choices:

* Pictures of 640 x 480 pixels become 160 x 120, what the detector takes; boxes go with them, in fractions of a pixel.
* A picture stays in its official split. BCCD shows some fields twice, often in two splits: the twins are left out.
* Boxes without an area, of which there are two, are left out.
"""

import argparse
import io
import json
import shutil
import tarfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from PIL import Image

SPLITS = ("train", "val", "test")
CLASSES = {"Platelets": "platelet", "RBC": "red", "WBC": "white"}
# Pictures that show cells of a picture of another split: 13 of train, then 6 of val (none of test is left out).
TWINS = (20, 38, 204, 232, 242, 247, 248, 254, 257, 258, 259, 263, 276, 193, 236, 260, 261, 262, 386)
SIZE = (160, 120)
QUALITY = 90


def read_archive(path: Path) -> dict[str, bytes]:
    """Return the content of every file of the archive, by its path below `bccd/BCCD/`."""
    with tarfile.open(path) as archive:
        files = {m.name: archive.extractfile(m) for m in archive if m.isfile()}
        return {name.removeprefix("bccd/BCCD/"): file.read() for name, file in files.items() if file}


def boxes_of(annotation: bytes, scale: tuple[float, float]) -> list[tuple[str, list[float]]]:
    """Return class and left, top, width and height of every box with an area, in pixels of the small picture."""
    found = []
    for thing in ET.fromstring(annotation).iter("object"):
        sides = (int(thing.findtext(f"bndbox/{k}", "")) for k in ("xmin", "ymin", "xmax", "ymax"))
        left, top, right, bottom = sides
        if right > left and bottom > top:
            box = [left * scale[0], top * scale[1], (right - left) * scale[0], (bottom - top) * scale[1]]
            found.append((CLASSES[thing.findtext("name", "")], box))
    return found


def pack_split(files: dict[str, bytes], split: str, folder: Path) -> None:
    """Write the pictures of a split, and its annotations."""
    names, twins = list(CLASSES.values()), {f"BloodImage_{number:05}" for number in TWINS}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for picture in files[f"ImageSets/Main/{split}.txt"].decode().split():
        if picture in twins:
            continue
        name, number = f"{picture.removeprefix('BloodImage_')}.jpg", len(images) + 1
        large = Image.open(io.BytesIO(files[f"JPEGImages/{picture}.jpg"])).convert("RGB")
        large.resize(SIZE, Image.Resampling.LANCZOS).save(folder / split / name, quality=QUALITY, optimize=True)
        images.append({"id": number, "file_name": name, "width": SIZE[0], "height": SIZE[1]})
        scale = (SIZE[0] / large.width, SIZE[1] / large.height)
        for label, box in boxes_of(files[f"Annotations/{picture}.xml"], scale):
            row = {"id": len(annotations) + 1, "image_id": number, "category_id": names.index(label) + 1}
            annotations.append({**row, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations" / f"{split}.json").write_text(json.dumps(content) + "\n", encoding="utf-8")


def pack(archive: Path, folder: Path) -> None:
    """Replace `folder` by the pictures of the archive."""
    files = read_archive(archive)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "annotations").mkdir(parents=True)
    for split in SPLITS:
        (folder / split).mkdir()
        pack_split(files, split, folder)


def main() -> None:
    """Read the command line and pack."""
    parser = argparse.ArgumentParser(description="Pack pictures of blood smears into data/ beside this file.")
    parser.add_argument("archive", type=Path, help="bccd.tar.gz")
    pack(parser.parse_args().archive, Path(__file__).with_name("data"))


if __name__ == "__main__":
    main()
