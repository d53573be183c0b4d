"""`nbedge doctor`: which runtimes and tools are here, which are missing, and the command for each."""

import os
import subprocess
import sys
import venv
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click
from rich.text import Text

from nbedge.cli.screen import Screen, with_screen
from nbedge.errors import InputError, MissingDependencyError

#: distribution, extra that brings it, what it is for
PARTS = (
    ("torch", "train", "expand, train, contract, verify"),
    ("pytorch-lightning", "train", "train"),
    ("safetensors", "train", "checkpoints"),
    ("pillow", "train", "read pictures"),
    ("onnx", "onnx", "export ONNX"),
    ("onnxscript", "onnx", "export ONNX"),
    ("onnxruntime", "onnx", "run and quantize ONNX"),
    ("onnx2tf", "tflite", "export TFLite"),
    ("tensorflow", "tflite", "export TFLite"),
    ("ai-edge-litert", "tflite", "run TFLite"),
    ("matplotlib", "report", "the report's plots"),
    ("jinja2", "report", "the report"),
    ("timm", "timm", "models named timm:NAME"),
    ("datasets", "hf", "pictures named hf:NAME"),
)
EXTRAS = tuple(dict.fromkeys(extra for _, extra, _ in PARTS))
#: backends whose pins collide with the others': each lives in an environment of its own
ISOLATED = {"tflite-runtime": ("tflite-runtime==2.14.0", "numpy<2")}


@dataclass(frozen=True, slots=True)
class Part:
    """One package: `found` is its version, None if it is missing; `cure` is the command that installs it."""

    name: str
    used_for: str
    found: str | None
    cure: str


@click.command(name="doctor")
@click.option("--install", metavar="WHAT", help=f"One of {', '.join((*EXTRAS, *ISOLATED))}.")
@with_screen
def command(screen: Screen, install: str | None) -> None:
    """List every part that nbedge can use; with --install, get one of them."""
    if install:
        _install(screen, install)
    parts = [*_packages(), *_environments()]
    rows = [(p.name, p.found or Text("missing", "yellow"), p.used_for, "" if p.found else p.cure) for p in parts]
    screen.table(f"Python {sys.version.split()[0]}", ("package", "version", "used for", "to install"), rows)
    screen.result({"python": sys.version.split()[0], "parts": [asdict(part) for part in parts]})


def _packages() -> list[Part]:
    return [Part(name, used_for, _version(name), f"pip install 'nbedge[{extra}]'") for name, extra, used_for in PARTS]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _environments() -> list[Part]:
    parts = []
    for name, requirements in ISOLATED.items():
        there = (environment(name) / "ready").exists()
        found = requirements[0].partition("==")[2] if there else None
        parts.append(
            Part(name, "run TFLite on a 32-bit Pi (its own environment)", found, f"nbedge doctor --install {name}")
        )
    return parts


def environment(name: str) -> Path:
    """Return where the isolated environment of a backend lies."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "nbedge" / "environments" / name


def _install(screen: Screen, what: str) -> None:
    if what in EXTRAS:
        _pip(sys.executable, (f"nbedge[{what}]",))
    elif what in ISOLATED:
        folder = environment(what)
        screen.note(f"making {folder}")
        venv.create(folder, with_pip=True, clear=True)
        _pip(str(folder / "bin" / "python"), ISOLATED[what])
        (folder / "ready").touch()
    else:
        raise InputError(f"--install {what}: nothing of that name; choose from {', '.join((*EXTRAS, *ISOLATED))}")


def _pip(python: str, requirements: tuple[str, ...]) -> None:
    done = subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], stdout=sys.stderr, check=False)
    if done.returncode:
        raise MissingDependencyError(f"pip could not install {', '.join(requirements)}; its own words are above")
