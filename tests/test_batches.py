import io
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from nbedge.data import FolderImages, Pictures, PictureStream
from nbedge.errors import InputError
from nbedge.preprocessing import Preprocessing
from nbedge.training import Place, batches, steps_per_epoch
from nbedge.training.batches import shifted
from nbedge.training.sampling import EpochSampler

PREPROCESSING = Preprocessing((1, 8, 8), (0.5,), (0.25,))
Drawn = list[tuple[Tensor, Tensor]]


def pictures(count: int) -> Pictures:
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 1), np.uint8)
    return Pictures(images, np.arange(count) % 2)


SEVENTY = pictures(70)


def drawn(
    seed: int, epoch: int, augment: tuple[str, ...] = ("shift", "flip"), workers: int = 0, place: Place | None = None,
    source: Pictures | PictureStream = SEVENTY,
) -> Drawn:  # fmt: skip
    loader = batches(source, PREPROCESSING, 16, seed, augment, workers=workers, place=place)
    assert isinstance(loader.sampler, EpochSampler)
    loader.sampler.set_epoch(epoch)
    return list(loader)


def equal(one: Drawn, other: Drawn) -> bool:
    return all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(one, other, strict=True))


def joined(parts: list[Drawn]) -> Drawn:
    """Return the batches that the processes had together."""
    return [
        (torch.cat([x for x, _ in batch]), torch.cat([labels for _, labels in batch]))
        for batch in zip(*parts, strict=True)
    ]


def on_disk(folder: Path, count: int) -> Pictures:
    for row, image in enumerate(pictures(count).images[:]):
        Image.fromarray(image[..., 0]).save(folder / f"{row:03}.png")
    return Pictures(FolderImages.of(folder, sorted(folder.glob("*.png")), (1, 8, 8)), pictures(count).labels)


# batches


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    torch.manual_seed(1)
    one = drawn(0, 2)
    torch.manual_seed(2)
    drawn(0, 0)
    assert equal(one, drawn(0, 2))
    assert not equal(one, drawn(0, 1))
    assert not equal(one, drawn(1, 2))


def test_an_epoch_draws_every_picture_at_most_once() -> None:
    found = torch.cat([x for x, _ in drawn(0, 0, augment=())])
    assert len(found) == 64
    assert len(torch.unique(found, dim=0)) == 64


def test_a_batch_without_augmentation_is_the_preprocessed_pictures() -> None:
    known = {PREPROCESSING(SEVENTY.images[i : i + 1]).tobytes(): SEVENTY.labels[i] for i in range(70)}
    for x, labels in drawn(0, 0, augment=()):
        assert [known[row.contiguous().numpy().tobytes()] for row in x] == labels.tolist()
        assert x.is_contiguous(memory_format=torch.channels_last)


def test_flipping_turns_about_half_of_the_pictures() -> None:
    plain, flipped = (torch.cat([x for x, _ in drawn(0, 0, augment)]) for augment in ((), ("flip",)))
    kept = (plain == flipped).flatten(1).all(1)
    assert torch.equal(flipped[~kept], plain[~kept].flip(3))
    assert 16 < kept.sum() < 48


def test_shifting_moves_each_picture_like_a_slow_loop() -> None:
    x = torch.randint(0, 256, (9, 3, 7, 5), dtype=torch.uint8)
    found = shifted(x, 2, torch.Generator().manual_seed(4))
    generator = torch.Generator().manual_seed(4)
    rows, columns = (torch.randint(0, 5, (9, 1), generator=generator).flatten().tolist() for _ in range(2))
    wanted = torch.zeros_like(x)
    for n, row, column in itertools.product(range(9), range(7), range(5)):
        y, z = row + rows[n] - 2, column + columns[n] - 2
        if 0 <= y < 7 and 0 <= z < 5:
            wanted[n, :, row, column] = x[n, :, y, z]
    assert torch.equal(found, wanted)
    assert len({*zip(rows, columns, strict=True)}) > 3


@pytest.mark.parametrize(("count", "size", "steps"), [(70, 16, 4), (64, 16, 4), (15, 16, 1), (1, 1, 1)])
def test_the_steps_of_an_epoch_leave_an_incomplete_batch_out(count: int, size: int, steps: int) -> None:
    assert steps_per_epoch(count, size) == steps
    assert len(batches(pictures(count), PREPROCESSING, size, 0)) == steps


# processes


@pytest.mark.parametrize("world", [2, 4, 16])
def test_processes_train_on_the_batches_of_one(world: int) -> None:
    parts = [drawn(3, 1, place=Place(rank, world)) for rank in range(world)]
    assert {len(x) for part in parts for x, _ in part} == {16 // world}
    assert equal(joined(parts), drawn(3, 1))


def test_processes_that_cannot_share_a_batch_are_refused() -> None:
    with pytest.raises(InputError, match="a batch of 16 pictures cannot be shared equally by 3 processes"):
        drawn(0, 0, place=Place(0, 3))


TWO = """
import importlib.util, sys
import torch
spec = importlib.util.spec_from_file_location("tests_of_batches", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = module
spec.loader.exec_module(module)
loader = module.batches(module.SEVENTY, module.PREPROCESSING, 16, 5, ("shift", "flip"))
rank = int(sys.argv[3])
torch.distributed.init_process_group("gloo", init_method=f"file://{sys.argv[2]}/meeting", rank=rank, world_size=2)
torch.save(list(loader), f"{sys.argv[2]}/{rank}.pt")
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""


@pytest.mark.group("data")
def test_two_real_processes_train_on_the_batches_of_one(tmp_path: Path) -> None:
    commands = [[sys.executable, "-c", TWO, __file__, str(tmp_path), str(rank)] for rank in range(2)]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    errors = [process.communicate(timeout=120)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], errors
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert equal(joined(parts), drawn(5, 0))


# worker processes, and pictures that are decoded on access


def test_pictures_decoded_on_access_give_the_same_batches(tmp_path: Path) -> None:
    assert equal(drawn(0, 1, source=on_disk(tmp_path, 70)), drawn(0, 1))


@pytest.mark.group("data")
@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_gives_the_same_batches(tmp_path: Path, workers: int) -> None:
    assert equal(drawn(0, 1, workers=workers), drawn(0, 1))
    assert equal(drawn(0, 1, workers=workers, source=on_disk(tmp_path, 70)), drawn(0, 1))


@pytest.mark.group("data")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_picture_is_one_sentence_from_any_process(tmp_path: Path, workers: int) -> None:
    source = on_disk(tmp_path, 70)
    (tmp_path / "005.png").write_bytes(b"no picture")
    loader = batches(source.take(np.arange(64)), PREPROCESSING, 16, 0, workers=workers)
    with pytest.raises(InputError, match=r"^the picture .*/005\.png is broken \(.*\); repair or remove it$"):
        list(loader)


# streams


@pytest.fixture
def stream(tmp_path: Path) -> PictureStream:
    datasets = pytest.importorskip("datasets", reason="the extra hf is not installed")
    files = []
    for image in SEVENTY.images[:]:
        file = io.BytesIO()
        Image.fromarray(image[..., 0]).save(file, "PNG")
        files.append({"bytes": file.getvalue(), "path": None})
    features = datasets.Features({"image": datasets.Image(decode=False), "label": datasets.Value("int64")})
    whole = datasets.Dataset.from_dict({"image": files, "label": SEVENTY.labels}, features=features)
    rows = whole.to_iterable_dataset(num_shards=4)
    return PictureStream("hf:test", rows, ("image", "label"), {0: 0, 1: 1}, (1, 8, 8), 70)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.group("data"))])
def test_a_stream_gives_batches_that_depend_on_seed_and_epoch_alone(stream: PictureStream, workers: int) -> None:
    one = drawn(0, 2, workers=workers, source=stream)
    assert len(one) == 4
    assert equal(one, drawn(0, 2, source=stream))
    assert not equal(one, drawn(0, 1, source=stream))
    assert not equal(one, drawn(1, 2, source=stream))


def test_a_stream_gives_every_picture_at_most_once(stream: PictureStream) -> None:
    found = torch.cat([x for x, _ in drawn(0, 0, augment=(), source=stream)])
    known = {row.tobytes() for row in PREPROCESSING(SEVENTY.images)}
    assert len(torch.unique(found, dim=0)) == 64
    assert {row.contiguous().numpy().tobytes() for row in found} < known


@pytest.mark.parametrize("world", [2, 4, 8])
def test_processes_share_a_stream(stream: PictureStream, world: int) -> None:
    parts = [drawn(0, 0, augment=(), place=Place(rank, world), source=stream) for rank in range(world)]
    found = joined(parts)
    assert [len(x) for x, _ in found] == [16] * 4
    assert len(torch.unique(torch.cat([x for x, _ in found]), dim=0)) == 64
    with pytest.raises(InputError, match="cannot be shared equally by 3"):
        drawn(0, 0, place=Place(0, 3), source=stream)
