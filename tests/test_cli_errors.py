"""Bad input, in the verb where a user meets it: one sentence with the place and the cure, and nothing written."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from nbedge import Preprocessing, propose, save_checkpoint
from nbedge.checkpoint import Checkpoint
from nbedge.reference import ModelReference

pytestmark = pytest.mark.group("cli")

ENVIRONMENT = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
RECIPE = """
name = "small"
seed = 0
[model]
reference = "sample:mobilenet_v2_tiny"
input = [1, 28, 28]
arguments = { num_classes = 2 }
[data]
source = "folder:pictures"
"""
#: file -> what stands in the recipe instead of what
RECIPES = {
    "key.toml": ("seed", "sead"),
    "type.toml": ("seed = 0", 'seed = "0"'),
    "syntax.toml": ("seed = 0", "seed ="),
    "scheme.toml": ("[data]", '[export]\nquant = ["int9"]\n[data]'),
    "nodata.toml": ("pictures", "nowhere"),
    "one.toml": ("pictures", "one"),
    "broken.toml": ("pictures", "broken"),
    "nomodel.toml": ("sample:mobilenet_v2_tiny", "nowhere.py:make"),
    "sample.toml": ("mobilenet_v2_tiny", "mobilenet_v9"),
    "warm.toml": ("[data]", "[train]\nwarmup_epochs = 99\n[data]"),
    "outputs.toml": ("num_classes = 2", "num_classes = 3"),
    "mars.toml": ("[data]", '[bench]\non = "mars"\n[data]'),
}
TRAP = "from pathlib import Path\nPath('sprung').touch()\n"
TINY = "sample:mobilenet_v2_tiny --input 1x28x28"
NORMALISED = "--input 1x28x28 --mean 0.5 --std 0.5 --data folder:pictures"


@dataclass(frozen=True)
class Bad:
    """A command line, parts of its sentence (where, and what to do), and the names of what it may leave."""

    line: str
    said: tuple[str, ...]
    left: frozenset[str] = frozenset()


BAD = [
    # recipes
    Bad("run nowhere.toml", ("the recipe nowhere.toml does not exist", "check the path")),
    Bad("run key.toml", ("key.toml: unknown key sead", "did you mean seed?")),
    Bad("run type.toml", ('type.toml: seed is "0"', "expected a whole number")),
    Bad("run syntax.toml", ("syntax.toml is no TOML", "line 3")),
    Bad("run scheme.toml", ("scheme.toml: export: unknown scheme 'int9'", "choose from fp32")),
    Bad("run mars.toml", ("mars.toml: bench.on: cannot measure on 'mars'", "give local, ssh://USER@HOST")),
    Bad("run nodata.toml", ("nowhere does not exist", "check the path")),
    Bad("run one.toml", ("one has 1 class(es): dark", "at least 2 are needed")),
    Bad("run broken.toml", ("broken/train/dark/3.png is broken", "repair or remove it")),
    Bad("run good.toml --until lunch", ("--until lunch", "choose from plan")),
    Bad("run good.toml --out good.toml", ("good.toml", "check the path")),
    Bad("run good.toml --data pictures", ("'pictures' names no data", "write folder:PATH")),
    Bad("run good.toml --out pictures --overwrite", ("pictures is no run directory", "choose the folder")),
    # pictures
    Bad("evaluate tiny.safetensors --data folder:one", ("one has 1 class(es): dark", "at least 2 are needed")),
    Bad("evaluate tiny.safetensors --data folder:broken", ("broken/train/dark/3.png", "repair or remove it")),
    Bad("export tiny.safetensors --calib folder:broken", ("broken/train/dark/3.png", "repair or remove it")),
    Bad("init sample:mobilenet_v2_tiny --input 1x28x28 --data folder:one", ("one has 1 class(es)", "at least 2")),
    Bad("verify tiny.safetensors tiny.safetensors --data folder:nowhere", ("nowhere does not exist", "check the path")),
    Bad("evaluate tiny.safetensors --data npz:cut.npz", ("cut.npz is cut short or no .npz file", "copy it again")),
    Bad("predict tiny.safetensors broken/train/dark/3.png", ("3.png is broken", "repair or remove it")),
    Bad("predict tiny.safetensors nowhere.png", ("the picture nowhere.png does not exist", "check the path")),
    # checkpoints
    Bad(
        "evaluate nowhere.safetensors --data folder:pictures", ("nowhere.safetensors does not exist", "check the path")
    ),
    Bad("evaluate cut.safetensors --data folder:pictures", ("cut.safetensors is cut short", "copy or train it again")),
    Bad("verify tiny.safetensors stub.safetensors", ("stub.safetensors is cut short", "copy or train it again")),
    Bad(
        "export pickled.safetensors --calib folder:pictures", ("pickled.safetensors is", "save the weights alone with")
    ),
    Bad("inspect pickled.pt", ("pickled.pt can hold weights", "pass --weights pickled.pt")),
    Bad(
        f"evaluate sample:mobilenet_v2_tiny --weights pickled.pt {NORMALISED}",
        ("pickled.pt is damaged, or a pickled module", "save the weights alone with torch.save("),
    ),
    Bad("inspect foreign.safetensors", ("foreign.safetensors holds weights but no nbedge", "pass it as --weights")),
    Bad(
        "export tiny.safetensors --model sample:mobilenet_v2 --calib folder:pictures",
        ("tiny.safetensors belongs to another model", "classifier.1.weight", "name its model"),
    ),
    Bad(
        f"evaluate sample:mobilenet_v2_tiny --weights tiny.safetensors {NORMALISED}",
        ("tiny.safetensors belongs to another model", "classifier.1."),
    ),
    Bad("inspect trap.safetensors", ("trap.safetensors names the model trap.py:make", "--model", "--trust")),
    # models
    Bad("run nomodel.toml --out a", ("nowhere.py does not exist", "check the path"), frozenset({"a", "recipe.toml"})),
    Bad("run sample.toml --out b", ("'sample:mobilenet_v9'",), frozenset({"b", "recipe.toml"})),
    Bad(
        "run outputs.toml --out c",
        ("gives (1, 3) for one picture", "the data has 2 classes", "set num_classes in model.arguments"),
        frozenset({"c", "recipe.toml"}),
    ),
    Bad("inspect lunch", ("'lunch' is no checkpoint", "write sample:NAME")),
    Bad("inspect sample:mobilenet_v2_tiny", ("does not say what it takes", "pass --input")),
    Bad("inspect sample:mobilenet_v2_tiny --input 3x28x28", ("--input 3x28x28", "--model-args")),
    Bad("inspect sample:mobilenet_v2_tiny --input big", ("--input is 'big'", "for example 3x96x96")),
    Bad("inspect sample:mobilenet_v2_tiny --input 1x28x28 --model-args 5", ("--model-args must be a JSON object",)),
    Bad(
        f"evaluate sample:mobilenet_v2_tiny {NORMALISED}",
        ("gives (1, 10) for one", "2 classes", "--model-args"),
    ),
    Bad("inspect sample:mobilenet_v2_tiny --input 1x28x28 --probe", ("--probe and --data DATA together",)),
    Bad("inspect sample:mobilenet_v2_tiny --input 1x28x28 --data folder:pictures", ("--probe and --data",)),
    Bad("init sample:mobilenet_v2_tiny --data folder:pictures", ("init needs to know the size", "pass --input")),
    # giants
    Bad(f"inspect {TINY} --choose lunch", ("'lunch' names no choice of sites", "write every:N, all")),
    Bad(f"inspect {TINY} --choose name:lunch*", ("matches 'lunch*'", "for example features.")),
    Bad(f"inspect {TINY} --choose budget:1.001", ("1.001 times the model's MACs", "raise it, or lower the ratio")),
    Bad(f"inspect {TINY} --ratio 1e9", ("ratio is 1000000000", "up to 1000")),
    Bad(f"inspect {TINY} --ratio nan", ("ratio is nan", "give a number above 0")),
    Bad("expand tiny.safetensors --plan empty.json", ("the plan has no sites", "nbedge inspect --plan")),
    Bad("expand tiny.safetensors --plan half.json", ("the plan is no JSON", "nbedge inspect --plan")),
    Bad("expand tiny.safetensors --plan good.toml", ("the plan is no JSON", "nbedge inspect --plan")),
    Bad("expand cut.onnx", ("cut.onnx",)),
    Bad("contract tiny.safetensors", ("the model has no expanded block", "nbedge.expand")),
    Bad("contract nowhere.safetensors", ("nowhere.safetensors does not exist", "check the path")),
    Bad("train --data folder:pictures", ("name what is trained", "--from")),
    Bad("train tiny.safetensors --straighten --data folder:pictures", ("is no giant", "make one with nbedge expand")),
    Bad("train tiny.safetensors --data folder:pictures", ("batch_size is 256", "lower it")),
    Bad("train tiny.safetensors --batch-size 4 --learning-rate nan --data folder:pictures", ("learning_rate is nan",)),
    Bad("train tiny.safetensors --batch-size 4 --ramp nan --data folder:pictures", ("--ramp is no number",)),
    Bad(f"train sample:mobilenet_v2_tiny --batch-size 4 {NORMALISED}", ("gives (1, 10)", "2 classes")),
    Bad("train --from nowhere.safetensors --data folder:pictures", ("the giant nowhere.safetensors does not exist",)),
    Bad("train --from tiny.safetensors --data folder:pictures", ("the control is missing",)),
    Bad(
        "train --from tiny.safetensors --control tiny.safetensors --batch-size 4 --data folder:pictures --out r",
        ("stage control, not of a giant",),
    ),
    Bad("run good.toml --dry-run --out good.toml", ("good.toml", "check the path")),
    Bad("expand tiny.safetensors --plan binary.json", ("the plan binary.json is no text file", "check the path")),
    Bad(
        "expand tiny.safetensors --plan norm.json", ("is not read by features.2.conv.1.1, but by features.2.conv.0.1",)
    ),
    Bad("expand tiny.safetensors --plan key.json", ("key.json: sites[0] has the unknown key 'width'", "known are")),
    Bad("expand tiny.safetensors --plan nonorm.json", ("nonorm.json: sites[0] has no 'norm'", "add it")),
    Bad("expand tiny.safetensors --plan norm.json --every 1", ("--every has no effect here", "leave it out")),
    Bad(f"inspect {TINY} --every 1 --choose all", ("--every has no effect here", "leave it out")),
    Bad("train tiny.safetensors --data folder:pictures --format onnx", ("--format has no effect", "--from")),
    Bad("train --from tiny.safetensors --data folder:pictures --mean 0.5", ("--mean has no effect", "the giant")),
    Bad("train tiny.safetensors --data folder:others", ("knows the classes dark, light", "has big, small")),
    Bad("verify tiny.safetensors tiny.safetensors --data folder:others", ("has big, small", "its own classes")),
    Bad("export tiny.safetensors --calib folder:others", ("has big, small", "its own classes")),
    Bad("expand tiny.safetensors --out pictures --overwrite", ("pictures is to be a checkpoint",)),
    Bad("run warm.toml", ("warm.toml: train.warmup_epochs is 99", "a training of 20 epochs")),
    Bad("inspect boom.py:boom --input 1x28x28", ("boom.py:boom cannot be built", "ValueError: too small")),
    Bad("bench cut.onnx --seconds nan", ("seconds=nan", "more than 0 seconds")),
    Bad("expand tiny.safetensors --out giant.onnx", ("giant.onnx is to be a checkpoint", "NAME.safetensors")),
    Bad("expand tiny.safetensors --out good.toml/g.safetensors", ("good.toml is no folder to write to",)),
    Bad("train tiny.safetensors --batch-size 4 --data folder:pictures --out trap.py/t.safetensors", ("is no folder",)),
    Bad(f"expand {TINY} --mean nan --std 0.5", ("mean (nan,) must lie between 0 and 1",)),
    Bad(f"expand {TINY} --mean 120 --std 60", ("mean (120.0,) must lie between 0 and 1",)),
    Bad("run good.toml --out r --resume --overwrite", ("pass one of the two",)),
    Bad("run good.toml --out r --data folder:pictures --until lunch", ("--until lunch",)),
    Bad("verify tiny.safetensors tiny.safetensors --junit v --markdown v", ("name the same path",)),
    Bad("verify tiny.safetensors tiny.safetensors --float-error -1", ("float_error is -1", "0 or more")),
    Bad("export tiny.safetensors --name a/b --calib folder:pictures", ("'a/b' is no name of a file",)),
    # exported files
    Bad("evaluate cut.onnx --data folder:pictures", ("ONNX Runtime cannot load cut.onnx", "export the file again")),
    Bad("bench cut.onnx --processes 1 --seconds 0.01", ("cut.onnx",)),
    Bad("bench", ("there is no file to measure", ".onnx or .tflite")),
    Bad("bench cut.npz", ("cut.npz cannot be measured", ".onnx or .tflite")),
    Bad("bench cut.onnx --runtime litert", ("cut.onnx runs in onnxruntime, not in litert", "choose another runtime")),
    Bad("bench cut.onnx --fail-if ratio:1.05", ("--fail-if compares with something", "name it with --against")),
    Bad("bench cut.onnx --fail-if speed:2 --against cut.onnx", ("'speed:2' is no limit", "for example ratio:1.05")),
    Bad("bench cut.onnx --against nowhere.json", ("the baseline nowhere.json does not exist", "check the path")),
    Bad("bench cut.onnx cut.onnx --against cut.onnx", ("compares one file with cut.onnx", "name one FILE, not 2")),
    Bad("bench cut.onnx --runtime lunch", ("no runtime is called 'lunch'", "choose from onnxruntime")),
    Bad(
        "bench cut.onnx --against old.json",
        ("--against old.json compares nothing without --fail-if", "add for example"),
    ),
    Bad("bench cut.onnx --against old.json --fail-if ratio:1.1", ("times of another day are no baseline",)),
    Bad(
        "bench cut.onnx --against old.json --fail-if arena:1", ("arena of cut.onnx is not measured here or not stored",)
    ),
    Bad("bench cut.onnx --against cut.onnx --threads 1,2", ("compares one file with cut.onnx", "give one --runtime")),
    Bad("bench cut.onnx --threads 1,1", ("the number of threads 1 is given twice", "name it once")),
    Bad("bench cut.onnx cut.onnx", ("cut.onnx is given twice", "name it once")),
    Bad("bench cut.onnx --markdown good.toml", ("good.toml exists already", "pass --overwrite")),
    Bad("bench cut.onnx --plot drawing.svg --markdown pictures --overwrite", ("pictures is a folder",)),
    Bad("bench cut.onnx --plot drawing.svg --markdown drawing.svg", ("name the same file", "give each its own")),
    Bad("bench cut.onnx --markdown /proc/x.md", ("/proc/x.md cannot be written", "choose another place")),
    Bad("bench cut.onnx --require-stable --processes 1", ("--require-stable needs --processes 2 or more",)),
    Bad("bench tiny.safetensors --on emulated:cortex-a72", ("tiny.safetensors is a checkpoint", "export it")),
    Bad("verify tiny.safetensors tiny.safetensors --junit pictures --overwrite", ("pictures is a folder",)),
    Bad("bench cut.onnx --blocks 12", ("--blocks has no effect here", "leave it out")),
    Bad("bench cut.onnx --plot drawing.gif", ("drawing.gif is no drawing", ".svg, .png, .pdf")),
    Bad("bench cut.onnx --compare cut.onnx cut.onnx", ("--compare shows two stored sessions", "leave the FILE out")),
    Bad("bench --compare cut.onnx cut.onnx", ("cut.onnx holds no measurements", "nbedge bench --json")),
    Bad("bench cut.onnx --on raspberrypi", ("cannot measure on 'raspberrypi'", "ssh://USER@HOST")),
    Bad("bench cut.onnx --on ssh://pi:secret@raspberrypi", ("password",)),
    Bad("bench cut.onnx --on emulated:cortex-m99", ("'cortex-m99'", "cortex-a72", "cortex-m4")),
    Bad("bench cut.onnx --setup", ("--setup has no effect here", "leave it out")),
    Bad("export tiny.safetensors --format onxx --calib folder:pictures", ("'onxx'", "installed are c: ")),
    Bad("export tiny.safetensors --quant int9 --calib folder:pictures", ("'int9'", "choose from fp32")),
    # runs
    Bad("report pictures", ("pictures holds no run", "give the folder of")),
    Bad("report nowhere", ("the run directory nowhere does not exist", "check the path")),
]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good pictures, a good checkpoint, a good recipe, and each of them spoiled in every way."""
    folder = tmp_path_factory.mktemp("here")
    grey = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    for name in ("pictures", "broken", "one"):
        for part, label in ((p, c) for p in ("train", "test") for c in ("dark", "light")[: 1 if name == "one" else 2]):
            (folder / name / part / label).mkdir(parents=True)
            for index in range(8):
                Image.fromarray(grey).save(folder / name / part / label / f"{index}.png")
    cut(folder / "broken" / "train" / "dark" / "3.png", 100)
    shutil.copytree(folder / "pictures", folder / "others")
    for part, (old, new) in itertools.product(("train", "test"), (("dark", "big"), ("light", "small"))):
        (folder / "others" / part / old).rename(folder / "others" / part / new)
    (folder / "cut.npz").write_bytes(b"PK\x03\x04")
    (folder / "cut.onnx").write_bytes(b"\x08\x08\x12\x07pytorch")
    (folder / "good.toml").write_text(RECIPE)
    (folder / "empty.json").write_text('{"schema_version": 2, "fingerprint": "", "sites": []}')
    (folder / "binary.json").write_bytes(b"\xff\xfe{")
    (folder / "half.json").write_text('{"schema_version": 2, "finger')
    (folder / "old.json").write_text('{"rows": [{"file": "cut.onnx", "size_bytes": 9}]}')
    for name, (old, new) in RECIPES.items():
        (folder / name).write_text(RECIPE.replace(old, new))
    models(folder)
    return folder


def models(folder: Path) -> None:
    reference = ModelReference("sample:mobilenet_v2_tiny", {"num_classes": 2})
    model, prepared = reference.build(), Preprocessing((1, 28, 28), (0.5,), (0.5,))
    for name, text in (("tiny", reference.text), ("trap", "trap.py:make")):
        about = Checkpoint("control", ModelReference(text, reference.arguments), prepared, ("dark", "light"))
        save_checkpoint(folder / f"{name}.safetensors", model, about)
    (folder / "trap.py").write_text(TRAP)
    (folder / "boom.py").write_text("def boom():\n    raise ValueError('too small')\n")
    plan = propose(model, torch.zeros(1, 1, 28, 28)).to_dict()
    first = plan["sites"][0]
    changes = {"norm": first | {"norm": "features.2.conv.1.1"}, "key": first | {"width": 2}, "nonorm": {"layer": "x"}}
    for name, site in changes.items():
        (folder / f"{name}.json").write_text(json.dumps(plan | {"sites": [site]}))
    whole = (folder / "tiny.safetensors").read_bytes()
    for name, size in (("cut", len(whole) // 2), ("stub", 5)):
        (folder / f"{name}.safetensors").write_bytes(whole)
        cut(folder / f"{name}.safetensors", size)
    for name in ("pickled.pt", "pickled.safetensors"):
        torch.save(model, folder / name)
    save_file(model.state_dict(), folder / "foreign.safetensors")


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def call(folder: Path, line: str, python: Path | str = sys.executable) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [python, "-m", "nbedge", *line.split()], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Return every file and folder with its size and time; what Python itself caches is left out."""
    paths = [path for path in folder.rglob("*") if "__pycache__" not in path.parts]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.line)
def test_bad_input_gets_one_sentence_and_leaves_nothing(here: Path, bad: Bad) -> None:
    before = contents(here)
    done = call(here, bad.line)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("nbedge: ")
    for part in bad.said:
        assert part in sentence
    after = contents(here)
    assert {Path(path).name for path in after.keys() - before.keys()} <= bad.left
    assert {path: after[path] for path in before} == before


@pytest.mark.parametrize(
    "line", ["run key.toml", "inspect cut.safetensors", "report nowhere", "lunch", "evaluate", "predict --top 0 a b"]
)
def test_with_json_the_sentence_is_in_the_object_too(here: Path, line: str) -> None:
    done = call(here, f"{line} --json")
    found = json.loads(done.stdout)
    assert found.keys() == {"schema_version", "error", "exit_status"}
    assert (found["schema_version"], found["exit_status"], done.returncode) == (1, 2, 2)
    assert found["error"] in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("lunch", "there is no verb 'lunch'; nbedge --help lists them"),
        ("evaluate tiny.safetensors", "Missing option '--data'"),
        ("bench cut.onnx --threads 0", "'0' is not a list of numbers from 1 on; write for example 1,4"),
        ("verify tiny.safetensors --lunch", "No such option"),
    ],
)
def test_wrong_usage_gets_the_usage(here: Path, line: str, said: str) -> None:
    done = call(here, line)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds nbedge and what it always needs, and no extra."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    packages = folder / "packages"
    packages.mkdir()
    for name in ("nbedge", "numpy", "click", "rich", "pygments", "markdown_it", "mdurl"):
        found = find_spec(name)
        assert found is not None
        assert found.origin is not None
        (packages / name).symlink_to(Path(found.origin).parent)
    (site,) = (folder / "venv" / "lib").glob("*/site-packages")
    (site / "packages.pth").write_text(f"{packages}\n")
    return folder / "venv" / "bin" / "python"


@pytest.mark.parametrize(
    ("line", "package", "extra"),
    [
        ("run good.toml", "torch", "all"),
        ("evaluate tiny.safetensors --data folder:pictures", "torch", "train"),
        ("export tiny.safetensors --calib folder:pictures", "torch", "train"),
        ("verify tiny.safetensors tiny.safetensors", "torch", "train"),
        ("inspect tiny.safetensors --json", "torch", "train"),
        ("prune tiny.safetensors --method structured --macs 9 --data folder:pictures", "torch", "train"),
        ("init sample:mobilenet_v2_tiny --data folder:pictures --input 1x28x28", "PIL", "train"),
        ("predict cut.onnx pictures/test/dark/0.png", "onnxruntime", "onnx"),
        ("bench cut.onnx", "onnxruntime", "onnx"),
        ("bench cut.tflite", "ai-edge-litert", "tflite"),
    ],
)
def test_a_missing_extra_is_status_3_with_the_command(
    here: Path, bare: Path, line: str, package: str, extra: str
) -> None:
    (here / "cut.tflite").touch()
    before = contents(here)
    done = call(here, line, bare)
    assert done.returncode == 3, done.stderr
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("nbedge: ")
    assert package in sentence
    assert f"pip install 'nbedge[{extra}]'" in sentence
    if "--json" in line:
        assert json.loads(done.stdout)["exit_status"] == 3
    assert contents(here) == before


def test_help_and_doctor_need_no_extra(tmp_path: Path, bare: Path) -> None:
    assert "Verbs" in call(tmp_path, "--help", bare).stdout
    assert call(tmp_path, "run --help", bare).returncode == 0
    done = call(tmp_path, "doctor --json", bare)
    parts = {part["name"]: part for part in json.loads(done.stdout)["parts"]}
    assert parts["torch"]["found"] is None
    assert parts["torch"]["cure"] == "pip install 'nbedge[train]'"
