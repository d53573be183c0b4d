"""The machinery of conftest.py, on a test file of its own."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
SAMPLE = """
import os
import pytest

@pytest.mark.group("{group}")
def test_slow():
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"

def test_skipped():
    pytest.skip("the accelerator is away")
"""


def run(folder: Path, group: str) -> "subprocess.CompletedProcess[str]":
    for name in ("conftest.py", "budget.toml"):
        shutil.copy(HERE / name, folder)
    settings = f"[pytest]\nmarkers = group(name): slow tests\npythonpath = {HERE / 'device'}\n"
    (folder / "pytest.ini").write_text(settings, encoding="utf-8")
    (folder / "test_sample.py").write_text(SAMPLE.format(group=group), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "PYTEST_"))}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_budget_is_at_most_70_minutes() -> None:
    minutes = tomllib.loads((HERE / "budget.toml").read_text(encoding="utf-8"))["minutes"]
    assert sum(minutes.values()) <= 70


def test_a_run_prints_minutes_and_what_was_not_checked(tmp_path: Path) -> None:
    done = run(tmp_path, "export")
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout
    assert any(line.startswith("export: 0.0 of ") for line in lines)
    assert any(line.startswith("total: 0.0 of ") for line in lines)
    assert "NOT CHECKED: the accelerator is away (test_sample.py::test_skipped)" in lines


def test_a_group_without_a_budget_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "forgotten")
    assert done.returncode == 4
    assert "test_sample.py::test_slow is in the group 'forgotten', which tests/budget.toml lacks" in done.stderr
