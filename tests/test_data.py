import gzip
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nbedge import data
from nbedge.data import FASHION_CLASSES, FolderImages, Pictures, Splits
from nbedge.data.arrays import read_idx
from nbedge.errors import InputError

GREY = (1, 6, 5)
CLASSES = ("cat", "dog", "emu")


def noise(count: int, height: int = 6, width: int = 5, channels: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, height, width, channels), np.uint8)


def draw(path: Path, value: int, size: tuple[int, int] = (5, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)


def fill(folder: Path, counts: dict[str, int], start: int = 0) -> None:
    """Write pictures of one grey value each, all different."""
    for name, count in counts.items():
        for index in range(count):
            draw(folder / name / f"{index:03}.png", start)
            start += 1


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    fill(tmp_path / "plain", {"cat": 20, "dog": 30, "emu": 10})
    return tmp_path / "plain"


@pytest.fixture
def parted(tmp_path: Path) -> Path:
    root = tmp_path / "parted"
    for start, (part, count) in zip((0, 60, 90), (("train", 20), ("val", 10), ("test", 5)), strict=True):
        fill(root / part, dict.fromkeys(CLASSES, count), start)
    return root


def arrays(**changes: Any) -> dict[str, Any]:
    return {
        "train_images": noise(60), "train_labels": np.arange(60) % 3, "test_images": noise(9),
        "test_labels": np.arange(9) % 3, "classes": np.array(CLASSES), **changes,
    }  # fmt: skip


def packed(path: Path, **changes: Any) -> str:
    np.savez_compressed(path, **{name: value for name, value in arrays(**changes).items() if value is not None})
    return f"npz:{path}"


def idx(path: Path, values: NDArray[np.uint8]) -> None:
    head = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(gzip.compress(head + values.tobytes(), mtime=0))


@pytest.fixture
def fashion(tmp_path: Path) -> Path:
    for name, count in (("train", 60), ("t10k", 20)):
        idx(tmp_path / f"{name}-images-idx3-ubyte.gz", noise(count, 28, 28)[..., 0])
        idx(tmp_path / f"{name}-labels-idx1-ubyte.gz", (np.arange(count) % 10).astype(np.uint8))
    return tmp_path


def train_of(splits: Splits) -> Pictures:
    assert isinstance(splits.train, Pictures)
    return splits.train


def parts(splits: Splits) -> list[Pictures]:
    return [train_of(splits), splits.validation, splits.calibration, splits.test]


def values(pictures: Pictures) -> set[int]:
    return {int(image[0, 0, 0]) for image in pictures.images[:]}


def counts(pictures: Pictures) -> list[int]:
    return [int(count) for count in np.bincount(pictures.labels, minlength=3)]


# sources


def test_a_spread_of_pictures_holds_every_class() -> None:
    pictures = Pictures(np.zeros((9, 2, 2, 1), np.uint8), np.repeat(np.arange(3), 3))
    assert pictures.spread(3).labels.tolist() == [0, 1, 2]
    assert pictures.spread(4).labels.tolist() == [0, 0, 1, 2]
    assert len(pictures.spread(100)) == 9


def test_a_folder_without_parts_keeps_every_fifth_file_for_the_test(plain: Path) -> None:
    splits = data.load(f"folder:{plain}", GREY)
    assert splits.classes == CLASSES
    assert values(splits.test) == set(range(4, 60, 5))
    assert counts(splits.test) == [4, 6, 2]
    assert sum(map(len, parts(splits))) == 60


def test_the_parts_of_a_folder_are_kept(parted: Path) -> None:
    splits = data.load(f"folder:{parted}", GREY, calibration=9)
    assert values(train_of(splits)) | values(splits.calibration) == set(range(60))
    assert values(splits.validation) == set(range(60, 90))
    assert values(splits.test) == set(range(90, 105))
    assert len(splits.calibration) == 9


def test_pictures_are_resized_and_turned_to_the_channels_of_the_model(tmp_path: Path) -> None:
    for name in CLASSES:
        for index in range(5):
            draw(tmp_path / name / f"{index}.png", 7, size=(31, 17))
    for shape in (GREY, (3, 4, 4)):
        splits = data.load(f"folder:{tmp_path}", shape)
        assert train_of(splits).images.shape[1:] == (*shape[1:], shape[0])
        assert {int(v) for v in np.unique(train_of(splits).images[:])} == {7}


def test_an_npz_file_is_read(tmp_path: Path) -> None:
    splits = data.load(packed(tmp_path / "a.npz"), GREY)
    assert splits.classes == CLASSES
    assert np.array_equal(splits.test.images[:], noise(9))
    assert train_of(splits).labels.dtype == np.int64


def test_fashion_mnist_is_read_from_its_own_files(fashion: Path) -> None:
    splits = data.load(f"fashion-mnist:{fashion}", (1, 28, 28))
    assert splits.classes == FASHION_CLASSES
    assert np.array_equal(splits.test.images[:], noise(20, 28, 28))
    assert np.array_equal(splits.test.labels, np.arange(20) % 10)


# splits


@pytest.mark.parametrize("seed", [0, 1])
def test_the_splits_are_disjoint_and_lose_nothing(plain: Path, seed: int) -> None:
    found = [values(part) for part in parts(data.load(f"folder:{plain}", GREY, seed=seed, calibration=10))]
    assert sum(map(len, found)) == 60
    assert set.union(*found) == set(range(60))


def test_the_splits_are_stratified(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(3), (100, 200, 300))
    spec = packed(tmp_path / "a.npz", train_images=noise(600), train_labels=labels)
    splits = data.load(spec, GREY, validation=0.1, calibration=54)
    assert counts(splits.validation) == [10, 20, 30]
    assert counts(splits.calibration) == [9, 18, 27]
    assert counts(train_of(splits)) == [81, 162, 243]


def test_the_splits_depend_on_the_seed_alone(plain: Path) -> None:
    one, again, other = (data.load(f"folder:{plain}", GREY, seed=seed) for seed in (3, 3, 4))
    assert all(np.array_equal(a.images[:], b.images[:]) for a, b in zip(parts(one), parts(again), strict=True))
    assert values(one.validation) != values(other.validation)
    assert values(one.test) == values(other.test)


def test_calibration_leaves_at_least_half_for_training(tmp_path: Path) -> None:
    splits = data.load(packed(tmp_path / "a.npz"), GREY, calibration=10_000)
    assert len(splits.train) >= len(splits.calibration) > 0


def test_the_fingerprint_follows_the_files(plain: Path) -> None:
    before = data.load(f"folder:{plain}", GREY).fingerprint
    assert data.load(f"folder:{plain}", GREY).fingerprint == before
    os.utime(plain / "cat" / "000.png", ns=(0, 0))
    assert data.load(f"folder:{plain}", GREY).fingerprint != before


# pictures decoded on access


@pytest.fixture
def lazily(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbedge.data.lazy.IN_MEMORY_BYTES", 100)


def test_a_large_folder_gives_what_a_small_one_gives(parted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = data.load(f"folder:{parted}", (3, 4, 3))
    monkeypatch.setattr("nbedge.data.lazy.IN_MEMORY_BYTES", 100)
    large = data.load(f"folder:{parted}", (3, 4, 3))
    assert large.fingerprint == small.fingerprint
    for lazy, whole in zip(parts(large), parts(small), strict=True):
        assert isinstance(lazy.images, FolderImages)
        assert lazy.images.shape == whole.images.shape
        assert lazy.images.dtype == whole.images.dtype
        assert np.array_equal(lazy.labels, whole.labels)
        assert np.array_equal(lazy.images[:], whole.images[:])
        rows = np.array([len(lazy) - 1, 0, 0])
        assert np.array_equal(lazy.images[rows], whole.images[rows])
        assert np.array_equal(lazy.images[1:3], whole.images[1:3])
        assert np.array_equal(lazy.take(rows).images[:], whole.take(rows).images[:])
    assert data.statistics(train_of(large).sample()) == data.statistics(train_of(small).sample())


def test_a_jpeg_decoded_on_access_is_nearly_that_decoded_at_once(tmp_path: Path) -> None:
    smooth = Image.fromarray(noise(1, 12, 12, 3)[0]).resize((200, 160), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "x.jpg", quality=95)
    for shape in ((3, 40, 50), (1, 40, 50), (3, 200, 160)):
        whole = data.picture(tmp_path / "x.jpg", shape).astype(int)
        drafted = FolderImages.of(tmp_path, [tmp_path / "x.jpg"], shape)[:][0]
        assert np.abs(drafted - whole).mean() < 3


@pytest.mark.usefixtures("lazily")
def test_a_large_folder_names_a_broken_picture_when_it_is_read(plain: Path) -> None:
    (plain / "dog" / "007.png").write_bytes(b"no picture")
    images = [part.images for part in parts(data.load(f"folder:{plain}", GREY))]
    with pytest.raises(InputError, match=r"dog/007\.png is broken"):
        [part[:] for part in images]


@pytest.mark.usefixtures("lazily")
@pytest.mark.parametrize("name", ["dog/007.png", "emu/004.png"])
def test_a_large_folder_names_an_empty_picture_at_once(plain: Path, name: str) -> None:
    (plain / name).write_bytes(b"")
    with pytest.raises(InputError, match=f"{name} is broken \\(it is empty\\)"):
        data.load(f"folder:{plain}", GREY)


@pytest.mark.usefixtures("lazily")
def test_a_picture_that_vanishes_is_named(plain: Path) -> None:
    images = data.load(f"folder:{plain}", GREY).test.images
    (plain / "emu" / "009.png").unlink()
    with pytest.raises(InputError, match=r"emu/009\.png is broken \(.*No such file"):
        images[:]


def test_of_a_large_set_a_fixed_sample_is_measured(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbedge.data.pictures.SAMPLE", 7)
    whole = train_of(data.load(f"folder:{plain}", GREY))
    assert whole.sample() is whole.images
    monkeypatch.setattr("nbedge.data.lazy.IN_MEMORY_BYTES", 100)
    lazy = train_of(data.load(f"folder:{plain}", GREY))
    assert lazy.sample().shape == (7, 6, 5, 1)
    assert np.array_equal(lazy.sample()[:], lazy.sample()[:])


# errors


def test_one_class_is_too_few(tmp_path: Path) -> None:
    fill(tmp_path, {"cat": 10})
    with pytest.raises(InputError, match=r"has 1 class\(es\): cat"):
        data.load(f"folder:{tmp_path}", GREY)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_a_broken_picture_is_named(plain: Path, content: bytes) -> None:
    (plain / "dog" / "007.png").write_bytes(content)
    with pytest.raises(InputError, match=r"dog/007\.png is broken"):
        data.load(f"folder:{plain}", GREY)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP"])
def test_a_damaged_picture_is_read_or_refused(tmp_path: Path, kind: str) -> None:
    rng, path = random.Random(0), tmp_path / f"x.{kind.lower()}"
    Image.fromarray(noise(1, 9, 9, 3)[0]).save(path)
    whole, refused = path.read_bytes(), 0
    for trial in range(150):
        content = bytearray(whole[: len(whole) * trial // 75] if trial < 75 else whole)
        for _ in range(3 if content else 0):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content)
        try:
            assert data.picture(path, GREY).shape == (6, 5, 1)
        except InputError:
            refused += 1
    assert refused > 20


def test_a_picture_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.bmp"
    Image.new("L", (2, 2)).save(path)
    content = bytearray(path.read_bytes())
    content[18:26] = struct.pack("<ii", 100_000, 100_000)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"bomb\.bmp is broken"):
        data.picture(path, GREY)


def test_a_class_that_the_test_lacks_is_named(parted: Path) -> None:
    for file in (parted / "test" / "dog").iterdir():
        file.unlink()
    with pytest.raises(InputError, match="the test pictures hold none of the class 'dog'"):
        data.load(f"folder:{parted}", GREY)


def test_a_class_that_only_the_test_has_is_named(parted: Path) -> None:
    draw(parted / "test" / "fox" / "0.png", 1)
    with pytest.raises(InputError, match=r"parted/test holds the class 'fox'"):
        data.load(f"folder:{parted}", GREY)


@pytest.mark.parametrize("count", [1, 2])
def test_a_class_too_small_to_split_is_named(parted: Path, count: int) -> None:
    for file in sorted((parted / "train" / "emu").iterdir())[count:]:
        file.unlink()
    with pytest.raises(InputError, match=f"the class 'emu' has {count} training pictures"):
        data.load(f"folder:{parted}", GREY)


def test_a_class_of_three_is_in_each_split(parted: Path) -> None:
    for file in sorted((parted / "train" / "emu").iterdir())[3:]:
        file.unlink()
    splits = data.load(f"folder:{parted}", GREY)
    assert min(counts(train_of(splits))) >= 1
    assert min(counts(splits.calibration)) >= 1


@pytest.mark.parametrize("spec", ["folder:", "hf:", "pictures", "", ":x"])
def test_an_unknown_kind_is_answered_with_the_known_ones(spec: str) -> None:
    with pytest.raises(
        InputError,
        match="names no data; write folder:PATH, npz:PATH, fashion-mnist:PATH, hf:NAME, or",
    ):
        data.load(spec, GREY)


@pytest.mark.parametrize("kind", ["folder", "npz", "fashion-mnist"])
def test_a_missing_source_is_named(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InputError, match=r"/nowhere does not exist"):
        data.load(f"{kind}:{tmp_path}/nowhere", GREY)


@pytest.mark.parametrize(
    ("kind", "words"), [("folder", "is no folder"), ("npz", r"no \.npz file"), ("fashion-mnist", "does not exist")]
)
def test_a_source_of_another_kind_is_named(tmp_path: Path, kind: str, words: str) -> None:
    np.save(tmp_path / "a.npy", noise(3))
    with pytest.raises(InputError, match=words):
        data.load(f"{kind}:{tmp_path}/a.npy", GREY)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    with pytest.raises(InputError, match="holds no pictures; expected"):
        data.load(f"folder:{tmp_path}", GREY)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"test_labels": None}, "lacks the array test_labels"),
        ({"train_images": noise(60).astype(np.float32)}, r"images are float32 of shape \(60, 6, 5, 1\)"),
        ({"train_images": noise(60)[..., 0]}, r"images are uint8 of shape \(60, 6, 5\)"),
        ({"train_labels": np.arange(59) % 3}, r"labels int64 \(59,\)"),
        ({"train_labels": (np.arange(60) % 3)[:, None]}, r"labels int64 \(60, 1\)"),
        ({"train_labels": np.arange(60) % 3 + 0.5}, r"labels float64 \(60,\)"),
        ({"train_labels": np.arange(60) % 4}, "the training label 3 is none of 0 to 2"),
        ({"test_labels": np.arange(9) % 3 - 1}, "the test label -1 is none of 0 to 2"),
        ({"test_labels": np.zeros(9, int)}, "the test pictures hold none of the class 'dog'"),
        ({"test_images": noise(9, 7, 7)}, "holds pictures of 1x7x7, the model takes 1x6x5"),
        ({"train_images": noise(60, 6, 5, 3)}, "holds pictures of 3x6x5, the model takes 1x6x5"),
        ({"classes": np.array([{"a": 1}], dtype=object)}, r"no \.npz file"),
    ],
)
def test_an_npz_file_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        data.load(packed(tmp_path / "a.npz", **changes), GREY)


def spoiled(content: bytes, trial: int) -> bytes:
    """Return `content` cut short, or with one byte changed."""
    if trial < 50:
        return content[: len(content) * trial // 50]
    place = random.Random(trial).randrange(len(content))
    return content[:place] + bytes([content[place] ^ 0x5A]) + content[place + 1 :]


def refusals(path: Path, read: Callable[[], object]) -> tuple[int, int]:
    """Spoil the file in many ways; return how often it was refused, of those cut short and of those changed."""
    whole, refused = path.read_bytes(), [0, 0]
    for trial in range(250):
        path.write_bytes(spoiled(whole, trial))
        try:
            read()
        except InputError as error:
            assert str(path) in str(error)  # noqa: PT017
            refused[trial >= 50] += 1
    return refused[0], refused[1]


def test_a_damaged_npz_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    spec = packed(path)
    cut, changed = refusals(path, lambda: data.load(spec, GREY))
    assert cut == 50
    assert changed > 100


def test_a_damaged_fashion_mnist_file_is_refused(fashion: Path) -> None:
    path = fashion / "train-images-idx3-ubyte.gz"
    cut, changed = refusals(path, lambda: read_idx(path))
    assert cut == 50
    assert changed > 100


def test_a_missing_fashion_mnist_file_is_named(fashion: Path) -> None:
    (fashion / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InputError, match=r"t10k-labels-idx1-ubyte\.gz does not exist"):
        data.load(f"fashion-mnist:{fashion}", (1, 28, 28))


# helpers


def test_statistics_are_those_of_each_channel() -> None:
    images = np.zeros((4, 2, 2, 2), np.uint8)
    images[:2, ..., 0] = 255
    images[..., 1] = 51
    assert data.statistics(images) == ((0.5, 0.2), (0.5, 0.0001))
