"""A runner in another interpreter: its answers are those of one here, and its end is one clear error."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nbedge.errors import InputError, MissingDependencyError
from nbedge.runtime import Arrays, Runner, of_onnx, open_where_installed
from nbedge.runtime.elsewhere import Elsewhere
from nbedge.runtime.frames import read_frame, write_frame

pytest.importorskip("onnxruntime")
PATH = Path(__file__).parent.parent / "sample_models" / "fashion_mnist" / "exports" / "fashion_mnist.int8.onnx"
OPENER = "nbedge.runtime:of_onnx"

#: argv: file; says the number of the process that it has started, and waits
PARENT = """
import sys, time
from pathlib import Path
from nbedge.runtime.elsewhere import Elsewhere

elsewhere = Elsewhere(sys.executable)
runner = elsewhere.open("nbedge.runtime:of_onnx", Path(sys.argv[1]))
print(elsewhere.process.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def elsewhere() -> Elsewhere:
    return Elsewhere(sys.executable)


def answer(runner: Runner) -> bytes:
    entry, exit_ = runner.inputs[0], runner.outputs[0]
    fed = np.random.default_rng(0).integers(0, 256, entry.shape).astype(entry.dtype)
    return runner.run({entry.name: fed})[exit_.name].tobytes()


def test_signature_and_answers_are_those_of_a_runner_here(elsewhere: Elsewhere) -> None:
    there, here = elsewhere.open(OPENER, PATH), of_onnx(PATH)
    assert (there.inputs, there.outputs, there.kernels) == (here.inputs, here.outputs, here.kernels)
    assert answer(there) == answer(here)
    again = elsewhere.open(OPENER, PATH)
    assert answer(there) == answer(again)


def test_where_all_is_installed_no_process_is_started() -> None:
    runner = open_where_installed(OPENER, PATH, ("onnxruntime",), "onnx")
    assert answer(runner) == answer(of_onnx(PATH))


def test_what_is_installed_nowhere_is_named_with_its_cure() -> None:
    with pytest.raises(MissingDependencyError, match=r"'no-such-package' is not installed; run: pip install 'nbedge\["):
        open_where_installed(OPENER, PATH, ("onnxruntime", "no-such-package"), "onnx")


def test_an_error_of_the_other_process_is_raised_here(elsewhere: Elsewhere, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"ONNX Runtime cannot load .*bad.onnx"):
        elsewhere.open(OPENER, tmp_path / "bad.onnx")
    with pytest.raises(InputError, match=r"int8.onnx cannot be run: AttributeError: .*'nothing'"):
        elsewhere.open("nbedge.runtime:nothing", PATH)
    assert answer(elsewhere.open(OPENER, PATH)) == answer(of_onnx(PATH))


def test_what_a_library_prints_does_not_come_between(elsewhere: Elsewhere, tmp_path: Path) -> None:
    loud = tmp_path / "loud"
    loud.write_text("#!/bin/sh\necho '{\"file\": 7}'\n", encoding="utf-8")
    loud.chmod(0o700)
    with pytest.raises(InputError, match=r"loud cannot be run: AttributeError: 'int' object has no attribute 'inputs'"):
        elsewhere.open("os:system", loud)
    assert answer(elsewhere.open(OPENER, PATH)) == answer(of_onnx(PATH))


def test_a_process_that_dies_is_one_clear_error(elsewhere: Elsewhere) -> None:
    runner = elsewhere.open(OPENER, PATH)
    elsewhere.process.kill()
    for _ in range(2):
        with pytest.raises(InputError, match=r"int8.onnx: the process that runs it ended with status -9; run the"):
            answer(runner)
    assert not elsewhere.alive


def test_its_last_words_are_in_the_error(elsewhere: Elsewhere, tmp_path: Path) -> None:
    last = tmp_path / "last"
    last.write_text("#!/bin/sh\necho out of luck >&2\nkill -SEGV $PPID\nsleep 60\n", encoding="utf-8")
    last.chmod(0o700)
    with pytest.raises(InputError, match=r"ended with status -11 \(out of luck\)"):
        elsewhere.open("subprocess:run", last)


def test_it_ends_with_whoever_asks_it() -> None:
    elsewhere = Elsewhere(sys.executable)
    process = elsewhere.process
    elsewhere.open(OPENER, PATH)
    del elsewhere
    assert process.wait(60) == 0


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc")
def test_it_ends_with_a_parent_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, str(PATH)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        number = int(parent.stdout.readline())
        assert running(number)
        os.kill(parent.pid, signal.SIGKILL)
    while running(number):  # a hang here is the failure
        time.sleep(0.05)


def running(number: int) -> bool:
    """Return whether there is such a process; one that nobody has asked for its status has ended too."""
    try:
        return Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_frame_comes_back_and_half_a_frame_is_none(tmp_path: Path) -> None:
    arrays: Arrays = {"a": np.arange(6, dtype=np.int8).reshape(2, 3), "b": np.array([np.nan, 1], np.float32)}
    with (tmp_path / "frame").open("w+b") as stream:
        write_frame(stream, {"file": 1}, arrays)
        whole = stream.tell()
        stream.seek(0)
        found = read_frame(stream)
        assert found is not None
        said, given = found
        assert said == {"file": 1}
        for name, array in arrays.items():
            np.testing.assert_array_equal(given[name], array)
            assert given[name].dtype == array.dtype
        for length in (whole - 1, 5, 0):
            stream.truncate(length)
            stream.seek(0)
            assert read_frame(stream) is None
