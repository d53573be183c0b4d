"""The wheel: what is in it, and that it works where there is no checkout."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path

import pytest

import nbedge

pytestmark = pytest.mark.group("packaging")

ROOT = Path(__file__).parents[1]
INFO = f"nbedge-{nbedge.__version__}.dist-info"
WANTED = {
    "nbedge/py.typed", "nbedge/__main__.py", "nbedge/report/template.html", "nbedge/device/instructions.c",
    "nbedge/device/marks.c", "nbedge/device/board/sections.ld",
    "nbedge/deployment/templates/web/page.js", "nbedge/deployment/templates/pi/run.py.txt",
    "nbedge/deployment/templates/tflm/NAME.cc",
    "nbedge/deployment/templates/android/Classifier.kt", "nbedge/deployment/templates/ios/Classifier.swift",
    "nbedge_exporters/c/kernels/nbedge_conv.c", "nbedge_exporters/c/templates/Makefile",
    "nbedge_exporters/py.typed", "nbedge_exporters/onnx.py", "nbedge_exporters/onnx_int8.py",
    "nbedge_exporters/tflite.py", f"{INFO}/licenses/LICENSE",
}  # fmt: skip


@dataclass(frozen=True)
class Installed:
    """The wheel, and an environment that sees it and everything else that is installed here, but not the checkout."""

    wheel: Path
    folder: Path

    def run(self, program: str, *arguments: str) -> str:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [str(self.folder / "bin" / program), *arguments]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    dist, folder = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("elsewhere")
    call("build", "--wheel", "--no-isolation", "--outdir", str(dist), str(ROOT))
    (wheel,) = dist.iterdir()
    call("venv", "--without-pip", str(folder))
    python = str(folder / "bin" / "python")
    call("pip", "--python", python, "install", "-q", "--no-deps", "--no-index", str(wheel))
    # a path in a .pth file is not searched for further .pth files, so the editable install stays out
    site = folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    (site / "here.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return Installed(wheel, folder)


def call(module: str, *arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_holds_two_packages_and_nothing_else(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as wheel:
        names = set(wheel.namelist())
        metadata = Parser().parsestr(wheel.read(f"{INFO}/METADATA").decode())
    assert {name.partition("/")[0] for name in names} == {"nbedge", "nbedge_exporters", INFO}
    assert names >= WANTED
    templates = {name for name in names if "/templates/" in name}
    known = {".html", ".css", ".js", ".kt", ".swift", ".md", ".txt", ".c", ".cc", ".h", ""}
    assert {Path(name).suffix for name in templates} <= known
    sources = {name for name in names - templates if not name.startswith(INFO)}
    assert {Path(name).suffix for name in sources} <= {".py", ".typed", ".html", ".c", ".h", ".ld"}
    base = [str(line) for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in str(line)]
    assert [line.partition(">")[0] for line in sorted(base)] == ["click", "numpy", "rich"]


def test_every_file_of_the_packages_is_in_the_wheel(installed: Installed) -> None:
    sources = [
        path.relative_to(folder).as_posix()
        for folder, package in ((ROOT, "nbedge"), (ROOT / "exporters", "nbedge_exporters"))
        for path in (folder / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    with zipfile.ZipFile(installed.wheel) as wheel:
        packed = [name for name in wheel.namelist() if not name.startswith(INFO)]
    assert sorted(packed) == sorted(sources)


def test_the_installed_package_is_the_wheel(installed: Installed) -> None:
    program = "import nbedge, nbedge_exporters.onnx as e; print(nbedge.__file__); print(e.__file__)"
    for path in installed.run("python", "-c", program).splitlines():
        assert Path(path).is_relative_to(installed.folder)


def test_the_exporters_are_found(installed: Installed) -> None:
    program = "from nbedge.exporter import exporters; print(*sorted(exporters()))"
    assert installed.run("python", "-c", program).split() == [
        "c", "executorch", "onnx", "onnx-dynamic", "onnx-fp16", "onnx-int8", "onnx-int8x16", "tflite", "tflite-litert",
        "tflite-quantizer",
    ]  # fmt: skip


def test_a_sample_network_and_the_report_template_are_there(installed: Installed) -> None:
    program = """
from importlib.resources import files
from nbedge.reference import ModelReference
print(type(ModelReference("sample:mobilenet_v2_tiny").build()).__name__)
print("</html>" in files("nbedge.report").joinpath("template.html").read_text(encoding="utf-8"))
"""
    assert installed.run("python", "-c", program).split() == ["MobileNetV2", "True"]


def test_the_command_runs(installed: Installed) -> None:
    assert nbedge.__version__ in installed.run("nbedge", "--version")
    assert "Usage: nbedge" in installed.run("nbedge", "--help")
    assert "Usage: " in installed.run("python", "-m", "nbedge", "--help")
