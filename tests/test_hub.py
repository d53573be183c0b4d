"""Sets that Hugging Face `datasets` reads, from the disk: parquet, folders of pictures, and what save_to_disk wrote."""

import io
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from nbedge import data
from nbedge.data import Example, Pictures, PictureStream, Splits
from nbedge.errors import InputError, MissingDependencyError
from nbedge.preprocessing import Preprocessing
from nbedge.training import Epoch, TrainSettings, train

datasets = pytest.importorskip("datasets", reason="the extra hf is not installed")

SHAPE = (1, 6, 5)
CLASSES = ("cat", "dog", "emu")


@pytest.fixture(autouse=True)
def _quick_and_nothing_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    # at the end of every pass over parquet it waits for threads, which a test would notice
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (5, 6), value).save(file, "PNG")
    return file.getvalue()


def table(values: range, **columns: Any) -> Any:
    """Return a set whose picture number i is grey i, of class i % 3; `columns` replace or add some, None removes."""
    content = {"image": [{"bytes": png(v), "path": None} for v in values], "label": [v % 3 for v in values]}
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
    for name, change in columns.items():
        content[name], kinds[name] = change or ([], None)
    left = {name: kind for name, kind in kinds.items() if kind is not None}
    return datasets.Dataset.from_dict({name: content[name] for name in left}, features=datasets.Features(left))


def parquet(folder: Path, shards: Any = 1, columns: Any = None, **parts: Any) -> str:
    folder.mkdir()
    for part, values in parts.items():
        whole = table(values, **(columns or {}))
        for number in range(shards):
            whole.shard(shards, number).to_parquet(folder / f"{part}-{number:05}-of-{shards:05}.parquet")
    return f"hf:{folder}"


def image_folder(folder: Path, **parts: range) -> str:
    for part, values in parts.items():
        for value in values:
            path = folder / part / CLASSES[value % 3] / f"{value:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(value))
    return f"hf:{folder}"


def saved(folder: Path, **parts: range) -> str:
    datasets.DatasetDict({part: table(values) for part, values in parts.items()}).save_to_disk(folder)
    return f"hf:{folder}"


FORMS = pytest.mark.parametrize("form", [parquet, image_folder, saved])


def stream_of(splits: Splits) -> PictureStream:
    assert isinstance(splits.train, PictureStream)
    return splits.train


def values(images: NDArray[np.uint8]) -> list[int]:
    return [int(image[0, 0, 0]) for image in images]


def seen(stream: PictureStream, examples: Iterator[Example]) -> list[int]:
    return values(stream.read(list(examples))[0])


def held(splits: Splits) -> list[list[int]]:
    return [values(part.images[:]) for part in (splits.validation, splits.calibration, splits.test)]


# parts


@FORMS
def test_the_parts_of_a_set_are_read(tmp_path: Path, form: Callable[..., str]) -> None:
    spec = form(tmp_path / "set", train=range(90), validation=range(90, 120), test=range(120, 135))
    splits = data.load(spec, SHAPE, calibration=9)
    train, (validation, calibration, test) = stream_of(splits), held(splits)
    assert splits.classes == CLASSES
    assert sorted(validation) == list(range(90, 120))
    assert sorted(test) == list(range(120, 135))
    assert len(train) == 81
    assert sorted([*seen(train, train.once(0)), *calibration]) == list(range(90))
    images, labels = train.read(list(train.once(0)))
    assert [v % 3 for v in values(images)] == labels.tolist()
    assert (splits.test.labels == np.array(test) % 3).all()


@pytest.mark.parametrize("part", ["test", "validation"])
def test_one_held_part_is_the_test_and_validation_is_drawn(tmp_path: Path, part: str) -> None:
    spec = parquet(tmp_path / "set", train=range(90), **{part: range(90, 120)})
    splits = data.load(spec, SHAPE, calibration=9)
    train, (validation, calibration, test) = stream_of(splits), held(splits)
    assert sorted(test) == list(range(90, 120))
    assert (len(validation), len(calibration), len(train)) == (9, 9, 72)
    assert sorted([*seen(train, train.once(5)), *validation, *calibration]) == list(range(90))


def test_a_set_without_held_parts_gives_a_fifth_to_the_test(tmp_path: Path) -> None:
    spec = parquet(tmp_path / "set", train=range(100))
    one, other = data.load(spec, SHAPE, calibration=8), data.load(spec, SHAPE, calibration=8, seed=1)
    train = stream_of(one)
    assert sorted(seen(train, train.once(0)) + list(itertools.chain(*held(one)))) == list(range(100))
    assert held(one)[2] == held(other)[2]
    assert held(one)[0] != held(other)[0]
    assert len(held(one)[2]) == 20


def test_a_test_part_whose_labels_are_secret_is_no_test(tmp_path: Path) -> None:
    spec = parquet(tmp_path / "set", train=range(30), validation=range(30, 39))
    table(range(9), label=([-1] * 9, datasets.ClassLabel(names=list(CLASSES)))).to_parquet(
        tmp_path / "set" / "test.parquet"
    )
    assert sorted(held(data.load(spec, SHAPE))[2]) == list(range(30, 39))


def test_the_held_out_part_of_a_stream_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbedge.data.stream.HELD_OUT", 5)
    splits = data.load(parquet(tmp_path / "set", train=range(90), test=range(90, 99)), SHAPE)
    assert (len(splits.validation), len(splits.calibration), len(splits.train)) == (5, 5, 80)


def test_numbers_without_names_are_the_classes(tmp_path: Path) -> None:
    numbers = {"label": ([10 * (v % 3 + 1) for v in range(30)], datasets.Value("int32"))}
    splits = data.load(parquet(tmp_path / "set", train=range(30), test=range(30), columns=numbers), SHAPE)
    assert splits.classes == ("10", "20", "30")
    assert set(splits.test.labels.tolist()) == {0, 1, 2}


def test_columns_are_chosen_by_name(tmp_path: Path) -> None:
    more = {"coarse": ([v % 2 for v in range(30)], datasets.ClassLabel(names=["even", "odd"]))}
    spec = parquet(tmp_path / "set", train=range(30), test=range(30), columns=more)
    with pytest.raises(InputError, match=r"there are label, coarse; append \?label=label or another"):
        data.load(spec, SHAPE)
    assert data.load(f"{spec}?label=coarse&image=image", SHAPE).classes == ("even", "odd")
    with pytest.raises(InputError, match="'fine' is none; choose from label, coarse"):
        data.load(f"{spec}?label=fine", SHAPE)


@FORMS
def test_the_fingerprint_follows_the_files(tmp_path: Path, form: Callable[..., str]) -> None:
    spec = form(tmp_path / "set", train=range(30), test=range(30))
    before = data.read(spec, SHAPE).fingerprint
    assert data.read(spec, SHAPE).fingerprint == before
    os.utime(next(path for path in (tmp_path / "set").rglob("*") if path.is_file()), ns=(0, 0))
    assert data.read(spec, SHAPE).fingerprint != before


def test_a_relative_path_is_anchored_and_a_name_is_not(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    assert data.anchored("hf:set?label=fine", tmp_path) == f"hf:{tmp_path.resolve()}/set?label=fine"
    assert data.anchored("folder:other", tmp_path) == f"folder:{tmp_path.resolve()}/other"
    assert data.anchored("hf:ILSVRC/imagenet-1k", tmp_path) == "hf:ILSVRC/imagenet-1k"


# the stream


def trained(spec: str, **split: int) -> PictureStream:
    return stream_of(data.load(spec, SHAPE, **split))


@pytest.mark.parametrize("shards", [1, 4])
def test_the_order_depends_on_its_number_alone(tmp_path: Path, shards: int) -> None:
    spec = parquet(tmp_path / "set", shards, train=range(90), test=range(30))
    one, again, other = trained(spec), trained(spec), trained(spec)
    order = seen(one, one.once(3))
    assert order == seen(again, again.once(3))
    assert order != seen(other, other.once(4))
    assert order != sorted(order)


@pytest.mark.parametrize("shards", [1, 3, 4])
@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_no_picture_and_lose_none(tmp_path: Path, shards: int, world: int) -> None:
    stream = trained(parquet(tmp_path / "set", shards, train=range(90), test=range(30)))
    parts = [seen(stream, stream.once(7, rank, world)) for rank in range(world)]
    assert all(parts)
    assert sorted(itertools.chain(*parts)) == sorted(seen(stream, stream.once(0)))


def test_a_process_goes_on_with_its_next_pass(tmp_path: Path) -> None:
    stream = trained(parquet(tmp_path / "set", train=range(30), test=range(30)))
    twice = seen(stream, itertools.islice(stream.endless(0), 2 * len(stream)))
    first, second = twice[: len(stream)], twice[len(stream) :]
    assert sorted(first) == sorted(second)
    assert first != second


def test_the_measured_sample_is_fixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = trained(parquet(tmp_path / "set", train=range(90), test=range(30)))
    assert data.statistics(stream.sample()) == data.statistics(stream.sample())
    monkeypatch.setattr("nbedge.data.stream.SAMPLE", 7)
    assert stream.sample().shape == (7, 6, 5, 1)


class Net(nn.Module):
    """A net that survives `steps` training steps."""

    def __init__(self, steps: float = float("inf")) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.classifier = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(48, 3))
        self.steps = steps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps -= self.training
        if self.steps < 0:
            raise KeyError("the power is cut")
        result: torch.Tensor = self.classifier(x)
        return result


@pytest.mark.group("data")
def test_an_interrupted_training_on_a_stream_resumes_to_the_same_end(tmp_path: Path) -> None:
    spec = parquet(tmp_path / "set", 2, train=range(90), validation=range(30), test=range(30))

    def run(model: nn.Module, resume: Path | None = None) -> list[Epoch]:
        splits = data.load(spec, SHAPE, calibration=10)
        about = Preprocessing(SHAPE, *data.statistics(stream_of(splits).sample()))
        settings = TrainSettings(batch_size=16, learning_rate=0.1)
        return train(model, splits, about, settings, epochs=3, resume=resume)

    undisturbed, resumed = Net(), Net()
    curve = run(undisturbed)
    with pytest.raises(KeyError, match="power"):
        run(Net(steps=7), tmp_path / "state.ckpt")
    assert run(resumed, tmp_path / "state.ckpt") == curve
    assert [point.epoch for point in curve] == [1, 2, 3]
    assert all(torch.equal(a, b) for a, b in zip(undisturbed.parameters(), resumed.parameters(), strict=True))


# errors


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"image": None}, r"has the columns label; one of pictures \(Image\) is needed, and there is none"),
        ({"label": None}, r"has the columns image; one of labels \(ClassLabel, int\) is needed, and there is none"),
        ({"label": (["cat"] * 9, "string")}, r"one of labels \(ClassLabel, int\) is needed, and there is none"),
        ({"label": ([0, 1, None] * 3, "int64")}, r"a row has the label None in the column 'label'"),
        ({"image": ([None] * 9, "image")}, "a row has no picture in the column 'image'"),
        ({"image": ([{"bytes": b"no picture", "path": "x.png"}] * 9, "image")}, r"the picture x\.png of .* is broken"),
        ({"image": ([{"bytes": png(7)[:45], "path": None}] * 9, "image")}, r"the picture of 45 bytes .* is broken"),
    ],
)  # fmt: skip
def test_a_set_that_does_not_fit_is_refused(tmp_path: Path, columns: dict[str, Any], words: str) -> None:
    made = {
        name: change and (change[0], datasets.Image() if change[1] == "image" else datasets.Value(change[1]))
        for name, change in columns.items()
    }
    with pytest.raises(InputError, match=words):
        data.load(parquet(tmp_path / "set", train=range(9), test=range(9), columns=made), SHAPE)


def test_a_broken_training_picture_is_named_when_it_is_read(tmp_path: Path) -> None:
    spec = image_folder(tmp_path / "set", train=range(30), validation=range(9), test=range(9))
    stream = trained(spec, calibration=1)
    for path in (tmp_path / "set" / "train").rglob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"the picture .*\.png of hf:.* is broken"):
        seen(stream, stream.once(0))


def test_a_damaged_shard_is_one_error(tmp_path: Path) -> None:
    stream = trained(parquet(tmp_path / "set", train=range(90), test=range(9)))
    (tmp_path / "set" / "train-00000-of-00001.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"hf:.*/set cannot be read"):
        seen(stream, stream.once(0))


@pytest.mark.parametrize(
    ("parts", "words"), [({"test": range(9)}, "one called train is needed"), ({}, "cannot be read")]
)
def test_a_set_without_a_training_part_is_refused(tmp_path: Path, parts: dict[str, range], words: str) -> None:
    with pytest.raises(InputError, match=rf"hf:.*set .*{words}"):
        data.load(parquet(tmp_path / "set", **parts), SHAPE)


def test_a_label_that_only_the_test_has_is_refused(tmp_path: Path) -> None:
    number = datasets.Value("int64")
    spec = parquet(tmp_path / "set", train=range(9), columns={"label": ([0, 1, 2] * 3, number)})
    table(range(9), label=([0, 1, 3] * 3, number)).to_parquet(tmp_path / "set" / "test.parquet")
    with pytest.raises(InputError, match="a row has the label 3 in the column 'label', which is none of the 3 classes"):
        data.load(spec, SHAPE)


UNKNOWN = """
import sys
from nbedge import data
from nbedge.errors import InputError
try:
    data.load(sys.argv[1], (1, 6, 5))
except InputError as error:
    print(error)
"""


@pytest.mark.group("data")
@pytest.mark.parametrize("name", ["nobody/nothing", "nobody/nothing/small"])
def test_a_name_that_leads_nowhere_is_an_error(tmp_path: Path, name: str) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-c", UNKNOWN, f"hf:{name}"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert f"hf:{name} cannot be read" in done.stdout, done.stderr
    assert "give OWNER/NAME, OWNER/NAME/CONFIG or a folder" in done.stdout


def test_without_the_package_its_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependencyError, match=r"run: pip install 'nbedge\[hf\]'"):
        data.load(f"hf:{tmp_path}", SHAPE)


def test_a_large_held_part_is_decoded_on_access(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = parquet(tmp_path / "set", train=range(30), test=range(30))
    small = data.load(spec, SHAPE)
    monkeypatch.setattr("nbedge.data.lazy.IN_MEMORY_BYTES", 100)
    large = data.load(spec, SHAPE)
    assert isinstance(small.test.images, np.ndarray)
    assert isinstance(large.test.images, data.LazyImages)
    assert np.array_equal(large.test.images[:], small.test.images)
    assert isinstance(large.test, Pictures)
    assert values(large.test.take(np.array([4, 2])).images[:]) == [4, 2]
