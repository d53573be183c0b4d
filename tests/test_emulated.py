"""The emulated Raspberry Pi: a Pi's runtimes start there, and compute bit for bit what they compute here."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nbedge import benchmark
from nbedge.benchmark import Case
from nbedge.device.emulated import BOARDS, CPUS, SITE, EmulatedPi
from nbedge.errors import DeviceError, InputError, MissingDependencyError
from nbedge.machine import onnxruntime_kernels
from nbedge.runtime import open_file, quantize

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "sample_models" / "fashion_mnist"
PI = EmulatedPi()
#: a wheel whose kernels use instructions that a Pi 4 lacks: github.com/microsoft/onnxruntime issue 23957
BROKEN = "onnxruntime==1.21.0"

STARTS = """
import json, platform, sys, numpy, onnxruntime
from ai_edge_litert import interpreter
print(json.dumps({
    "python": sys.version_info[:2], "machine": platform.machine(), "onnxruntime": onnxruntime.__version__,
    "cpuinfo": open("/proc/cpuinfo").read(), "model": open("/proc/device-tree/model").read(),
}))
"""

#: argv: file, kernels, inputs, outputs, how often
RUN = """
import sys
import numpy as np

path, kernels, inputs, outputs, times = sys.argv[1:]
rows = np.load(inputs)
if path.endswith(".onnx"):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    run = lambda x: session.run(None, {name: x})[0]
else:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType
    resolver = {"xnnpack": OpResolverType.AUTO, "reference": OpResolverType.BUILTIN_REF}[kernels]
    interpreter = Interpreter(path, num_threads=1, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    entry, end = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    def run(x):
        interpreter.set_tensor(entry, x)
        interpreter.invoke()
        return interpreter.get_tensor(end)
np.save(outputs, [run(rows[i % len(rows)][None])[0] for i in range(int(times))])
"""


@pytest.fixture(autouse=True)
def made_by_make_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(ROOT / ".venv-environments"))


def needs_the_pi() -> None:
    if not PI.ready:
        pytest.skip("make setup-environments")


def emulated(
    cpu: str, *arguments: str, folder: Path, counting: Path | None = None, site: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the emulated Python; qemu writes what is left of a program that dies into `folder`."""
    needs_the_pi()
    command, variables = PI.python(cpu, counting, site)
    return subprocess.run(
        [*command, *arguments], env=variables, cwd=folder, capture_output=True, text=True, check=False
    )


def inferred(path: Path, kernels: str, x: NDArray[Any], folder: Path, cpu: str) -> NDArray[Any]:
    np.save(folder / "x.npy", x)
    arguments = [str(path), kernels, str(folder / "x.npy"), str(folder / "y.npy"), str(len(x))]
    done = emulated(cpu, "-c", RUN, *arguments, folder=folder)
    assert done.returncode == 0, done.stderr
    return np.asarray(np.load(folder / "y.npy"))


def instructions(times: int, cpu: str, folder: Path) -> int:
    """Return how many instructions a program of `times` inferences executes."""
    path = SAMPLE / "exports" / "fashion_mnist.int8.tflite"
    np.save(folder / "x.npy", np.zeros((1, 28, 28, 1), np.int8))
    arguments = [str(path), "xnnpack", str(folder / "x.npy"), str(folder / "y.npy"), str(times)]
    done = emulated(cpu, "-c", RUN, *arguments, folder=folder, counting=folder / "count, of one")
    assert done.returncode == 0, done.stderr
    return int((folder / "count, of one").read_text())


def an_inference(cpu: str, folder: Path) -> float:
    return (instructions(510, cpu, folder) - instructions(10, cpu, folder)) / 500


def pictures(path: Path) -> NDArray[Any]:
    """Return twenty pictures as the file takes them."""
    spec = open_file(path).inputs[0]
    about = json.loads(Path(f"{path}.json").read_text(encoding="utf-8"))["preprocessing"]
    grey = np.load(SAMPLE / "data.npz")["test_images"][:20].reshape(20, *spec.shape[1:])
    return quantize(((grey / 255 - about["mean"]) / about["std"]).astype(np.float32), spec)


@pytest.mark.group("device")
@pytest.mark.parametrize("cpu", CPUS)
def test_a_board_has_python_the_runtimes_and_its_own_name(tmp_path: Path, cpu: str) -> None:
    done = emulated(cpu, "-c", STARTS, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["python"], found["machine"]) == ([3, 11], "aarch64")
    assert f"onnxruntime=={found['onnxruntime']}" in SITE
    assert found["cpuinfo"] == BOARDS[cpu].cpuinfo
    assert found["cpuinfo"].endswith(f"Model\t\t: {BOARDS[cpu].model}\n")
    assert found["model"] == BOARDS[cpu].model + "\0"


# LiteRT's kernels without delegates ("builtin") differ between processors
@pytest.mark.group("device")
@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("kernels", ["xnnpack", "reference"])
def test_litert_answers_as_here(tmp_path: Path, kernels: str, cpu: str) -> None:
    pytest.importorskip("ai_edge_litert")
    same_answers(SAMPLE / "exports" / "fashion_mnist.int8.tflite", kernels, tmp_path, cpu)


@pytest.mark.group("device")
@pytest.mark.parametrize("cpu", CPUS)
def test_onnxruntime_answers_as_here(tmp_path: Path, cpu: str) -> None:
    pytest.importorskip("onnxruntime")
    if onnxruntime_kernels() not in ("ort-vnni", "ort-arm"):
        pytest.skip("the int8 kernels of this processor saturate")
    path = SAMPLE / "exports" / "fashion_mnist.int8.onnx"
    found, wanted = answers_of(path, onnxruntime_kernels(), tmp_path, cpu)
    # its kernels rescale in float32, and add in another order on ARM: a tie may fall to the other side
    steps = np.abs(found.astype(np.int16) - wanted.astype(np.int16))
    assert steps.max() <= 1
    assert (steps > 0).mean() <= 0.02


def same_answers(path: Path, kernels: str, folder: Path, cpu: str) -> None:
    np.testing.assert_array_equal(*answers_of(path, kernels, folder, cpu))


def answers_of(path: Path, kernels: str, folder: Path, cpu: str) -> tuple[NDArray[Any], NDArray[Any]]:
    needs_the_pi()
    runner, x = open_file(path, kernels), pictures(path)
    wanted = np.concatenate([runner.run({runner.inputs[0].name: row[None]})[runner.outputs[0].name] for row in x])
    found = inferred(path, kernels, x, folder, cpu)
    assert found.dtype == wanted.dtype
    assert len(np.unique(wanted, axis=0)) > len(x) / 2
    return found, wanted


@pytest.mark.group("device")
@pytest.mark.parametrize(("cpu", "status"), [("cortex-a72", -signal.SIGILL), ("cortex-a76", 0)])
def test_a_wheel_that_needs_a_newer_processor_dies(tmp_path: Path, cpu: str, status: int) -> None:
    if not PI.has_site(BROKEN):
        pytest.skip("make setup-environments")
    code = "import onnxruntime; print(onnxruntime.__version__)"
    done = emulated(cpu, "-c", code, folder=tmp_path, site=PI.site_with(BROKEN))
    assert done.returncode == status, done.stderr
    assert ("Illegal instruction" in done.stderr, "1.21.0" in done.stdout) == (bool(status), not status)


@pytest.mark.group("device")
def test_instructions_of_an_inference_repeat_and_tell_processors_apart(tmp_path: Path) -> None:
    first, second, newer = (an_inference(cpu, tmp_path) for cpu in ("cortex-a72", "cortex-a72", "cortex-a76"))
    assert abs(first - second) <= 0.01 * first
    # that one multiplies and adds four pairs of int8 in one instruction
    assert 1e5 < newer < 0.9 * first < 1e6


def test_the_versions_are_those_of_this_project() -> None:
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert set(SITE) <= set(pinned)


def test_an_unknown_cpu_is_refused() -> None:
    with pytest.raises(
        InputError, match="no emulated CPU is called 'm4'; choose from cortex-a53, cortex-a72, cortex-a76"
    ):
        PI.python("m4")


def test_what_is_not_made_says_how_to_make_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="run: nbedge doctor --install emulated-pi"):
        PI.python("cortex-a72")


@pytest.mark.parametrize(
    ("tools", "said"), [((), "needs apt-get"), (("apt-get", "dpkg", "dpkg-deb"), "needs gcc"), (None, "needs Linux")]
)
def test_a_machine_that_cannot_make_it_is_told_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tools: tuple[str, ...] | None, said: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.platform", "darwin" if tools is None else "linux")
    for tool in tools or ():
        (tmp_path / tool).touch(mode=0o755)
    with pytest.raises(MissingDependencyError, match=said):
        PI.make()
    assert not PI.folder.exists()


def test_a_registry_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    for tool, line in (("apt-get", "exit 100"), ("dpkg", "echo amd64"), ("dpkg-deb", ""), ("gcc", "")):
        (tmp_path / tool).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / tool).chmod(0o755)
    with pytest.raises(
        MissingDependencyError, match="apt-get could not fetch qemu-user for amd64, which Debian 12 has"
    ):
        PI.make()
    assert not PI.ready


def test_a_wheel_that_pip_cannot_fetch_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(
        MissingDependencyError, match="pip could not fetch no-such-distribution-of-nbedge==9 for aarch64"
    ):
        PI.site_with("no-such-distribution-of-nbedge==9")
    assert not PI.has_site("no-such-distribution-of-nbedge==9")


# nbedge bench


@pytest.mark.group("device")
def test_bench_counts_instructions_there_and_measures_no_time() -> None:
    needs_the_pi()
    file = SAMPLE / "exports" / "fashion_mnist.int8.tflite"
    with benchmark.EmulatedMachine("cortex-a72") as machine:
        first, second = (benchmark.measure([file], on=machine)[0] for _ in range(2))
    assert first.instructions is not None
    assert second.instructions is not None
    assert first.instructions == pytest.approx(second.instructions, rel=0.01)
    assert (first.latency, first.end_to_end, first.init_ms, first.memory) == (None, None, None, None)
    assert first.verdict == "not timed"
    assert first.conditions["board"] == BOARDS["cortex-a72"].model
    (here,) = benchmark.measure([file], processes=1, seconds=0.01)
    assert (first.kernels, first.answers_sha256) == (here.kernels, here.answers_sha256)


@pytest.mark.group("device")
def test_bench_names_a_runtime_that_the_processor_cannot_run() -> None:
    needs_the_pi()
    if not PI.has_site(BROKEN):
        pytest.skip("make setup-environments")
    machine = benchmark.EmulatedMachine("cortex-a72", PI.site_with(BROKEN))
    with machine, pytest.raises(DeviceError, match="onnxruntime dies with an illegal instruction on cortex-a72"):
        benchmark.measure([SAMPLE / "exports" / "fashion_mnist.int8.onnx"], on=machine)


@pytest.mark.group("device")
def test_bench_refuses_there_what_an_emulator_cannot_tell() -> None:
    needs_the_pi()
    file = SAMPLE / "exports" / "fashion_mnist.int8.tflite"
    with benchmark.EmulatedMachine("cortex-a72") as machine:
        with pytest.raises(InputError, match="2 threads on emulated:cortex-a72"):
            benchmark.measure([file], on=machine, threads=2)
        with pytest.raises(InputError, match="the clock of emulated:cortex-a72 says nothing"):
            benchmark.compare(Case(file, "tflite"), Case(file, "tflite"), machine)
        with pytest.raises(
            InputError, match="cannot run in tflite-micro on emulated:cortex-a72, which has onnxruntime"
        ):
            benchmark.measure([file], on=machine, runtimes=["tflite-micro"])


@pytest.mark.group("device")
def test_a_limit_on_instructions_takes_the_other_file_or_what_was_stored(tmp_path: Path) -> None:
    needs_the_pi()
    exports = SAMPLE / "exports"
    new, old = exports / "fashion_mnist.int8.tflite", exports / "fashion_mnist.fp32.tflite"

    def bench(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "nbedge", "bench", str(new), "--on", "emulated:cortex-a76", "-q", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    assert bench("--against", str(new), "--fail-if", "instructions:1.02").returncode == 0
    stored = bench("--json")
    assert stored.returncode == 0
    (tmp_path / "old.json").write_text(stored.stdout)
    assert bench("--against", "old.json", "--fail-if", "instructions:1.02").returncode == 0
    passed = bench("--against", str(new), "--fail-if", "instructions:1.02", "--markdown", "bench.md")
    assert "passed: instructions of fashion_mnist.int8.tflite (xnnpack) is" in passed.stdout
    page = (tmp_path / "bench.md").read_text()
    assert "| instructions per inference |" in page
    assert "median" not in page
    other = json.loads(stored.stdout)["rows"][0] | {"on": "emulated:cortex-a53"}
    (tmp_path / "other.json").write_text(json.dumps({"rows": [other]}))
    refused = bench("--against", "other.json", "--fail-if", "instructions:1.02")
    assert refused.returncode == 2
    assert "cannot be compared: emulated:cortex-a76 here, emulated:cortex-a53 in the baseline" in refused.stderr
    timed = bench("--against", str(old), "--fail-if", "ratio:1.05")
    assert timed.returncode == 2
    assert "an emulator measures no time" in timed.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--processes", "3"),
        ("--seconds", "1"),
        ("--require-stable",),
        ("--plot", "a.svg"),
        ("--against", "f", "--blocks", "12"),
    ],
)
def test_options_about_time_are_refused_there_before_anything_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = SAMPLE / "exports" / "fashion_mnist.int8.tflite"
    command = [sys.executable, "-m", "nbedge", "bench", str(file), "--on", "emulated:cortex-a72", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    option = words[-2] if "--blocks" in words else words[0]
    assert f"{option} has no effect here: no time is measured on emulated:cortex-a72" in done.stderr
