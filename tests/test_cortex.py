"""Emulated microcontrollers: counts are exact, golden answers are compared, and whatever goes wrong is told."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import handwritten
from nbedge import benchmark
from nbedge.benchmark import Measurement, MicrocontrollerMachine
from nbedge.device import image, inference
from nbedge.device.cores import CORES
from nbedge.device.inference import Inference, inferred
from nbedge.device.microcontroller import EmulatedMicrocontroller, toolchain
from nbedge.errors import DeviceError, ExportError, GateError, InputError, MissingDependencyError, NbedgeError

ROOT = Path(__file__).parent.parent
EXPORTS = ROOT / "sample_models" / "fashion_mnist" / "exports"
FILE = EXPORTS / "fashion_mnist.int8.tflite"
#: movs, 200 times subs and bne, bx; and the call of it
IDLE = 1 + 200 * 2 + 1 + 1


@pytest.fixture(autouse=True)
def made_by_make_test(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = os.environ.get("XDG_CACHE_HOME")
    if not folder or not Path(folder, "nbedge", "environments", EmulatedMicrocontroller().name).is_dir():
        monkeypatch.setenv("XDG_CACHE_HOME", str(ROOT / ".venv-environments"))


def needs_the_compiler() -> None:
    try:
        toolchain()
    except MissingDependencyError:
        pytest.skip("make setup-environments")


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install an exporter that writes the hand-written model, for this process and those that it starts."""
    needs_the_compiler()
    record = tmp_path / "site" / "handwritten-1.0.dist-info"
    record.mkdir(parents=True)
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: handwritten\nVersion: 1.0\n", encoding="utf-8")
    entry = "[nbedge.exporters]\nc-handwritten = handwritten_exporter:exporter\n"
    (record / "entry_points.txt").write_text(entry, encoding="utf-8")
    monkeypatch.syspath_prepend(record.parent)
    paths = (str(record.parent), str(ROOT / "tests" / "device"), os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


def ran(folder: Path, core: str = "cortex-m4", optimization: str = "-O2", spoiled: str = "") -> Inference:
    needs_the_compiler()
    build = folder / "build, here"
    build.mkdir()
    written = handwritten.write(folder / "c", spoiled)
    return inferred(image.compiled(written, "model", CORES[core], optimization, toolchain(), build), build)


@pytest.mark.group("device")
@pytest.mark.parametrize("optimization", image.OPTIMIZATIONS)
@pytest.mark.parametrize("core", CORES)
def test_a_loop_of_known_length_is_counted_to_the_instruction(tmp_path: Path, core: str, optimization: str) -> None:
    found = ran(tmp_path, core, optimization)
    assert found.layers[1] == IDLE
    assert sum(found.layers) == max(found.instructions)
    assert len(found.instructions) == handwritten.COUNT
    (golden,) = handwritten.answers(handwritten.inputs()[:1])
    np.testing.assert_array_equal(np.frombuffer(found.answer, np.int8), golden)
    assert found.image.arena_bytes == 32
    # 256 of them are an array of the last layer
    assert 256 < found.stack_bytes < 320


@pytest.mark.group("device")
def test_two_runs_count_the_same_and_levels_of_optimization_differ(tmp_path: Path) -> None:
    runs = []
    for number, level in enumerate(("-O2", "-O2", "-Os")):
        (tmp_path / str(number)).mkdir()
        runs.append(ran(tmp_path / str(number), optimization=level))
    first, second, small = runs
    assert (first.instructions, first.layers, first.image.flash_bytes) == (
        second.instructions, second.layers, second.image.flash_bytes
    )  # fmt: skip
    assert small.image.flash_bytes < first.image.flash_bytes
    assert small.instructions > first.instructions


@pytest.mark.group("device")
def test_flash_is_the_model_alone_with_what_it_pulls_from_libraries(tmp_path: Path) -> None:
    sizes = {}
    for core in ("cortex-m0plus", "cortex-m3"):
        (tmp_path / core).mkdir()
        sizes[core] = ran(tmp_path / core, core).image
    # the weights; the kernel that nothing calls has 4096 bytes of constants, and golden vectors, harness and vectors
    # would be some hundreds
    for found in sizes.values():
        assert found.flash_bytes == found.code_bytes + handwritten.WEIGHTS.size
    # the small core has no division
    assert sizes["cortex-m3"].code_bytes < 250 < 500 < sizes["cortex-m0plus"].code_bytes < 1000


@pytest.mark.group("device")
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize(
    ("spoiled", "error", "said"),
    [
        ("answers", GateError, "model answers .* at byte 2 of golden vector 1"),
        ("fault", DeviceError, "model stopped on the emulated .* .a fault of the processor"),
        ("deep", DeviceError, "more than 64 KB of stack"),
        ("endless", DeviceError, "model did not end within 1 s on the emulated"),
        ("large", InputError, "the model is too large for mps.*choose another core"),
        ("words", ExportError, "refuses the generated C: model.c:.*unknown type name 'no'"),
        ("order", ExportError, "model.c does not pass the marks of its 3 layers once and in order"),
    ],
)
def test_what_goes_wrong_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, core: str, spoiled: str, error: type[NbedgeError], said: str
) -> None:
    if spoiled == "endless":
        monkeypatch.setattr(inference, "TIMEOUT_S", 1)
    with pytest.raises(error, match=said):
        ran(tmp_path, core, spoiled=spoiled)


@pytest.mark.group("device")
def test_the_programs_in_path_go_first_and_compile_their_counter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = EmulatedMicrocontroller()
    if not own.ready:
        pytest.skip("make setup-environments")
    monkeypatch.setenv("PATH", os.pathsep.join((str(own.programs), os.environ["PATH"])))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert toolchain().counter is None
    assert ran(tmp_path).layers[1] == IDLE


# what is missing


def test_without_the_programs_the_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    wanted = (
        "nbedge doctor --install emulated-mcu .*, or: apt-get install --no-install-recommends gcc-arm-none-eabi "
        "libnewlib-arm-none-eabi qemu-system-arm"
    )
    with pytest.raises(MissingDependencyError, match=wanted) as raised:
        MicrocontrollerMachine("cortex-m4")
    assert raised.value.exit_status == 3


def test_a_machine_that_cannot_fetch_them_is_told_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    own = EmulatedMicrocontroller()
    with pytest.raises(MissingDependencyError, match="an emulated microcontroller needs apt-get, which is not here"):
        own.make()
    for tool, line in (("apt-get", "exit 100"), ("dpkg", "echo amd64"), ("dpkg-deb", ""), ("gcc", "")):
        (tmp_path / tool).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / tool).chmod(0o755)
    with pytest.raises(MissingDependencyError, match=r"apt-get could not fetch gcc-arm-none-eabi, .* for amd64"):
        own.make()
    assert not own.ready


def test_an_unknown_core_or_level_is_refused() -> None:
    with pytest.raises(InputError, match="no core is called 'cortex-m5'; choose from cortex-m0plus, cortex-m3"):
        MicrocontrollerMachine("cortex-m5")
    with pytest.raises(InputError, match="no level of optimization is called '-O9'; choose from -O2, -O3, -Os"):
        MicrocontrollerMachine("cortex-m4", "-O9")


# nbedge bench


def measured(core: str = "cortex-m4", file: Path = FILE, **settings: object) -> Measurement:
    with MicrocontrollerMachine(core) as machine:
        (found,) = benchmark.measure([file], on=machine, **settings)  # type: ignore[arg-type]
    return found


@pytest.mark.group("device")
@pytest.mark.usefixtures("plugin")
def test_bench_measures_generated_c_and_no_time() -> None:
    found = measured("cortex-m0plus")
    assert found.case.runtime == found.kernels == "c"
    assert found.runtime.startswith("c (arm-none-eabi-gcc ")
    assert found.layers is not None
    assert [(layer.operator, layer.macs) for layer in found.layers] == list(handwritten.LAYERS)
    assert found.instructions == sum(layer.instructions for layer in found.layers)
    assert found.memory is not None
    assert (found.memory.arena_bytes, found.memory.peak_rss_bytes) == (32, None)
    assert (found.latency, found.init_ms, found.verdict) == (None, None, "not timed")
    assert (found.conditions["board"], found.conditions["golden_vectors"]) == ("mps2-an385", handwritten.COUNT)
    assert "run on a Cortex-M3" in found.conditions["note"]
    content = {"schema_version": 1, "rows": [found.to_dict()], "compared": None}
    schema = json.loads((ROOT / "docs" / "bench.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(json.loads(json.dumps(content)), schema)


@pytest.mark.group("device")
@pytest.mark.usefixtures("plugin")
def test_bench_refuses_there_what_it_cannot_run() -> None:
    with pytest.raises(InputError, match=r"fp32\.tflite holds no integers"):
        measured(file=EXPORTS / "fashion_mnist.fp32.tflite")
    with pytest.raises(InputError, match=r"int8\.onnx cannot run in onnxruntime on emulated:cortex-m4"):
        measured(file=EXPORTS / "fashion_mnist.int8.onnx")
    with pytest.raises(InputError, match="cannot run in tflite-micro on emulated:cortex-m4"):
        measured(runtimes=["tflite-micro"])
    with pytest.raises(InputError, match="2 threads on emulated:cortex-m4: instructions are counted of one"):
        measured(threads=2)


def test_generated_c_is_not_run_here() -> None:
    with pytest.raises(InputError, match="generated C is not run on local; give --on emulated:cortex-m4"):
        benchmark.measure([FILE], runtimes=["c"])


@pytest.mark.group("device")
@pytest.mark.usefixtures("plugin")
def test_an_exporter_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDWRITTEN", "no such kind")
    with pytest.raises(ExportError, match=r"fashion_mnist.int8.tflite could not become C: ValueError: .*no such kind"):
        measured()


def bench(*words: str, spoiled: str = "") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "nbedge", "bench", str(FILE), "--on", "emulated:cortex-m4", *words]
    variables = {**os.environ, "HANDWRITTEN": spoiled, "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=variables)


@pytest.mark.group("device")
@pytest.mark.usefixtures("plugin")
def test_limits_take_the_other_file_or_what_was_stored(tmp_path: Path) -> None:
    limits = ("--fail-if", "arena:1", "--fail-if", "stack:1", "--fail-if", "flash:1", "--fail-if", "instructions:1.02")
    stored = bench("--json", "-q")
    assert stored.returncode == 0, stored.stderr
    (tmp_path / "old.json").write_text(stored.stdout)
    for old in (str(FILE), str(tmp_path / "old.json")):
        assert bench("--against", old, *limits).returncode == 0
    slower = bench("--optimize", "Os", "--against", str(tmp_path / "old.json"), *limits[-2:])
    assert slower.returncode == 2
    assert (
        "instructions of fashion_mnist.int8.tflite cannot be compared: -Os here, -O2 in the baseline" in slower.stderr
    )
    grown = bench("--optimize", "O2", "--against", str(tmp_path / "old.json"), *limits, spoiled="larger")
    assert grown.returncode == 1
    assert (
        "arena of fashion_mnist.int8.tflite (c) is 64 bytes, 2.000 times the 32 of the baseline"
        in grown.stderr.replace("\n", " ")
    )


@pytest.mark.group("device")
@pytest.mark.usefixtures("plugin")
def test_the_tables_hold_layers_and_say_instructions(tmp_path: Path) -> None:
    page = tmp_path / "bench.md"
    done = bench("--markdown", str(page))
    assert done.returncode == 0, done.stderr
    for text in (done.stdout, page.read_text(encoding="utf-8")):
        assert "instructions per inference" in text
        assert "FULLY_CONNECTED" in text
        assert f" {IDLE} " in text
        assert " ms" not in text
    assert bench(spoiled="answers").returncode == 1
    assert bench(spoiled="fault").returncode == 4


@pytest.mark.group("device")
@pytest.mark.parametrize("core", CORES)
def test_what_the_exporter_writes_answers_as_tflite_micro_does(core: str) -> None:
    pytest.importorskip("tflite_micro")
    needs_the_compiler()
    found, again = measured(core), measured(core)
    assert found.layers is not None
    assert len(found.layers) == 29
    assert found.instructions == sum(layer.instructions for layer in found.layers)
    assert (found.instructions, found.layers, found.flash_bytes) == (
        again.instructions,
        again.layers,
        again.flash_bytes,
    )
    # 0.22 million multiplications
    assert 0.5e6 < found.instructions < 5e6
    assert found.flash_bytes is not None
    assert found.flash_bytes < FILE.stat().st_size
