"""The exporter of docs/writing-an-exporter.md, installed as a real package: its format is one like any other."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")
ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "docs" / "writing-an-exporter.md"
SAMPLE = ROOT / "sample_models" / "fashion_mnist"
MOST_LINES = 60


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder into which pip has installed the package of the guide."""
    source, site = (tmp_path_factory.mktemp(name) for name in ("source", "site"))
    (source / "pyproject.toml").write_text(block("toml"), encoding="utf-8")
    (source / "nbedge_torchscript.py").write_text(block("python"), encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(site)]
    subprocess.run([*pip, str(source)], check=True, capture_output=True)
    return site


def nbedge(site: Path, line: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "nbedge", *line.split()], env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_it_is_short() -> None:
    assert len(block("python").splitlines()) < MOST_LINES


@pytest.mark.group("export")
def test_its_files_are_verified_and_used_like_all_others(site: Path, tmp_path: Path) -> None:
    tiny, data = SAMPLE / "contracted.safetensors", f"npz:{SAMPLE / 'data.npz'}"
    line = f"export {tiny} --format ts --calib {data} --out {tmp_path} --name f"
    assert "PASS" in nbedge(site, f"{line} --quant fp32")
    about = json.loads((tmp_path / "f.fp32.ts.json").read_text())
    assert (about["format"], about["scheme"], about["inputs"][0]["shape"]) == ("ts", "fp32", [1, 1, 28, 28])
    assert {verdict["kernels"] for verdict in about["verdicts"]} == {"torchscript"}
    path = tmp_path / "f.fp32.ts"
    assert "PASS" in nbedge(site, f"verify {tiny} {path} --data {data} --pictures 50")
    other = SAMPLE / "control.safetensors"
    assert "FAIL" in nbedge(site, f"verify {other} {path} --data {data} --pictures 50", status=1)
    assert "f.fp32.ts" in nbedge(site, f"evaluate {path} --data {data}")
    assert "no exporter writes 'int8' in the format 'ts'" in nbedge(site, f"{line} --quant int8", status=2)


def test_without_it_the_format_is_unknown(tmp_path: Path) -> None:
    tiny, data = SAMPLE / "contracted.safetensors", f"npz:{SAMPLE / 'data.npz'}"
    done = nbedge(tmp_path, f"export {tiny} --format ts --quant fp32 --calib {data} --out {tmp_path / 'out'}", status=2)
    assert "no exporter writes 'fp32' in the format 'ts'" in done
