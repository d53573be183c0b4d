"""The action that users copy: its own run steps, in a fresh environment, on a good and on a faulty pair."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

import nbedge
from nbedge.cli.bench import command as bench

ROOT = Path(__file__).parent.parent
ACTION = ROOT / ".github" / "actions" / "verify-equivalence" / "action.yml"
TORCH = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
#: an expression that GitHub replaces by an input
INPUT = r"\$\{\{ inputs\.([a-z-]+) \}\}"
SAMPLES = ("fashion_mnist", "blood_cells")
DATA = {"fashion_mnist": "npz:{}/data.npz", "blood_cells": "folder:{}/data"}


@dataclass(frozen=True, slots=True)
class Job:
    """What a step left behind."""

    status: int
    outputs: dict[str, str]
    summary: str
    log: str


@dataclass(frozen=True, slots=True)
class Runner:
    """What stands for a machine of GitHub: temporary files, and the python that setup-python would give."""

    folder: Path
    bin: Path

    def step(self, name: str, inputs: dict[str, str]) -> Job:
        """Run one step of the action in bash, as GitHub does."""
        action = yaml.safe_load(ACTION.read_text())
        given = {key: str(about.get("default", "")) for key, about in action["inputs"].items()} | inputs
        step = next(step for step in action["runs"]["steps"] if step.get("name") == name)
        assert step["shell"] == "bash"
        assert "${{" not in step["run"]  # an input in a script would be run as a script
        files = {name: self.folder / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for file in files.values():
            file.write_text("")
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
            **{key: re.sub(INPUT, lambda match: given[match[1]], value) for key, value in step["env"].items()},
            **{key: str(file) for key, file in files.items()},
            "RUNNER_TEMP": str(self.folder), "PATH": f"{self.bin}:{os.environ['PATH']}", "OMP_WAIT_POLICY": "PASSIVE",
        }  # fmt: skip
        script = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        # the checkout is there to be installed; what is installed must do without it
        place = ROOT if name.startswith("Install") else self.folder
        done = subprocess.run(script, cwd=place, env=environment, capture_output=True, text=True, check=False)
        lines = dict(line.split("=", 1) for line in files["GITHUB_OUTPUT"].read_text().splitlines())
        return Job(done.returncode, lines, files["GITHUB_STEP_SUMMARY"].read_text(), done.stdout + done.stderr)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """Return a machine with a fresh environment, into which the action's own step has installed nbedge."""
    folder = tmp_path_factory.mktemp("runner")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    fresh = Runner(folder, folder / "venv" / "bin")
    done = fresh.step("Install nbedge", {"requirement": f"-c constraints.txt {TORCH} .[train]"})
    assert done.status == 0, done.log
    return fresh


@pytest.mark.group("action")
@pytest.mark.parametrize("sample", SAMPLES)
def test_the_shipped_pair_passes(runner: Runner, sample: str) -> None:
    folder = ROOT / "sample_models" / sample
    job = runner.step("Verify", {
        "reference": f"{folder}/linearized.safetensors", "candidate": f"{folder}/contracted.safetensors",
        "data": DATA[sample].format(folder),
    })  # fmt: skip
    assert (job.status, job.outputs["verdict"]) == (0, "PASS"), job.log
    assert "algebra in float64" in job.summary
    results = Path(job.outputs["results"])
    assert json.loads((results / "verify.json").read_text())["edges"][0]["candidate"] == "contracted.safetensors"
    assert ElementTree.parse(results / "verify.xml").getroot().find("testsuite/testcase") is not None


@pytest.mark.group("action")
def test_a_faulty_pair_fails_the_job(runner: Runner, tmp_path: Path) -> None:
    giant = ROOT / "sample_models" / "fashion_mnist" / "linearized.safetensors"
    tiny, about = nbedge.load_checkpoint(giant.with_name("contracted.safetensors"))
    tiny.get_submodule("features.2.conv.0.0").get_parameter("weight").data[0] *= 1.001
    nbedge.save_checkpoint(tmp_path / "faulty.safetensors", tiny, about)
    job = runner.step("Verify", {"reference": str(giant), "candidate": str(tmp_path / "faulty.safetensors")})
    assert (job.status, job.outputs["verdict"]) == (1, "FAIL"), job.log
    assert "FAIL" in job.summary
    failures = ElementTree.parse(Path(job.outputs["results"]) / "verify.xml").getroot().findall(".//failure")
    assert any("features.2.conv.0.0.weight" in failure.attrib["message"] for failure in failures)


@pytest.mark.group("action")
def test_what_cannot_be_compared_fails_the_job(runner: Runner) -> None:
    job = runner.step("Verify", {"reference": "nowhere.safetensors", "candidate": "$(touch sprung) nothing"})
    assert (job.status, job.outputs["verdict"]) == (2, "ERROR")
    assert "nowhere.safetensors does not exist" in job.log
    assert not list(runner.folder.rglob("sprung"))


@pytest.mark.group("action")
def test_lines_and_spaces_separate_candidates_and_options(runner: Runner) -> None:
    tiny = ROOT / "sample_models" / "fashion_mnist" / "contracted.safetensors"
    given = {"reference": str(tiny), "candidate": f"{tiny}\n{tiny} {tiny}\n", "arguments": "--float-error 1e-5\n-v"}
    job = runner.step("Verify", given)
    assert (job.status, job.outputs["verdict"]) == (0, "PASS"), job.log
    found = json.loads((Path(job.outputs["results"]) / "verify.json").read_text())
    assert [check["limit"] for edge in found["edges"] for check in edge["checks"] if "noise" in check["name"]] == [
        1e-5
    ] * 3


def test_the_example_of_the_guide_fits_the_action() -> None:
    guide = (ROOT / "docs" / "continuous-integration.md").read_text()
    example, _ = re.findall(r"```yaml\n(.*?)```", guide, flags=re.DOTALL)
    steps = yaml.safe_load(example)["jobs"]["equivalence"]["steps"]
    [used] = [step for step in steps if "verify-equivalence" in step["uses"]]
    action = yaml.safe_load(ACTION.read_text())
    assert used["with"].keys() <= action["inputs"].keys()
    assert set(re.findall(rf"steps\.{used['id']}\.outputs\.([a-z]+)", example)) <= action["outputs"].keys()


def test_the_example_that_compares_latencies_uses_options_that_there_are() -> None:
    guide = (ROOT / "docs" / "continuous-integration.md").read_text()
    _, example = re.findall(r"```yaml\n(.*?)```", guide, flags=re.DOTALL)
    steps = yaml.safe_load(example)["jobs"]["latency"]["steps"]
    [line] = [step["run"] for step in steps if step.get("run", "").startswith("nbedge bench")]
    known = {option for parameter in bench.params for option in parameter.opts}
    assert set(re.findall(r"--[a-z-]+", line)) == {"--against", "--fail-if", "--markdown"}
    assert set(re.findall(r"--[a-z-]+", line)) <= known


def test_the_projects_own_workflow_uses_the_action() -> None:
    workflow: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    used = [step["with"] for step in steps if step.get("uses") == "./.github/actions/verify-equivalence"]
    assert [Path(given["reference"]).parent.name for given in used] == list(SAMPLES)
    known = yaml.safe_load(ACTION.read_text())["inputs"].keys()
    assert all(given.keys() <= known for given in used)
    assert all((ROOT / given[key]).exists() for given in used for key in ("reference", "candidate"))
