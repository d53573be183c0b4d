"""`nbedge doctor`: which runtimes and tools are here, which are missing, and the command for each."""

import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

import click
from rich.text import Text

from nbedge.cli.screen import Screen, with_screen
from nbedge.deployment.packages import WebRuntimes
from nbedge.device.emulated import EmulatedPi
from nbedge.device.microcontroller import EmulatedMicrocontroller
from nbedge.environments import ENVIRONMENTS, Environment, install
from nbedge.errors import InputError

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
    ("ai-edge-quantizer", "tflite", "quantize TFLite"),
    ("matplotlib", "report", "the report's plots"),
    ("jinja2", "report", "the report"),
    ("timm", "timm", "models named timm:NAME"),
    ("datasets", "hf", "pictures named hf:NAME"),
    ("torch-pruning", "prune", "prune channels"),
    ("pycocotools", "detect", "judge detectors"),
)
EXTRAS = tuple(dict.fromkeys(extra for _, extra, _ in PARTS))
#: what lies in a folder of its own, by name
APART: dict[str, Environment | EmulatedPi | EmulatedMicrocontroller | WebRuntimes] = {
    **ENVIRONMENTS, EmulatedPi().name: EmulatedPi(), EmulatedMicrocontroller().name: EmulatedMicrocontroller(),
    WebRuntimes().name: WebRuntimes(),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """One package: `found` is its version, None if it is missing; `cure` is the command that installs it."""

    name: str
    used_for: str
    found: str | None
    cure: str


@click.command(name="doctor")
@click.option("--install", "what", metavar="WHAT", help=f"One of {', '.join((*EXTRAS, *APART))}.")
@with_screen
def command(screen: Screen, what: str | None) -> None:
    """List every part that nbedge can use; with --install, get one of them."""
    if what:
        _install(screen, what)
    parts = [*_packages(), *_apart()]
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


def _apart() -> list[Part]:
    return [
        Part(e.name, f"{e.used_for} (its own environment)", "ready" if e.ready else None,
             f"nbedge doctor --install {e.name}")
        for e in APART.values()
    ]  # fmt: skip


def _install(screen: Screen, what: str) -> None:
    if what in EXTRAS:
        install(sys.executable, (f"nbedge[{what}]",))
    elif what in APART:
        screen.note(f"making {APART[what].folder}")
        APART[what].make()
    else:
        raise InputError(f"--install {what}: nothing of that name; choose from {', '.join((*EXTRAS, *APART))}")
