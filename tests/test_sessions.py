"""Two stored sessions side by side: what is paired, what has no partner, and in which unit."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nbedge.benchmark import sessions
from nbedge.benchmark.baseline import Limit
from nbedge.cli import gates
from nbedge.errors import GateError


def row(**more: Any) -> dict[str, Any]:
    conditions = {"cpu_model": "A", "governor": None, "kernel": "6"}
    return {"file": "a.tflite", "runtime": "ai-edge-litert 2.1", "kernels": "xnnpack", "threads": 1, "size_bytes": 100,
            "latency_median_ms": 1.0, "conditions": conditions, "on": "local", **more}  # fmt: skip


def stored(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text(json.dumps({"rows": rows}))
    return str(path)


def shown(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "nbedge", "bench", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_figures_of_a_row_are_compared_with_those_of_its_partner() -> None:
    now = row(latency_median_ms=2.0, runtime="ai-edge-litert 2.3", conditions={"cpu_model": "B", "kernel": "6"})
    found = list(sessions.differences([row()], [now]))
    assert {d.metric: (d.times, d.unit) for d in found} == {"latency": (2.0, "ms"), "size": (1.0, "B")}
    assert found[0].to_dict() == {
        "file": "a.tflite", "runtime": "ai-edge-litert", "kernels": "xnnpack", "threads": 1, "metric": "latency",
        "key": "latency_median_ms", "old": 1.0, "new": 2.0, "times": 2.0,
    }  # fmt: skip
    assert sessions.caveats([row()], [now]) == ["cpu_model: A before, B now"]
    assert sessions.caveats([row()], [row(on="emulated:cortex-a72")]) == ["on: local before, emulated:cortex-a72 now"]


@pytest.mark.parametrize(
    "other", [{"file": "b.tflite"}, {"threads": 2}, {"kernels": "builtin"}, {"runtime": "tensorflow 2"}]
)
def test_another_file_runtime_or_number_of_threads_is_no_partner(other: dict[str, Any]) -> None:
    assert not list(sessions.differences([row()], [row(**other)]))
    assert sessions.alone([row()], [row(**other)]) == [row()]


def test_two_runtimes_before_and_one_now_are_shown_in_both_orders(tmp_path: Path) -> None:
    two = stored(tmp_path / "two.json", row(), row(kernels="builtin", latency_median_ms=3.0))
    one = stored(tmp_path / "one.json", row(latency_median_ms=1.5))
    for words in ((two, one), (one, two)):
        done = shown("--compare", *words)
        assert done.returncode == 0, done.stderr
        assert "1.0000 ms" in done.stdout
        assert f"only {two} has a.tflite (builtin) in ai-edge-litert; it is compared with nothing." in done.stdout
    found = json.loads(shown("--compare", two, one, "--json").stdout)
    assert found["unmatched"] == [
        {"file": "a.tflite", "runtime": "ai-edge-litert", "kernels": "builtin", "threads": 1, "in": two}
    ]


@pytest.mark.parametrize(
    "words",
    [("--fail-if", "size:1"), ("--threads", "2"), ("--markdown", "a.md"), ("--overwrite",), ("--require-stable",)],
)
def test_what_has_no_effect_beside_it_is_refused(tmp_path: Path, words: tuple[str, ...]) -> None:
    old = stored(tmp_path / "old.json", row())
    done = shown("--compare", old, old, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{words[0]} has no effect here: --compare shows two stored sessions and measures nothing" in done.stderr


def test_all_limits_that_are_exceeded_are_told() -> None:
    row = {"file": "a.tflite", "path": "a.tflite", "runtime": "c", "kernels": "c", "threads": 1}
    old = [{**row, "size_bytes": 100, "arena_bytes": 100, "flash_bytes": 100}]
    new = [{**row, "size_bytes": 200, "arena_bytes": 100, "flash_bytes": 300}]
    limits = [Limit.parse(text) for text in ("size:1.1", "arena:1.1", "flash:1.1")]
    told: list[str] = []
    with pytest.raises(GateError, match=r"size .*; and flash ") as failed:
        told.extend(gates.passed(new, None, old, limits))
    assert "arena" not in str(failed.value)


def test_what_is_kept_is_told_before_what_is_not() -> None:
    row = {"file": "a.tflite", "path": "a.tflite", "runtime": "c", "kernels": "c", "threads": 1}
    lines = gates.passed([{**row, "size_bytes": 100, "arena_bytes": 200}], None,
                         [{**row, "size_bytes": 100, "arena_bytes": 100}],
                         [Limit.parse("arena:1.1"), Limit.parse("size:1.1")])  # fmt: skip
    assert next(lines).startswith("passed: size")
    with pytest.raises(GateError):
        next(lines)
