"""Pictures with boxes in the forms of Pascal VOC and COCO, whole and broken."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbedge import data
from nbedge.errors import InputError

image = pytest.importorskip("PIL.Image")
SHAPE = (3, 24, 32)
Box = tuple[str, int, int, int, int]


def picture(path: Path, size: tuple[int, int] = (64, 48)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.new("RGB", size, "gray").save(path)


def xml(boxes: list[Box], size: tuple[int, int] = (64, 48), difficult: bool = False) -> str:
    objects = "".join(
        f"<object><name>{name}</name><difficult>{int(difficult)}</difficult><bndbox><xmin>{a}</xmin><ymin>{b}</ymin>"
        f"<xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for name, a, b, c, d in boxes
    )
    width, height = size
    return f"<annotation><size><width>{width}</width><height>{height}</height></size>{objects}</annotation>"


def voc(path: Path, pictures: dict[str, str]) -> Path:
    for name, text in pictures.items():
        picture(path / "JPEGImages" / f"{name}.jpg")
        (path / "Annotations").mkdir(parents=True, exist_ok=True)
        (path / "Annotations" / f"{name}.xml").write_text(text)
    return path


def lists(path: Path, **parts: str) -> None:
    (path / "ImageSets" / "Main").mkdir(parents=True)
    for part, names in parts.items():
        (path / "ImageSets" / "Main" / f"{part}.txt").write_text("\n".join(names.split()) + "\n")


CAT, DOG = ("cat", 1, 1, 32, 24), ("dog", 33, 25, 64, 48)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Return six pictures of two classes: four to train on, one each to choose and to test."""
    path = voc(tmp_path / "voc", {name: xml([CAT, DOG]) for name in "abcdef"})
    lists(path, train="a b c d", val="e", test="f")
    return path


def test_the_boxes_of_voc_are_shares_of_the_picture(small: Path) -> None:
    text = xml([DOG, CAT], difficult=True).replace("<difficult>1", "<difficult>0", 1)
    (small / "Annotations" / "f.xml").write_text(text)
    source = data.read(f"voc:{small}", SHAPE)
    assert (source.classes, source.task) == (("cat", "dog"), "detection")
    assert source.validation is not None
    assert (len(source.train), len(source.validation), len(source.test)) == (4, 1, 1)
    assert source.train.shape == SHAPE
    # the first pixel is numbered 1, the last one belongs to the box; the difficult one counts neither way
    np.testing.assert_allclose(source.test.labels[0], [[1, 0.5, 0.5, 1, 1, 0], [0, 0, 0, 0.5, 0.5, 1]])


def test_without_lists_every_fifth_picture_is_for_the_test(tmp_path: Path) -> None:
    path = voc(tmp_path, {f"{i:02}": xml([CAT, DOG]) for i in range(10)})
    source = data.read(f"voc:{path}", SHAPE)
    assert (len(source.train), len(source.test), source.validation) == (8, 2, None)


def test_the_validation_part_is_the_test_where_there_is_no_other(small: Path) -> None:
    (small / "ImageSets" / "Main" / "test.txt").unlink()
    source = data.read(f"voc:{small}", SHAPE)
    assert (len(source.test), source.validation) == (1, None)


def test_a_size_that_is_missing_is_that_of_the_picture(small: Path) -> None:
    (small / "Annotations" / "f.xml").write_text(xml([CAT, DOG], size=(0, 0)))
    assert data.read(f"voc:{small}", SHAPE).test.labels[0, 0, 3] == 0.5


def test_pictures_without_boxes_are_kept_and_boxes_without_area_are_told(
    small: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (small / "Annotations" / "a.xml").write_text(xml([]))
    (small / "Annotations" / "b.xml").write_text(xml([CAT, ("dog", 10, 10, 9, 20)]))
    source = data.read(f"voc:{small}", SHAPE)
    assert isinstance(source.train, data.Pictures)
    assert source.train.labels[0, :, 0].tolist() == [-1, -1]
    assert source.train.labels[1, :, 0].tolist() == [0, -1]
    assert "1 boxes have no area and were left out, the first in" in caplog.text


def annotate(name: str, text: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        (path / "Annotations" / f"{name}.xml").write_text(text)

    return write


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a folder is missing": (lambda path: shutil.rmtree(path / "JPEGImages"), "has no folder JPEGImages"),
    "a picture is missing": (
        lambda path: (path / "JPEGImages" / "b.jpg").unlink(), r"b\.xml has no picture .*b\.jpg; add it or remove"
    ),
    "an annotation is missing": (
        lambda path: (path / "Annotations" / "b.xml").unlink(), r"the annotation .*b\.xml does not exist"
    ),
    "a listed picture is missing": (
        lambda path: (path / "ImageSets" / "Main" / "train.txt").write_text("a\nzz\n"), "lists 'zz', but .* no such"
    ),
    "no XML": (annotate("b", "<annotation><object>"), r"b\.xml is no annotation of Pascal VOC"),
    "no number": (annotate("b", xml([CAT]).replace("<xmin>1", "<xmin>x")), r"b\.xml is no annotation of Pascal VOC"),
    "no name": (annotate("b", xml([CAT]).replace("cat", "")), "an object lacks its name"),
    "outside": (
        annotate("b", xml([("cat", 5, 5, 90, 40)])),
        r"b\.xml: the box 4, 4, 90, 40 of a cat reaches out of its picture of 64 x 48 pixels",
    ),
    "outside on the other side": (
        annotate("b", xml([("cat", -5, 5, 20, 40)])), r"b\.xml: the box -6, 4, 20, 40 of a cat reaches out of"
    ),
    "an unknown class": (
        annotate("f", xml([("cow", 1, 1, 9, 9)])), r"f\.xml: the class 'cow' is none of cat, dog; rename or remove"
    ),
    "no boxes": (annotate("f", xml([])), "none of the 1 test pictures has a box"),
    "an empty picture": (
        lambda path: (path / "JPEGImages" / "b.jpg").write_bytes(b""), r"the picture .*b\.jpg is broken"
    ),
    "no training part": (
        lambda path: (path / "ImageSets" / "Main" / "train.txt").unlink(), "has no train part; write train.txt"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_set_of_voc_is_one_sentence(small: Path, name: str) -> None:
    spoil, words = BROKEN[name]
    spoil(small)
    with pytest.raises(InputError, match=words) as refused:
        data.read(f"voc:{small}", SHAPE)
    assert str(small) in str(refused.value)


# COCO


def content(number: int = 2, **others: Any) -> dict[str, Any]:
    """Return a part: `number` pictures of two boxes each; the first category is a heading that nothing belongs to."""
    boxes = [{"image_id": i, "category_id": 3 + k, "bbox": [8 * k, 8, 16, 24]} for i in range(number) for k in (0, 1)]
    found = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 48} for i in range(number)],
        "categories": [{"id": 1, "name": "animals"}, {"id": 3, "name": "dog"}, {"id": 4, "name": "cat"}],
        "annotations": boxes,
    }
    return found | others


def coco(path: Path, **parts: dict[str, Any]) -> Path:
    (path / "annotations").mkdir(parents=True)
    for part, held in parts.items():
        (path / "annotations" / f"instances_{part}2017.json").write_text(json.dumps(held))
        for row in held["images"]:
            picture(path / f"{part}2017" / row["file_name"])
    return path


def test_the_boxes_of_coco_are_shares_of_the_picture(tmp_path: Path) -> None:
    path = coco(tmp_path, train=content(5), val=content(1))
    source = data.read(f"coco:{path}", SHAPE)
    # by number of the category; a heading without boxes is no class
    assert (source.classes, source.task, source.validation) == (("dog", "cat"), "detection", None)
    assert (len(source.train), len(source.test)) == (5, 1)
    np.testing.assert_allclose(
        source.test.labels[0], [[0, 0, 8 / 48, 16 / 64, 32 / 48, 0], [1, 8 / 64, 8 / 48, 24 / 64, 32 / 48, 0]]
    )


def test_parts_may_lie_beside_their_pictures(tmp_path: Path) -> None:
    for part, number in (("train", 4), ("valid", 1), ("test", 1)):
        (tmp_path / part).mkdir()
        (tmp_path / part / "_annotations.coco.json").write_text(json.dumps(content(number)))
        for i in range(number):
            picture(tmp_path / part / f"{i}.jpg")
    source = data.read(f"coco:{tmp_path}", SHAPE)
    assert source.validation is not None
    assert (len(source.train), len(source.validation), len(source.test)) == (4, 1, 1)


def test_a_lone_file_is_split(tmp_path: Path) -> None:
    path = coco(tmp_path, train=content(10)) / "annotations" / "instances_train2017.json"
    for i in range(10):
        picture(tmp_path / "annotations" / f"{i}.jpg")
    source = data.read(f"coco:{path}", SHAPE)
    assert (len(source.train), len(source.test)) == (8, 2)


def test_a_crowd_counts_neither_way(tmp_path: Path) -> None:
    held = content(1)
    held["annotations"].append({"image_id": 0, "category_id": 3, "bbox": [0, 0, 64, 48], "iscrowd": 1})
    source = data.read(f"coco:{coco(tmp_path, train=content(3), val=held)}", SHAPE)
    assert source.test.labels[0, :, 5].tolist() == [0, 0, 1]


STRANGE = [{"image_id": 77, "category_id": 3, "bbox": [0, 0, 9, 9]}]
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "a box of no picture": ({"annotations": STRANGE}, "has boxes of the picture 77, which it does not list"),
    "a box of no category": (
        {"annotations": [{"image_id": 0, "category_id": 9, "bbox": [0, 0, 9, 9]}]}, "a box of the category 9"
    ),
    "no categories": ({"categories": []}, "a box of the category 3, which it does not list"),
    "a missing picture": (
        {"images": [{"id": i, "file_name": f"{'gone' * i}{i}.png"} for i in (0, 1)]}, "lists the picture 0.png"
    ),
    "outside": (
        {"annotations": [{"image_id": 0, "category_id": 3, "bbox": [60, 0, 30, 9]}]}, "reaches out of its picture"
    ),
    "a class without boxes": (
        {"annotations": [{"image_id": 0, "category_id": 3, "bbox": [0, 0, 9, 9]}]},
        "the training pictures hold no box of the class 'cat'",
    ),
    "no bbox": ({"annotations": [{"image_id": 0, "category_id": 3, "bbox": [1, 2]}]}, "is no record of COCO"),
    "no list": ({"images": 5}, "is no annotation file of COCO"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_broken_set_of_coco_is_one_sentence(tmp_path: Path, name: str) -> None:
    others, words = FAULTS[name]
    path = coco(tmp_path, train=content(2), val=content(1))
    (path / "annotations" / "instances_train2017.json").write_text(json.dumps(content(2, **others)))
    with pytest.raises(InputError, match=words):
        data.read(f"coco:{path}", SHAPE)


def test_a_folder_without_annotations_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no JSON file of COCO; expected .*/annotations/train\.json"):
        data.read(f"coco:{tmp_path}", SHAPE)
    coco(tmp_path, train=content(2))
    with pytest.raises(InputError, match="has no test part"):
        data.read(f"coco:{tmp_path}", SHAPE)
    (tmp_path / "annotations" / "test.json").write_text("{")
    with pytest.raises(InputError, match=r"test\.json is no annotation file of COCO"):
        data.read(f"coco:{tmp_path}", SHAPE)


def test_parts_of_other_categories_are_refused(tmp_path: Path) -> None:
    path = coco(tmp_path, train=content(2), val=content(1, categories=[{"id": 3, "name": "x"}, {"id": 4, "name": "y"}]))
    with pytest.raises(InputError, match="list other categories; give all files the same list"):
        data.read(f"coco:{path}", SHAPE)
