"""Slow tests belong to a group with a budget; every run says what each group took and what was not checked."""

import os
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import sshd
from sshd import Sshd

# else the import of onnxruntime makes an identifier of the machine in ~/.cache and reports to its maker
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# threads that wait for each other in a loop make torch a hundred times slower where other work takes one of two cores
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

BUDGET: dict[str, float] = tomllib.loads(Path(__file__).with_name("budget.toml").read_text(encoding="utf-8"))["minutes"]
GROUPS = pytest.StashKey[dict[str, str]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Note the group of every test; refuse one that has no budget."""
    config.stash[GROUPS] = {item.nodeid: _group(item, mark) for item in items for mark in item.iter_markers("group")}


def _group(item: pytest.Item, mark: pytest.Mark) -> str:
    name = mark.args[0] if mark.args else None
    if name not in BUDGET:
        raise pytest.UsageError(
            f"{item.nodeid} is in the group {name!r}, which tests/budget.toml lacks; "
            f"add it there with its minutes, or choose from {', '.join(BUDGET)}"
        )
    return str(name)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the minutes of each group, and each skipped test as NOT CHECKED."""
    groups = config.stash.get(GROUPS, {})
    seconds = dict.fromkeys((*BUDGET, "the rest"), 0.0)
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        if isinstance(report, pytest.TestReport):
            seconds[groups.get(report.nodeid, "the rest")] += report.duration
    terminalreporter.section("minutes by group")
    for name, spent in seconds.items():
        if spent:
            budget = f" of {BUDGET[name]:g}" if name in BUDGET else ""
            terminalreporter.line(f"{name}: {spent / 60:.1f}{budget}")
    terminalreporter.line(f"total: {sum(seconds.values()) / 60:.1f} of {sum(BUDGET.values()):g}")
    for report in terminalreporter.stats.get("skipped", []):
        terminalreporter.line(f"NOT CHECKED: {_reason(report)} ({report.nodeid})")


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return reason.removeprefix("Skipped: ")


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Leave each test as many threads as it found: a sum's last bits depend on their number."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def server() -> Iterator[Sshd]:
    """Run a real sshd."""
    if not sshd.READY.exists():
        pytest.skip("make setup-environments")
    with tempfile.TemporaryDirectory(prefix="sshd-") as folder, sshd.serving(Path(folder)) as served:
        yield served
