"""`nbedge bench --on ssh://`: the real agent behind a real sshd, whose Pi is this machine or an emulated one."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from nbedge import benchmark
from nbedge.benchmark import Measurement, RemoteMachine
from nbedge.device.emulated import BOARDS, EmulatedPi
from nbedge.errors import DeviceError, InputError, MissingDependencyError
from sshd import Sshd

pytestmark = pytest.mark.group("device")
ROOT = Path(__file__).parent.parent
EXPORTS = ROOT / "sample_models" / "fashion_mnist" / "exports"
BROKEN = "onnxruntime==1.21.0"


@pytest.fixture
def address(server: Sshd, monkeypatch: pytest.MonkeyPatch) -> str:
    server.accept_host_key()
    monkeypatch.setenv("NBEDGE_SSH", server.client)
    monkeypatch.setenv("XDG_CACHE_HOME", str(ROOT / ".venv-environments"))
    return server.address


def emulated_python(server: Sshd, cpu: str, site: Path | None = None) -> str:
    """Write the interpreter of an emulated Pi, a program of the device, and return its path."""
    pi = EmulatedPi()
    if not pi.ready:
        pytest.skip("make setup-environments")
    command, variables = pi.python(cpu, site=site)
    path = server.folder / f"python-{cpu}{'-other' if site else ''}"
    words = " ".join(shlex.quote(word) for word in ("env", *(f"{k}={v}" for k, v in variables.items()), *command))
    path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    path.chmod(0o755)
    return str(path)


def measured(machine: RemoteMachine, name: str, runtime: str = "") -> Measurement:
    with machine:
        (found,) = benchmark.measure(
            [EXPORTS / name], processes=2, seconds=0.05, runtimes=[runtime] if runtime else [], on=machine
        )
    return found


def test_a_file_is_measured_over_ssh_like_here(server: Sshd, address: str) -> None:
    there = measured(RemoteMachine(address, sys.executable), "fashion_mnist.int8.tflite")
    assert there.latency is not None
    assert there.latency.samples >= 200
    assert there.end_to_end is not None  # the sidecar went along
    assert there.memory is not None
    assert there.on == address
    (here,) = benchmark.measure([EXPORTS / "fashion_mnist.int8.tflite"], processes=1, seconds=0.01)
    assert (there.sha256, there.kernels, there.answers_sha256) == (here.sha256, here.kernels, here.answers_sha256)
    assert not server.sessions


def test_what_was_put_there_is_removed_again(server: Sshd, address: str) -> None:
    with RemoteMachine(address, sys.executable) as machine:
        benchmark.measure([EXPORTS / "fashion_mnist.int8.onnx"], processes=1, seconds=0.01, on=machine)
        assert [path.name for path in server.home.iterdir()] == [".cache"]
        machine.clean()
    assert list(server.home.iterdir()) == []


def test_two_files_are_compared_there(address: str) -> None:
    old, new = benchmark.cases([EXPORTS / f"fashion_mnist.{s}.tflite" for s in ("fp32", "int8")], (), (1,))
    with RemoteMachine(address, sys.executable) as machine:
        found = benchmark.compare(old, new, machine, seconds=0.01)
    assert found.blocks == 10
    assert 0 < found.low < found.ratio < found.high


@pytest.mark.parametrize(
    ("name", "runtime"), [("fashion_mnist.int8.tflite", "litert"), ("fashion_mnist.int8.onnx", "")]
)
def test_an_emulated_pi_answers_bit_for_bit_and_is_not_timed(
    server: Sshd, address: str, name: str, runtime: str
) -> None:
    there = measured(RemoteMachine(address, emulated_python(server, "cortex-a72")), name, runtime)
    assert there.conditions["emulated"]
    assert there.conditions["machine"] == "aarch64"
    assert there.conditions["board"] == BOARDS["cortex-a72"].model
    assert (there.latency, there.end_to_end, there.init_ms, there.verdict) == (None, None, None, "not timed")
    (here,) = benchmark.measure([EXPORTS / name], processes=1, seconds=0.01)
    if here.kernels in ("xnnpack", "ort-vnni", "ort-arm"):
        assert there.answers_sha256 == here.answers_sha256


def test_a_runtime_that_the_processor_cannot_run_is_named(server: Sshd, address: str) -> None:
    pi = EmulatedPi()
    if not pi.ready or not pi.has_site(BROKEN):
        pytest.skip("make setup-environments")
    python = emulated_python(server, "cortex-a72", pi.site_with(BROKEN))
    with pytest.raises(DeviceError, match=r"onnxruntime 1\.21\.0 on .+ died of an illegal instruction.+this aarch64"):
        measured(RemoteMachine(address, python), "fashion_mnist.int8.onnx")


def test_a_board_that_was_slowed_down_gives_no_valid_latency(server: Sshd, address: str) -> None:
    flags, tool, python = (server.folder / name for name in ("flags", "vcgencmd", "python-hot"))
    flags.write_text("0x0")
    tool.write_text(f"#!/bin/sh\necho throttled=$(cat {flags}); echo 0x50005 >{flags}\n")
    python.write_text(f'#!/bin/sh\nPATH={server.folder}:$PATH exec {sys.executable} "$@"\n')
    for program in (tool, python):
        program.chmod(0o755)
    found = measured(RemoteMachine(address, str(python)), "fashion_mnist.int8.onnx")
    assert (found.verdict, found.reason) == ("invalid", "the board was slowed down: throttled, under-voltage")
    assert (found.conditions["throttled"], found.conditions_after["throttled"]) == (0, 0x50005)


def test_a_device_without_a_runtime_is_told_to_set_up(server: Sshd, address: str) -> None:
    python = server.folder / "bare" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", python.parent.parent], check=True)
    with pytest.raises(DeviceError, match=r"has no numpy; run again with --setup"):
        measured(RemoteMachine(address, str(python)), "fashion_mnist.int8.tflite")
    with pytest.raises(MissingDependencyError, match=r"'tflite-micro' is not installed; run again with --setup"):
        measured(
            RemoteMachine(address, emulated_python(server, "cortex-a76")), "fashion_mnist.int8.tflite", "tflite-micro"
        )


def test_a_file_that_is_broken_is_no_fault_of_the_device(address: str, tmp_path: Path) -> None:
    broken = tmp_path / "cut.onnx"
    broken.write_bytes((EXPORTS / "fashion_mnist.int8.onnx").read_bytes()[:500])
    with (
        RemoteMachine(address, sys.executable) as machine,
        pytest.raises(InputError, match=r"cut\.onnx could not be run"),
    ):
        benchmark.measure([broken], processes=1, on=machine)


def test_the_command_line_measures_there(address: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nbedge", "bench", str(EXPORTS / "fashion_mnist.int8.onnx"), "--on", address, "--python",
         sys.executable, "--processes", "1", "--seconds", "0.05", "--clean", "-q"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "fashion_mnist.int8.onnx" in done.stdout
