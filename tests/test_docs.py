"""The guides say what is so: their commands run, their links lead somewhere, every option and recipe key is explained.

A command that a test can run stands in a ```console block behind `$ `; one that is too long for a test stands in a
```sh block without `$ ` and is listed in `TOO_LONG`. A status other than 0 is announced as `# exit status N`.
"""

import dataclasses
import doctest
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest

from nbedge.cli import VERBS

ROOT = Path(__file__).parent.parent
GUIDES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PAGES = (*GUIDES, *sorted((ROOT / "docs").glob("*/*.md")), ROOT / "CONTRIBUTING.md", *ROOT.glob("*/README.md"))
#: python: one guide has it, whose code tests/test_plugin.py installs; c: tests/test_c.py compiles it
LANGUAGES = {"c", "console", "sh", "pycon", "python", "toml", "json", "text", "yaml"}
#: what a command reads; nbedge itself is the installed one
COPIED = ("sample_models", "benchmarks")
TIMEOUT_S = 120
#: commands that are shown and not run here: they train for minutes, or need the run of another such command
TOO_LONG = {
    "make demo",
    "make test",
    "nbedge run sample_models/fashion_mnist/recipe.toml --out runs/demo",
    "nbedge run sample_models/fashion_mnist/recipe.toml --out runs/demo --resume",
    "nbedge report runs/demo --out page.html",
    "nbedge run sample_models/blood_smears/recipe.toml --out runs/blood_smears",
    "nbedge train --from giant.safetensors --control control.safetensors --model sample:detector_tiny "
    "--input 3x120x160 --part features --data voc:PATH --out runs/transfer",
    "nbedge deploy sample_models/blood_smears/exports/blood_smears.int8-float-io.tflite --target web "
    "--out runs/smears_page",
    "nbedge deploy sample_models/blood_smears/exports/blood_smears.int8.tflite --target c --out runs/smears_c",
    "nbedge doctor --install tflite",
    "nbedge run sample_models/fashion_mnist/full.toml --data fashion-mnist:PATH --seed 0 --out runs/full-0",
    "nbedge run sample_models/fashion_mnist/full.toml --data fashion-mnist:PATH --seed 1 --out runs/full-1",
    "nbedge run sample_models/fashion_mnist/full.toml --data fashion-mnist:PATH --seed 2 --out runs/full-2",
    "python benchmarks/sample_accuracy.py runs/full-0 runs/full-1 runs/full-2",
    "PYTHONPATH=benchmarks python -m effect tune confirm-standard --data cifar-10=archive:cifar10-jpeg.tar.gz --jobs 2",
    "PYTHONPATH=benchmarks python -m effect run confirm-standard --data cifar-10=archive:cifar10-jpeg.tar.gz --jobs 2",
    "PYTHONPATH=benchmarks python -m effect tables confirm-standard",
    "python benchmarks/localization.py",
    "python benchmarks/pruning.py",
    "PYTHONPATH=benchmarks python benchmarks/detection.py --pictures cifar10-jpeg --work runs/detection",
    "PYTHONPATH=benchmarks python benchmarks/detection_int8.py",
    "python benchmarks/integer_files.py --rounds 2 --cifar10 FOLDER",
    "python benchmarks/tflite_runtime.py",
    "python benchmarks/harness.py --record 200 --loops 10",
    "python benchmarks/mlperf_tiny.py FOLDER",
    "python benchmarks/microcontroller.py FOLDER --bakenn PYTHON",
    "python benchmarks/step_time.py --rounds 7",
    "python benchmarks/verification_rates.py",
    "python benchmarks/verification_cost.py",
    "python benchmarks/step_time.py --profile --only sample --forms channels-last",
    "python benchmarks/contraction_error.py",
    "make setup-timm",
    ".venv-timm/bin/python benchmarks/breadth.py --resume",
    "python benchmarks/breadth_page.py",
    "python benchmarks/folder_throughput.py",
    "python benchmarks/training_cost.py --rounds 7",
    "nbedge verify models/linearized.safetensors models/contracted.safetensors --data folder:data/val --json "
    "--junit verify.xml --markdown verify.md",
    # need a plug-in that is not installed here; tests/test_plugin.py runs the like
    "nbedge export contracted.safetensors --format ts --quant fp32 --calib folder:pictures",
    "nbedge verify contracted.safetensors exports/contracted.fp32.ts --data folder:pictures",
    "nbedge doctor --install executorch",
    # need the runtimes of web pages, npm or a server; tests/test_deploy.py runs the like in a browser
    "nbedge doctor --install web",
    "nbedge export contracted.safetensors --format tflite --quant int8,int8-float-io --calib folder:pictures",
    "nbedge deploy exports/contracted.int8.tflite --target web -o site --picture cell.jpg",
    "python -m http.server --directory site 8000",
    "python run.py picture.jpg",
    "python run.py --check",
    "nbedge export contracted.safetensors --format pte --quant fp32,int8-float-io --calib folder:pictures",
    "nbedge verify contracted.safetensors exports/contracted.fp32.pte exports/contracted.int8-float-io.pte "
    "--data folder:pictures",
    "nbedge bench exports/new.int8.tflite --on ssh://pi@raspberrypi.local --setup --threads 1,4",
    "nbedge bench exports/new.int8.tflite --against exports/released.int8.tflite --fail-if ratio:1.05 "
    "--fail-if size:1.02",
    "nbedge bench model.int8.tflite --on emulated:cortex-m4 --against old.json --fail-if instructions:1.02 "
    "--fail-if flash:1.02 --fail-if arena:1",
    "nbedge train --from giant.safetensors --control control.safetensors --data folder:PATH --out runs/transfer",
}
COMMON = {"--json", "--quiet", "--verbose", "--no-color", "--help"}
OF_A_MODEL = {"--model", "--weights", "--model-args", "--input", "--mean", "--std", "--trust"}


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: `lines` are (number in the file, text)."""

    guide: Path
    language: str
    lines: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Command:
    """A command that a guide shows, with the exit status that it announces."""

    place: str
    text: str
    status: int


def blocks(guide: Path) -> Iterator[Block]:
    language, lines = None, list[tuple[int, str]]()
    for number, line in enumerate(guide.read_text(encoding="utf-8").splitlines(), start=1):
        fence = re.match(r"\s*```(\S*)\s*$", line)
        if fence and language is None:
            language, lines = fence[1], []
        elif fence:
            yield Block(guide, str(language), tuple(lines))
            language = None
        elif language is not None:
            lines.append((number, line.strip()))
    assert language is None, f"{guide.name} ends inside a ``` block"


def commands(block: Block) -> Iterator[Command]:
    """Yield the commands of a console or sh block; a backslash at the end of a line goes on in the next one."""
    started, text = 0, ""
    for number, line in block.lines:
        if not text:
            if block.language == "console" and not line.startswith("$ "):
                continue
            started = number
        text += line.removeprefix("$ ")
        if text.endswith("\\"):
            text = text[:-1]
            continue
        status = re.search(r"#\s*exit status (\d+)", text)
        shown = re.sub(r"(^|\s+)#.*", "", text)
        if shown:
            yield Command(f"{block.guide.name}:{started}", shown, int(status[1]) if status else 0)
        text = ""


def listed(language: str) -> list[Command]:
    found = (block for guide in GUIDES for block in blocks(guide) if block.language == language)
    return [command for block in found for command in commands(block)]


def arguments(text: str) -> list[str]:
    """Return what to run for a command as shown; a shell is not used."""
    name, *rest = shlex.split(text)
    programs = {"nbedge": [sys.executable, "-m", "nbedge"], "python": [sys.executable]}
    assert name in programs, f"{text!r}: only nbedge and python are run here"
    assert not set(rest) & {"|", "||", "&&", ";", ">", "<"}, f"{text!r} needs a shell"
    return [*programs[name], *rest]


@pytest.fixture(scope="module")
def working_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "nbedge"
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*", "imagenet"))
    return folder


@pytest.mark.group("docs")
@pytest.mark.parametrize("command", [pytest.param(c, id=c.place) for c in listed("console")])
def test_a_command_ends_as_the_guide_says(command: Command, working_copy: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    done = subprocess.run(
        arguments(command.text), cwd=working_copy, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert done.returncode == command.status, f"{command.place}: {command.text}\n{done.stdout}\n{done.stderr}"


@pytest.mark.group("docs")
def test_python_examples_of_the_guides_hold(working_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(working_copy)
    for guide in GUIDES[1:]:  # pytest itself runs README.md
        assert not doctest.testfile(str(guide), module_relative=False).failed, guide.name


def test_every_command_that_is_not_run_is_listed() -> None:
    shown = {command.text for command in listed("sh")}
    assert shown - TOO_LONG == set(), "put these behind `$ ` into a console block, or list them in TOO_LONG"
    assert TOO_LONG - shown == set(), "no guide shows these any more"
    assert not [command for command in listed("sh") if command.text.startswith("$")]


def test_every_block_has_a_language_that_is_looked_after() -> None:
    found = [(b.guide.name, b.lines[0], b.language) for guide in GUIDES for b in blocks(guide)]
    assert [place for place in found if place[2] not in LANGUAGES] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path) if path else page
        assert place.exists(), f"{page.name} links to {target}, which does not exist"
        assert not anchor or anchor in anchors(place), f"{page.name} links to {target}: no such heading"


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def section(page: Path, heading: str) -> str:
    """Return the text under a heading of the second level."""
    text = page.read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert found, f"{page.name} has no heading {heading!r}"
    return found[1]


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_explained_with_its_options_and_no_others(verb: str) -> None:
    command: click.Command = import_module(f"nbedge.cli.{verb}").command
    own = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
    rows = re.findall(r"^\| `(--[a-z-]+)", section(ROOT / "docs/command-line.md", f"nbedge {verb}"), flags=re.MULTILINE)
    assert set(rows) == own - COMMON - OF_A_MODEL


def test_the_common_options_are_explained() -> None:
    text = (ROOT / "docs/command-line.md").read_text(encoding="utf-8")
    assert {option for option in COMMON | OF_A_MODEL if f"`{option}" not in text} == set()


def test_every_key_of_a_recipe_is_explained() -> None:
    pytest.importorskip("torch")
    recipe = import_module("nbedge.recipe")
    rows = re.findall(r"^\| `([a-z0-9_.]+)`", section(ROOT / "docs/command-line.md", "The recipe"), flags=re.MULTILINE)
    assert sorted(rows) == sorted(recipe_keys(recipe.Recipe, ""))


def recipe_keys(kind: Any, prefix: str) -> Iterator[str]:
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(field.type):
            yield from recipe_keys(field.type, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name
