"""The studies of benchmarks/effect: real ones of seconds, killed and resumed, shared by processes; tables by hand."""

import io
import json
import math
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from effect import gates, jobs, pictures, slices, study, tables
from effect.__main__ import main
from effect.batches import Feeder, normalised
from effect.changes import Expand, Setting, Sites, Squeeze
from effect.methods import GIANT, KINDS, TINY, NetBooster, SameCost
from effect.networks import NETWORKS, Task, build
from effect.pictures import Wanted
from effect.results import Line, append, best_rates, lines
from effect.slices import Place
from effect.training import Optimizer
from nbedge.errors import InputError
from nbedge.tracing import cost
from nbedge.widening import Widened

ROOT = Path(__file__).parent.parent
PACKED = ROOT / "sample_models" / "fashion_mnist" / "data.npz"
STUDY = """
title = "a test"
networks = ["q1"]
seeds = [0, 1]
epochs = 2
batch = 64
learning_rate = 0.2

[data.few]
source = "few"
shape = [1, 28, 28]

[methods.vanilla]
kind = "vanilla"

[methods.netbooster]
kind = "netbooster"

[methods.taught]
kind = "distilled"
"""


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .npz of 1 200 training and 500 test pictures."""
    path = tmp_path_factory.mktemp("pictures") / "few.npz"
    with np.load(PACKED) as packed:
        cut = {"train": 1200, "test": 500}
        arrays = {
            f"{part}_{what}": packed[f"{part}_{what}"][:n] for part, n in cut.items() for what in ("images", "labels")
        }
        np.savez(path, classes=packed["classes"], **arrays)
    return path


def command(few: Path, folder: Path, *more: str) -> list[str]:
    file = folder / "test.toml"
    folder.mkdir(exist_ok=True)
    file.write_text(STUDY, encoding="utf-8")
    told = ["--data", f"few=npz:{few}", "--work", str(folder / "work"), "--results", str(folder)]
    return [sys.executable, "-m", "effect", "run", str(file), *told, *more]


def environment() -> dict[str, str]:
    paths = [str(ROOT), str(ROOT / "benchmarks")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


def found(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """The lines by method and seed, without what is measured by the clock."""
    rows = [asdict(line) for line in lines(folder / "test.jsonl")]
    return {(row["method"], row["seed"]): {**row, "seconds": 0, "revision": "", "device": ""} for row in rows}


def done(folder: Path) -> list[list[str]]:
    """Rows of (key, first step, step behind the last, process), one a slice."""
    file = folder / "work" / "states" / "slices.txt"
    return [row.split() for row in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


@pytest.fixture(scope="module")
def undisturbed(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    subprocess.run(command(few, folder), env=environment(), check=True, timeout=240)
    return folder


@pytest.mark.group("train")
def test_methods_that_begin_alike_share_what_they_share(undisturbed: Path) -> None:
    rows = found(undisturbed)
    assert len(rows) == 6
    assert len(done(undisturbed)) == 2 * (1 + 1 + 2)  # the giant once a seed, though two methods begin with it
    for seed in (0, 1):
        one, other = rows["netbooster", seed], rows["taught", seed]
        assert one["phases"][0] == other["phases"][0]
        assert one["training_macs"] < other["training_macs"]  # the teacher's passes count
        assert one["parameters"] == rows["vanilla", seed]["parameters"] == 1038


@pytest.mark.group("train")
def test_a_killed_run_resumes_to_the_same_result(few: Path, undisturbed: Path, tmp_path: Path) -> None:
    told = command(few, tmp_path, "--slice", "0.0003")  # some milliseconds: a phase takes several
    with subprocess.Popen(told, env=environment(), stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 120
        while not done(tmp_path) and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.15)  # in the middle of another slice
        process.send_signal(signal.SIGKILL)
    assert done(tmp_path)
    assert len(found(tmp_path)) < 6
    subprocess.run(told, env=environment(), check=True, timeout=240)
    assert found(tmp_path) == found(undisturbed)
    assert any(int(row[1]) > 0 for row in done(tmp_path)), "no phase was cut into slices, so nothing was tested"


@pytest.mark.group("train")
def test_two_processes_do_each_slice_once(few: Path, undisturbed: Path, tmp_path: Path) -> None:
    told = command(few, tmp_path, "--jobs", "2", "--slice", "0.02")
    subprocess.run(told, env=environment(), check=True, timeout=240)
    assert found(tmp_path) == found(undisturbed)
    rows = done(tmp_path)
    assert max(Counter((row[0], row[1]) for row in rows).values()) == 1
    assert len({row[3] for row in rows}) == 2
    assert len((tmp_path / "test.jsonl").read_text(encoding="utf-8").splitlines()) == 6


@pytest.mark.group("train")
def test_every_kind_ends_with_what_it_says(few: Path, tmp_path: Path) -> None:
    told = {
        "data": {
            "few": {"source": "few", "shape": [1, 28, 28]},
            "digits": {"source": "few", "shape": [1, 28, 28], "labels": 20, "before": "few"},
        }
    }
    methods: dict[str, Any] = {kind: {"kind": kind} for kind in KINDS}
    methods |= {"same-cost": {"kind": "same-cost", "of": "netbooster"}, "raised": {"kind": "raised", "of": "taught"}}
    for kind in ("pretrained", "boosted-transfer", "giant-transfer"):
        methods[kind]["before"] = 0.2
    wanted = study.Study("kinds", ("q1",), told["data"], methods, (0,), 2, learning_rate=0.1, batch=50, warmup=0.1)
    datasets = {name: pictures.load(w, f"npz:{few}", tmp_path) for name, w in wanted.pictures.items()}
    assert wanted.targets == ("digits",)
    assert len(datasets["digits"].train) == 200
    queue = [jobs.planned(job, wanted.pictures, datasets) for job in wanted.jobs({})]
    place = Place(tmp_path / "states", tmp_path / "kinds.jsonl", torch.device("cpu"))
    assert slices.work(queue, place, lambda _text: None, 600) == 0
    rows = {line.method: line for line in lines(place.results)}
    assert rows.keys() == methods.keys()
    ends = {name: method.ends for name, method in wanted.built().items()}
    tiny = rows["vanilla"]
    for kind, row in rows.items():
        same = (row.parameters, row.macs) == (tiny.parameters, tiny.macs)
        assert same if ends[kind] == TINY else row.macs <= tiny.macs or ends[kind] == GIANT, kind
    assert rows["pruned"].macs <= tiny.macs < rows["giant"].macs
    step = 3 * tiny.macs * 50
    assert abs(rows["same-cost"].training_macs - rows["netbooster"].training_macs) < step
    assert rows["squeezed-tail"].training_macs < rows["netbooster"].training_macs
    assert rows["linear"].training_macs == tiny.training_macs
    assert tiny.training_macs == 2 * 4 * step
    page = list(tables.page(wanted, list(rows.values())))
    assert sum(line.startswith("| ") for line in page) == len(methods) + 1


def test_trials_never_see_the_test_pictures_and_choose_the_rate(few: Path, tmp_path: Path) -> None:
    file = tmp_path / "tuned.toml"
    tune = 'tune = {grid = [1e-9, 0.1], like = {taught = "vanilla", netbooster = "vanilla"}}'
    text = STUDY.replace("learning_rate = 0.2", tune).replace("epochs = 2", "epochs = 0.2")
    file.write_text(text, encoding="utf-8")
    told = [str(file), "--data", f"few=npz:{few}", "--work", str(tmp_path), "--results", str(tmp_path)]
    assert main(["run", *told]) == 1  # not tuned yet
    assert main(["tune", *told]) == 0
    trials = lines(tmp_path / "tuned.jsonl")
    assert [line.test for line in trials] == [None, None]
    assert best_rates(trials) == {("vanilla", "q1", "few"): max(trials, key=lambda line: line.validation).learning_rate}
    assert main(["run", *told, "--minutes", "0"]) == 3  # chosen; no time to do it


def test_a_gate_lets_four_of_five_gaining_runs_through() -> None:
    pairs = [(2.0, True), (1.0, True), (0.5, True), (0.0, True), (-3.0, True), (0.7, False), (-1.0, False)]
    best = gates.strictest(pairs)
    assert best == gates.Rates(0.0, 0.8, 0.5)
    assert gates.rates(pairs, -9).passed == 1
    assert gates.strictest([(1.0, False)]) is None
    runs = [gates.Boosted(lead, 1.0, 1.0 if gains else -1.0) for lead, gains in pairs]
    page = list(gates.page(runs, -2.0, 5.0))
    assert page[0].startswith("7 runs of giant and tuning, 5 of them better")
    assert "| giant's lead, least, recipe | -2.0 | 80 % | 0 % |" in page
    assert "| giant's lead, least, strictest | 0.0 | 80 % | 50 % |" in page
    assert "| loss in PLT, most, recipe | 5.0 | 100 % | 0 % |" in page


def test_a_batch_is_a_function_of_its_step(few: Path, tmp_path: Path) -> None:
    dataset = pictures.load(Wanted("few", (1, 28, 28)), f"npz:{few}", tmp_path)
    one, other = Feeder(dataset, 3, 64), Feeder(dataset, 3, 64)
    there = one.batch(30)
    for step in (0, one.each, 30):
        x, labels = other.batch(step)
    assert torch.equal(x, there[0])
    assert torch.equal(labels, there[1])
    assert x.is_contiguous(memory_format=torch.channels_last)
    seen = torch.cat([one._order[n * 64 : n * 64 + 64] for n in range(one.each)]).tolist()
    assert len(set(seen)) == len(seen)
    row = one._order[30 % one.each * 64]  # the first picture, moved by hand
    number = 30 % one.each * 64
    image = torch.nn.functional.pad(dataset.train.images[row], (0, 0, 2, 2, 2, 2))
    down, right = int(one._down[number]), int(one._right[number])
    image = image[down : down + 28, right : right + 28]
    image = image.flip(1) if one._flip[number] else image
    assert torch.equal(normalised(dataset, image[None])[0], x[0])


def test_pictures_of_an_archive(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with tarfile.open(tmp_path / "set.tar.gz", "w:gz") as tar:
        for part, count in (("train", 10), ("test", 3)):
            for label in ("cat", "dog"):
                for number in range(count):
                    buffer = io.BytesIO()
                    Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(buffer, "png")
                    info = tarfile.TarInfo(f"set/{part}/{label}/{number}.png")
                    info.size = len(buffer.getvalue())
                    buffer.seek(0)
                    tar.addfile(info, buffer)
    wanted = Wanted("set", (3, 10, 10), labels=4)
    dataset = pictures.load(wanted, f"archive:{tmp_path / 'set.tar.gz'}", tmp_path / "cache")
    assert dataset.train.images.shape == (8, 10, 10, 3)
    assert dataset.test.images.shape == (6, 10, 10, 3)
    assert dataset.train.labels.bincount().tolist() == [4, 4]
    assert dataset.test.images[:, 0].max() == 0  # the border
    assert (
        pictures.load(wanted, f"archive:{tmp_path / 'set.tar.gz'}", tmp_path / "cache").fingerprint
        == dataset.fingerprint
    )
    with pytest.raises(InputError, match="cannot become"):
        pictures.load(replace(wanted, shape=(1, 10, 10)), f"archive:{tmp_path / 'set.tar.gz'}", tmp_path / "cache")


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_keep_their_keys_when_wider(name: str) -> None:
    for shape in ((1, 28, 28), (3, 32, 32)):
        task = Task(shape, 10)
        nets = [build(name, task, 0, wider) for wider in (1.0, 2.0)]
        assert nets[0].state_dict().keys() == nets[1].state_dict().keys()
        assert 1_000 <= cost(nets[0], task.example).parameters <= 500_000
        around = Widened(nets[0], nets[1:])
        assert around.augmented(torch.randn(2, *shape), 0).shape == (2, 10)


def test_wider_networks_share_the_weights() -> None:
    task = Task((1, 28, 28), 10)
    around = Widened(build("q1", task, 0), [build("q1", task, 1, 2.0), build("q1", task, 2, 3.0)]).eval()
    x = torch.randn(4, 1, 28, 28)
    before = around.augmented(x, 1)
    with torch.no_grad():
        around.tiny.get_submodule("classifier.1").weight.add_(1.0)  # type: ignore[operator]
    assert not torch.equal(around.augmented(x, 1), before)
    around.augmented(x, 0).sum().backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in around.tiny.parameters())
    assert all(parameter.grad is None for parameter in around.wider[0].parameters())


def test_a_squeezed_giant_costs_what_the_tiny_network_costs(few: Path, tmp_path: Path) -> None:
    setting = Setting("q1", 0, pictures.load(Wanted("few", (1, 28, 28)), f"npz:{few}", tmp_path), 64)
    giant = Expand(Sites(), 1.0)(None, setting)
    dear = setting.macs(giant)
    assert setting.macs(Squeeze()(giant, setting)) == setting.macs(setting.tiny()) < dear


def example(method: str, seed: int, test: float, **others: Any) -> Line:
    values: dict[str, Any] = {
        "key": f"{method} {seed} {others}", "method": method, "told": "", "ends": TINY, "network": "q1",
        "parameters": 1038, "macs": 38084, "data": "few", "fingerprint": "", "seed": seed, "learning_rate": 0.2,
        "epochs": 4, "phases": [{"name": "tiny", "epochs": 4, "macs": 1, "validation": 0.5}], "training_macs": 10**9,
        "seconds": 5.0, "device": "here", "validation": test, "test": test, "diverged": False, "revision": "abc",
        "torch": "2", "tuning": False,
    }  # fmt: skip
    return Line(**(values | others))


def rows_of(values: dict[str, Sequence[float]]) -> list[Line]:
    return [example(name, seed, test) for name, tests in values.items() for seed, test in enumerate(tests)]


def test_the_tables_hold_what_is_computed_by_hand() -> None:
    methods = {
        "plain": {"kind": "vanilla"},
        "two": {"kind": "two-phase"},
        "giant": {"kind": "giant"},
        "nb": {"kind": "netbooster"},
    }
    data = {"few": {"source": "few", "shape": [1, 28, 28]}}
    wanted = study.Study("hand", ("q1",), data, methods, (0, 1, 2), 4, controls=("plain", "two"), learning_rate=0.2)
    runs = rows_of(
        {"plain": (0.80, 0.81, 0.82), "two": (0.70, 0.71, 0.72), "giant": (0.84, 0.85, 0.87), "nb": (0.81, 0.83, 0.83)}
    )
    page = "\n".join(tables.page(wanted, runs))
    assert "Control: plain." in page
    # nb - plain: 1, 2, 1 points: mean 4/3, sd 0.57735, half of the interval 4.303 * 0.57735 / sqrt(3) = 1.4343
    assert "| nb | 3 | 82.33 | 1.15 | 82.33 | +1.33 (-0.10 to +2.77) | +1.33 (-0.10 to +2.77) |" in page
    # what loses on the validation pictures is replaced by the control
    assert "| two | 3 | 71.00 | 1.00 | 71.00 | -10.00 (-10.00 to -10.00) | +0.00 (+0.00 to +0.00) |" in page
    # giant - plain: 4, 4, 5: mean 13/3, interval 4.303 * 0.57735 / sqrt(3) on either side; (4/3) / (13/3) = 30.8 %
    assert "| +4.33 (+2.90 to +5.77) | +4.33 (+2.90 to +5.77) | - |" in page
    assert "| +1.33 (-0.10 to +2.77) | 31 % |" in page
    # a giant whose lead may be none leaves retention undefined, and so does one that is worse
    assert tables.retention({0: 82.0, 1: 83.0}, {0: 80.0, 1: 81.0}, {0: 80.5, 1: 89.0}) is None
    assert tables.retention({0: 82.0, 1: 83.0}, {0: 80.0, 1: 81.0}, {0: 70.0, 1: 71.1}) is None
    assert tables.retention({0: 82.0}, {0: 80.0}, {0: 90.0}) is None
    assert math.isclose(tables.retention({0: 81.0, 1: 82.0}, {0: 80.0, 1: 81.0}, {0: 84.0, 1: 84.8}) or 0, 1 / 3.9)


def test_the_fall_back_takes_by_validation_and_is_judged_by_test() -> None:
    control = [example("plain", seed, 0.80, validation=0.7) for seed in (0, 1, 2)]
    better, equal = example("nb", 0, 0.79, validation=0.71), example("nb", 1, 0.90, validation=0.7)
    assert tables.fall_back([better, equal, example("nb", 5, 0.9)], control) == {0: 79.0, 1: 80.0}


def test_differences_are_taken_over_the_seeds_that_both_have() -> None:
    assert tables.difference({0: 80.0, 1: 81.0, 5: 99.0}, {0: 79.0, 1: 79.0, 7: 0.0}).mean == 1.5
    assert str(tables.difference({0: 80.0}, {1: 80.0})) == "-"


def test_lines_add_up_and_damaged_ones_are_named(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    one, again = example("plain", 0, 0.8), example("plain", 0, 0.9)
    append(file, one)
    append(file, again)  # the same run at another place
    append(file, example("plain", 1, 0.7))
    assert [line.test for line in lines(file)] == [0.8, 0.7]
    with file.open("a", encoding="utf-8") as opened:
        opened.write(json.dumps({"key": 1}) + "\n")
    with pytest.raises(InputError, match="line 4 is no result"):
        lines(file)


def test_what_a_study_is_refused_for(tmp_path: Path) -> None:
    for old, new, what in (
        ('["q1"]', '["q0"]', "networks names 'q0'"),
        ('"vanilla"', '"vanilia"', "methods.vanilla.kind is 'vanilia'"),
        ("learning_rate = 0.2\n", "", "learning_rate or tune.grid"),
        ("epochs = 2", "epoch = 2", "did you mean epochs"),
        (
            "learning_rate = 0.2",
            'tune = {grid = [0.1], like = {taught = "netbooster", netbooster = "vanilla"}}',
            "itself",
        ),
        ("learning_rate = 0.2", "tune = {grid = [0.1], seeds = [1]}", "the seed 1 is one of"),
    ):
        file = tmp_path / "wrong.toml"
        file.write_text(STUDY.replace(old, new), encoding="utf-8")
        with pytest.raises(InputError, match=what):
            study.read(str(file))


def test_shipped_studies_can_be_read() -> None:
    for path in study.STUDIES.glob("*.toml"):
        assert study.read(path.stem).built()


def test_a_method_is_known_by_its_values() -> None:
    method = SameCost(NetBooster())
    job = jobs.Job("x", method, "q1", "few", 0, Optimizer(0.1), 4)
    assert job.key == replace(job, name="y").key
    assert job.key != replace(job, epochs=5).key != replace(job, method=SameCost(NetBooster(first=0.4))).key
