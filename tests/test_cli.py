"""Each verb as a user calls it: a process, real files, its exit status, what it prints and what it leaves."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image

from nbedge import Plan, Preprocessing, contract, expand, propose, recipe, save_checkpoint
from nbedge.checkpoint import Checkpoint
from nbedge.cli import VERBS
from nbedge.cli.predict import probabilities
from nbedge.reference import ModelReference
from nbedge.slopes import set_slope_

pytestmark = pytest.mark.group("cli")

EXPORT = "export tiny.safetensors --format onnx --calib folder:pictures --out exports --name small"
ENVIRONMENT = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
RECIPE = """
name = "small"
[model]
reference = "sample:mobilenet_v2_tiny"
input = [1, 28, 28]
arguments = { width_mult = 0.5, num_classes = 2 }
[data]
source = "folder:pictures"
[train]
giant_epochs = 1
plt_epochs = 1
batch_size = 4
[gate]
lead = -100
plt_loss = 100
[export]
formats = ["onnx"]
quant = ["fp32"]
[limits]
float_error = 0
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that every command runs in: pictures, a giant, what it contracts to, another model, a recipe."""
    folder = tmp_path_factory.mktemp("here")
    rng = np.random.default_rng(0)
    for place in (folder / "pictures" / part / name for part in ("train", "test") for name in ("dark", "light")):
        place.mkdir(parents=True)
        for index in range({"train": 14, "test": 5}[place.parent.name]):
            grey = rng.integers(0, 128, (28, 28), np.uint8) + 128 * (place.name == "light")
            Image.fromarray(grey.astype(np.uint8)).save(place / f"{index}.png")
    torch.manual_seed(0)
    reference = ModelReference("sample:mobilenet_v2_tiny", {"width_mult": 0.5, "num_classes": 2})
    tiny, x = reference.build(), torch.randn(64, 1, 28, 28)
    plan = propose(tiny, x[:1])
    giant = expand(tiny, plan).train()
    with torch.no_grad():
        for _ in range(5):
            giant(x)
    set_slope_(giant.eval(), 1.0)
    models = {"giant": ("linearized", giant), "tiny": ("contracted", contract(giant)), "other": ("control", tiny)}
    for name, (stage, model) in models.items():
        about = Checkpoint(stage, reference, Preprocessing((1, 28, 28), (0.5,), (0.5,)), ("dark", "light"), plan)
        save_checkpoint(folder / f"{name}.safetensors", model, about)
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def onnx(here: Path) -> str:
    """The float file of the two that the command exports from the tiny model; the other is small.int8.onnx."""
    found = answer(here, EXPORT)["files"]
    assert [file["path"] for file in found] == ["exports/small.fp32.onnx", "exports/small.int8.onnx"]
    assert [file["derived_from"] for file in found] == ["tiny.safetensors", "small.fp32.onnx"]
    assert {file["verification"]["verdict"] for file in found} == {"PASS"}
    assert len(list((here / "exports").glob("small.*"))) == 4  # each has a sidecar
    return str(found[0]["path"])


def call(folder: Path, line: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "nbedge", *line.split()], cwd=folder, env={**ENVIRONMENT, **variables},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


BENCH_SCHEMA = json.loads((Path(__file__).parent.parent / "docs" / "bench.schema.json").read_text())
SCHEMA = json.loads((Path(__file__).parent.parent / "docs" / "verify.schema.json").read_text())


def valid(found: dict[str, Any]) -> dict[str, Any]:
    """Return what `nbedge verify --json` printed, if the published schema allows it."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(found, SCHEMA)
    return found


def answer(folder: Path, line: str, status: int = 0) -> dict[str, Any]:
    """Run the command with --json; stdout must be one JSON object and nothing else."""
    done = call(folder, f"{line} --json")
    assert done.returncode == status, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["schema_version"] == 1
    return found


def refused(folder: Path, line: str) -> str:
    """Run a command that must be refused with status 2, and return its one sentence."""
    done = call(folder, line)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("nbedge: ")
    return sentence


def test_help_lists_every_verb(tmp_path: Path) -> None:
    done = call(tmp_path, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"  {verb} " in done.stdout for verb in VERBS)
    assert "3 a missing dependency" in " ".join(done.stdout.split())
    assert call(tmp_path, "--version").stdout.startswith("nbedge, version ")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_and_takes_the_common_options(verb: str, tmp_path: Path) -> None:
    done = call(tmp_path, f"{verb} --help")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(option in done.stdout for option in ("--json", "--quiet", "--verbose", "--no-color"))


def test_doctor_names_what_is_here_and_the_command_for_the_rest(tmp_path: Path) -> None:
    parts = {part["name"]: part for part in answer(tmp_path, "doctor")["parts"]}
    assert parts["torch"]["found"]
    assert all(part["cure"].startswith(("pip install 'nbedge[", "nbedge doctor --install")) for part in parts.values())
    assert "choose from train, onnx" in refused(tmp_path, "doctor --install lunch")


def test_colour_is_for_terminals_and_can_be_turned_off(tmp_path: Path) -> None:
    assert "\x1b" not in call(tmp_path, "doctor").stdout
    terminal = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    assert "\x1b[" in call(tmp_path, "doctor", **terminal).stdout
    plain = call(tmp_path, "doctor --no-color", **terminal)
    assert "\x1b" not in plain.stdout + plain.stderr


def test_init_writes_a_recipe_that_run_accepts_and_never_over_another(here: Path) -> None:
    line = "init sample:mobilenet_v2_tiny --data folder:pictures --input 1x28x28 --out mine/mine.toml"
    found = answer(here, line)
    path = here / "mine" / "mine.toml"
    assert (found["recipe"], found["classes"]) == ("mine/mine.toml", ["dark", "light"])
    written = recipe.read(path)
    assert written.data.source == f"folder:{here / 'pictures'}"
    assert written.model.arguments == {"num_classes": 2}
    path.write_text("mine")
    assert "mine/mine.toml exists already; choose another name or pass --overwrite" in refused(here, line)
    assert path.read_text() == "mine"
    assert call(here, f"{line} --overwrite").returncode == 0
    assert recipe.read(path) == written


@pytest.mark.parametrize(
    ("kind", "gate"), [("quick", -100), ("standard", -100), ("netbooster", -3.5), ("transfer", -3.5)]
)
def test_init_writes_each_kind_of_recipe(here: Path, kind: str, gate: float) -> None:
    line = f"init sample:mobilenet_v2_tiny --data folder:pictures --input 1x28x28 --recipe {kind} --out {kind}.toml"
    answer(here, line)
    written = recipe.read(here / f"{kind}.toml")
    assert (written.gate.lead, written.model.norm_bias) == (gate, 0)
    assert written.plan.block == ("branches" if kind == "standard" else "")
    assert written.train.batch_size < 64
    assert bool(written.transfer.giant) == (kind == "transfer")
    if kind == "transfer":
        assert "giant.safetensors" in refused(here, f"run {kind}.toml --out runs/{kind}")


def test_init_raises_the_norms_of_separable_blocks_without_shortcuts(here: Path) -> None:
    for name, groups, bias in (("separable", 4, 1), ("plain", 1, 0)):
        (here / f"{name}.py").write_text(
            "from torch import nn\n"
            "def make(num_classes):\n"
            f"    layers = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 3, groups={groups}), nn.BatchNorm2d(4), nn.ReLU()\n"
            "    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))\n"
        )
        answer(here, f"init {name}.py:make --data folder:pictures --input 1x28x28 --out {name}.toml")
        assert recipe.read(here / f"{name}.toml").model.norm_bias == bias


def test_init_takes_a_model_of_ones_own_with_odd_names(here: Path) -> None:
    odd = here / 'odd"name'
    odd.mkdir()
    (odd / "net.py").write_text(
        "from nbedge.samples import mobilenet_v2_tiny\ndef make(width=1.0):\n    return mobilenet_v2_tiny(2)\n"
    )
    done = call(here, f"init {odd.name}/net.py:make --data folder:pictures --input 28x28 --out {odd.name}/r.toml")
    assert "write channels x height x width" in done.stderr
    done = call(here, f"init {odd.name}/net.py:make --data folder:pictures --input 1x28x28 --out {odd.name}/r.toml")
    assert done.returncode == 0, done.stderr
    written = recipe.read(odd / "r.toml")
    assert written.model.reference == f"{odd}/net.py:make"
    assert written.model.arguments == {}  # it has no num_classes


def test_inspect_writes_a_plan(here: Path) -> None:
    found = answer(here, "inspect other.safetensors --every 1 --ratio 4 --plan plans/plan.json")
    path = here / "plans" / "plan.json"
    plan = Plan.from_json(path.read_text())
    assert [site["layer"] for site in found["sites"]] == [site.layer for site in plan.sites]
    assert {site.ratio for site in plan.sites} == {4}
    assert found["refused"][0]["reason"]
    assert found["giant"]["macs"] > found["tiny"]["macs"]
    before = path.stat()
    assert "plans/plan.json exists already" in refused(here, "inspect other.safetensors --plan plans/plan.json")
    assert path.stat() == before
    done = call(here, "inspect other.safetensors --plan plans/plan.json --overwrite -q")
    assert (done.returncode, done.stderr) == (0, "")
    assert "features.2.conv.0.0" in done.stdout


def test_inspect_says_when_there_is_nothing_to_plan(here: Path) -> None:
    line = "inspect torch.nn:Flatten --input 1x28x28"
    assert answer(here, line)["sites"] == []
    done = call(here, f"{line} --plan no.json")
    assert done.returncode == 2
    assert "no.json is not written: the model has no layer that can be expanded" in done.stderr
    assert not (here / "no.json").exists()


def test_verify_proves_the_merge_and_writes_its_reports(here: Path) -> None:
    line = "verify giant.safetensors tiny.safetensors --data folder:pictures --junit ci/v.xml --markdown ci/v.md"
    found = valid(answer(here, line))
    [edge] = found["edges"]
    assert (found["verdict"], edge["verdict"], edge["reference"]) == ("PASS", "PASS", "giant.safetensors")
    [suite] = ElementTree.parse(here / "ci" / "v.xml").getroot()
    assert suite.attrib["failures"] == "0"
    assert [case.attrib["name"] for case in suite] == [check["name"] for check in edge["checks"]]
    rows = (here / "ci" / "v.md").read_text().splitlines()
    assert rows[0] == "## nbedge verify: PASS"
    assert rows[2] == "### giant.safetensors → tiny.safetensors (torch): PASS"
    assert rows[4:6] == ["| check | value | limit | unit | verdict | detail |", "|---|---|---|---|---|---|"]
    assert len(rows) == 6 + len(edge["checks"])
    assert "ci/v.xml exists already" in refused(here, line)
    assert "PASS" in call(here, f"{line} --overwrite").stdout


def test_verify_fails_on_another_model(here: Path) -> None:
    line = "verify tiny.safetensors other.safetensors --junit failed.xml --markdown failed.md"
    found = valid(answer(here, line, status=1))
    assert found["verdict"] == "FAIL"
    [suite] = ElementTree.parse(here / "failed.xml").getroot()
    assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure")) > 0
    named = f"first bad tensor: {found['localization']['first_bad']['candidate']}"
    assert suite.findtext("system-out", "").startswith(named)
    assert "FAIL" in (here / "failed.md").read_text()
    assert named in (here / "failed.md").read_text()


def test_verify_says_where_and_leaves_a_bundle(here: Path) -> None:
    line = "verify giant.safetensors other.safetensors --data folder:pictures --bundle failed/bundle"
    found = valid(answer(here, line, status=1))
    assert found["localization"]["first_bad"]["label"].startswith("features.")
    assert len(found["localization"]["layers"]) > 20
    folder = here / "failed" / "bundle"
    names = {path.name for path in folder.iterdir()}
    assert names == {"README.txt", "expected.npz", "found.npz", "verdict.json"}
    command = (folder / "README.txt").read_text().strip().splitlines()[-1].strip().removeprefix("nbedge ")
    assert "FAIL" in call(folder, command).stdout
    assert "failed/bundle exists already" in refused(here, line)
    shown = call(here, line.replace("--bundle failed/bundle", "")).stdout
    assert "first bad tensor: features." in shown
    assert "█" in shown or "·" in shown


def test_verify_without_real_pictures_does_not_pass_an_integer_file(here: Path, onnx: str) -> None:
    assert answer(here, f"verify tiny.safetensors {onnx}")["verdict"] == "PASS"
    line = "verify tiny.safetensors exports/small.int8.onnx"
    found = valid(answer(here, line, status=1))
    assert found["verdict"] == "NOT CHECKED"
    assert any("pass --data" in check["detail"] for edge in found["edges"] for check in edge["checks"])
    assert answer(here, f"{line} --allow-unchecked")["verdict"] == "NOT CHECKED"
    assert answer(here, f"{line} --data folder:pictures")["verdict"] == "PASS"


def test_a_sidecar_that_says_another_scale_than_the_file_is_refused(here: Path, onnx: str, tmp_path: Path) -> None:
    path = Path(shutil.copy(here / onnx.replace("fp32", "int8"), tmp_path))
    said = json.loads((here / f"{onnx.replace('fp32', 'int8')}.json").read_text())
    said["inputs"][0]["scale"] *= 2
    Path(f"{path}.json").write_text(json.dumps(said))
    assert "is not what its sidecar says" in refused(here, f"evaluate {path} --data folder:pictures")


def test_export_never_writes_over_a_file(here: Path, onnx: str) -> None:
    before = (here / onnx).stat()
    assert f"{onnx} exists already; choose another name or pass --overwrite" in refused(here, EXPORT)
    assert (here / onnx).stat() == before


def test_evaluate_and_predict_agree_on_checkpoint_and_file(here: Path, onnx: str) -> None:
    found = answer(here, f"evaluate tiny.safetensors {onnx} --reference tiny.safetensors --data folder:pictures")
    first, second = found["rows"]
    assert (first["file"], second["file"]) == ("tiny.safetensors", onnx)
    assert {**first, "file": ""} == {**second, "file": ""}
    assert (first["pictures"], first["flips"], len(first["confusion"])) == (10, 0, 2)
    picture = "pictures/test/light/0.png"
    answers = [answer(here, f"predict {name} {picture}")["answers"] for name in ("tiny.safetensors", onnx)]
    assert [row["class"] for row in answers[0]] == [row["class"] for row in answers[1]]
    assert answers[0][0]["probability"] == pytest.approx(answers[1][0]["probability"], abs=1e-4)
    assert sum(row["probability"] for row in answers[0]) == pytest.approx(1)


def test_bench_measures_a_file(here: Path, onnx: str) -> None:
    found = answer(here, f"bench {onnx} --processes 1 --seconds 0.01")
    (row,) = found["rows"]
    assert row["latency_median_ms"] > 0
    assert row["size_bytes"] == (here / onnx).stat().st_size
    assert row["conditions"]["kernel"]
    jsonschema.validate(found, BENCH_SCHEMA)


def test_bench_compares_draws_and_ends_with_1_beyond_a_limit(here: Path, onnx: str) -> None:
    line = f"bench {onnx} --against {onnx} --processes 1 --seconds 0.01"
    found = answer(here, f"{line} --fail-if size:1 --markdown bench.md --plot bench.svg")
    jsonschema.validate(found, BENCH_SCHEMA)
    assert found["compared"]["blocks"] >= 10
    assert "| median |" in (here / "bench.md").read_text()
    assert "<svg" in (here / "bench.svg").read_text()
    (here / "old.json").write_text(json.dumps({"rows": [{**found["rows"][0], "size_bytes": 1000}]}))
    grown = answer(here, f"bench {onnx} --against old.json --fail-if size:2 --processes 1 --seconds 0.01", status=1)
    jsonschema.validate(grown, BENCH_SCHEMA)
    assert "at most 2 times is allowed" in grown["error"]
    kept = call(here, f"bench {onnx} --against {onnx} --fail-if size:1 --processes 1 --seconds 0.01")
    assert "passed: size of small.fp32.onnx (ort" in kept.stdout
    assert "1.000 times the" in kept.stdout
    shown = answer(here, "bench --compare old.json old.json")
    assert {row["metric"] for row in shown["rows"]} >= {"latency", "size", "peak memory"}


def test_bench_measures_with_real_pictures_and_shows_their_accuracy(here: Path, onnx: str) -> None:
    (here / "b.md").write_text("of yesterday")
    line = f"bench {onnx} --data folder:pictures --processes 1 --seconds 0.01 --plot b.png --markdown b.md"
    assert "b.md exists already" in refused(here, line)
    assert not (here / "b.png").exists()
    found = answer(here, f"{line} --overwrite")
    page = (here / "b.md").read_text()
    assert all(
        words in page for words in ("| top-1 |", "An empty call takes", "| 95 % interval |", "is unknown: how far")
    )
    assert 0 <= found["rows"][0]["top1"] <= 1
    assert (here / "b.png").read_bytes()[:4] == b"\x89PNG"


def test_run_stops_where_asked_goes_on_and_reports(here: Path) -> None:
    assert answer(here, "run recipe.toml --out begun --until plan -q")["until"] == "plan"
    assert {path.name for path in (here / "begun").iterdir()} >= {"plan.json", "recipe.toml", "manifest.json"}
    assert "--resume" in refused(here, "run recipe.toml --out begun")
    again = call(here, "run recipe.toml --out begun --until plan --resume")
    assert "plan skipped" in again.stderr
    found = answer(here, "report begun --out pages/page.html")
    assert found["page"] == "pages/page.html"
    assert "<html" in (here / "pages" / "page.html").read_text()
    assert "pages/page.html exists already" in refused(here, "report begun --out pages/page.html")


def test_a_run_whose_file_is_not_equal_ends_with_status_1_and_keeps_no_file(here: Path) -> None:
    found = answer(here, "run recipe.toml --out strict", status=1)  # its limit of float_error is 0
    assert found["exit_status"] == 1
    assert "float error" in found["error"]
    assert found["run"] == "strict"
    assert (here / "strict" / "contracted.safetensors").exists()
    assert not list((here / "strict").rglob("*.onnx"))


def test_probabilities_are_not_taken_twice() -> None:
    taken = np.array([0.0, 0.996, 0.0])
    assert np.array_equal(probabilities(taken), taken)
    assert probabilities(np.array([1.0, 1.0])).tolist() == [0.5, 0.5]
