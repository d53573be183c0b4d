"""Pictures with boxes in the form of COCO: one JSON file a part."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbedge.data.annotations import Annotated, Object, source_of, with_test
from nbedge.data.decoding import size_of
from nbedge.data.records import Source
from nbedge.errors import InputError

#: names of parts, as they occur in names of files and folders
PARTS = {"train": "train", "valid": "val", "validation": "val", "val": "val", "test": "test"}


def read_coco(path: Path, shape: tuple[int, int, int]) -> Source:
    """Read PATH/annotations/*train*.json, *val*.json and *test*.json, or PATH/{train,valid,test}/*.json.

    Pictures lie where `file_name` says: from the JSON file's folder, from PATH, from PATH/images, or from the folder of
    the part, such as PATH/train2017. Without a test part the validation part is the test; a lone JSON file, PATH
    itself, is split: every fifth picture is test.

    Raises:
        InputError: a file or a picture is missing or damaged, or a box is none.
    """
    found = {"all": path} if path.is_file() else _parts(path)
    read = {part: _Set(file, path if path.is_dir() else path.parent) for part, file in found.items()}
    lists = {tuple(sorted(one.names.items())) for one in read.values()}
    if len(lists) > 1:
        raise InputError(f"the parts of {path} list other categories; give all files the same list")
    used = set().union(*(one.used for one in read.values()))  # some tools list a category that is only a heading
    names = tuple(name for number, name in sorted(read[next(iter(read))].names.items()) if number in used)
    parts = {part: one.pictures() for part, one in read.items()}
    parts = with_test(parts, path, "annotations/PART.json, for example")
    return source_of(path, parts["train"], parts["test"], parts.get("val"), shape, names)


def _parts(path: Path) -> dict[str, Path]:
    """Return part -> JSON file: by the name of the file, else by that of its folder."""
    found: dict[str, Path] = {}
    for file in sorted(
        [*path.glob("annotations/*.json"), *path.glob("*/_annotations.coco.json"), *path.glob("*.json")]
    ):
        part = next((_part_of(name) for name in (file.stem, file.parent.name) if _part_of(name)), "")
        if part and part in found:
            raise InputError(f"{found[part]} and {file} are both the {part} part; leave one of them")
        if part:
            found[part] = file
    if not found:
        raise InputError(f"{path} holds no JSON file of COCO; expected for example {path}/annotations/train.json")
    return found


def _part_of(name: str) -> str:
    words = re.findall("[a-z]+", name.lower())
    return next((PARTS[word] for word in words if word in PARTS), "")


class _Set:
    """One JSON file: its categories by number, and the numbers of those that have boxes."""

    def __init__(self, file: Path, root: Path) -> None:
        self._file, self._root = file, root
        try:
            content: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            self._images = {row["id"]: row for row in content["images"]}
            self.names = {int(row["id"]): str(row["name"]) for row in content["categories"]}
            self._boxes: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
            for row in content["annotations"]:
                self._boxes[row["image_id"]].append(row)
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise InputError(f"{file} is no annotation file of COCO ({error!r}); repair it") from error
        strange = sorted(map(str, self._boxes.keys() - self._images.keys()))
        if strange:
            raise InputError(f"{file} has boxes of the picture {strange[0]}, which it does not list; add or remove it")
        self.used = {int(row["category_id"]) for rows in self._boxes.values() for row in rows}
        if self.used - self.names.keys():
            number = min(self.used - self.names.keys())
            raise InputError(f"{file} has a box of the category {number}, which it does not list; add or remove it")

    def pictures(self) -> list[Annotated]:
        """Return the pictures, by name of their files."""
        return [self._picture(row) for row in sorted(self._images.values(), key=lambda row: str(row.get("file_name")))]

    def _picture(self, row: Mapping[str, Any]) -> Annotated:
        try:
            file = self._place(str(row["file_name"]))
            size = (int(row.get("width") or 0), int(row.get("height") or 0))
            things = tuple(self._object(box) for box in self._boxes.get(row["id"], ()))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{self._file}: the picture {row.get('id')} is no record of COCO ({error!r})") from error
        return Annotated(file, size if min(size) > 0 else size_of(file), things, str(self._file))

    def _object(self, row: Mapping[str, Any]) -> Object:
        left, top, width, height = map(float, row["bbox"])
        return Object(
            self.names[int(row["category_id"])], (left, top, left + width, top + height), bool(row.get("iscrowd", 0))
        )

    def _place(self, name: str) -> Path:
        part = re.sub("^(instances|annotations)_", "", self._file.stem)
        places = (self._file.parent, self._root, self._root / "images", self._root / part, self._root / "images" / part)
        for place in places:
            if (place / name).is_file():
                return place / name
        raise InputError(f"{self._file} lists the picture {name}, which is not in {self._root}; add or remove it")
