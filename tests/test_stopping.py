"""A measurement that is stopped, however that is: its agent ends with it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="NOT CHECKED: only Linux tells")
FILE = Path(__file__).parent.parent / "sample_models" / "fashion_mnist" / "exports" / "fashion_mnist.int8.tflite"


def agents(folder: Path) -> list[int]:
    """Return the processes that run an agent below `folder`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes()
        except OSError:  # it is over
            continue
        if f"{folder}/nbedge-bench-".encode() in words:
            found.append(int(entry.name))
    return found


def within(seconds: float, true: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    return true()


@pytest.mark.group("bench")
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_the_agent_ends_with_the_process_that_started_it(tmp_path: Path, number: int, status: int) -> None:
    command = [sys.executable, "-m", "nbedge", "bench", str(FILE), "--seconds", "60"]
    variables = {**os.environ, "TMPDIR": str(tmp_path)}
    running = subprocess.Popen(
        command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        # a shell starts what runs in the background with SIGINT ignored, and so would this be
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        assert within(20, lambda: bool(agents(tmp_path)))
        time.sleep(0.5)  # it has read its job
        running.send_signal(number)
        _, said = running.communicate(timeout=20)
    finally:
        running.kill()
    assert running.returncode == status
    assert within(5, lambda: not agents(tmp_path))
    if number != signal.SIGKILL:
        assert said.strip() == "nbedge: stopped"
        assert not list(tmp_path.iterdir())
