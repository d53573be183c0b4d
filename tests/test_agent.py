"""The measuring agent: one file that needs numpy and a runtime, and says what it found in its last line."""

import ast
import json
import subprocess
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nbedge
from nbedge import machine
from nbedge.agent import SENTINEL, energy, memory, timing
from nbedge.agent.engines import ENGINES, MissingRuntimeError, imported
from nbedge.agent.inputs import UnfitInputError, inputs, random_input
from nbedge.agent.micro import arena_of
from nbedge.agent.pictures import encoded
from nbedge.artifact import TensorSpec
from nbedge.benchmark.archive import write_agent
from nbedge.preprocessing import Preprocessing
from nbedge.runtime import quantize

ROOT = Path(__file__).parent.parent
EXPORTS = ROOT / "sample_models" / "fashion_mnist" / "exports"
#: oldest Python of a Raspberry Pi that is still looked after (Raspberry Pi OS 11)
OLDEST = (3, 9)


def job(file: Path, runtime: str, **more: Any) -> dict[str, Any]:
    return {"file": str(file), "runtime": runtime, "threads": 1, "seconds": 0.02, "least": 20, **more}


def said(agent: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Return what the agent says, run by a Python that finds nothing of nbedge."""
    done = subprocess.run(
        [sys.executable, "-I", str(agent)], input=json.dumps(request), capture_output=True, text=True, check=False,
        cwd=agent.parent,
    )  # fmt: skip
    last = done.stdout.splitlines()[-1]
    assert last.startswith(SENTINEL), done.stderr
    answer: dict[str, Any] = json.loads(last.removeprefix(SENTINEL))
    return answer


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_agent(tmp_path_factory.mktemp("agent") / "agent.pyz")


@pytest.mark.group("bench")
@pytest.mark.parametrize(
    ("file", "runtime", "kernels"),
    [
        ("fashion_mnist.int8.tflite", "tflite", ("xnnpack",)),
        ("fashion_mnist.int8.tflite", "litert-builtin", ("builtin",)),
        ("fashion_mnist.int8.tflite", "litert-reference", ("reference",)),
        ("fashion_mnist.int8.tflite", "tensorflow", ("xnnpack",)),
        ("fashion_mnist.int8.tflite", "tflite-micro", ("tflm",)),
        ("fashion_mnist.int8.onnx", "onnxruntime", ("ort-vnni", "ort-avx2", "ort")),
    ],
)
def test_the_agent_measures_a_file_in_each_runtime(
    agent: Path, file: str, runtime: str, kernels: tuple[str, ...]
) -> None:
    found = said(agent, job(EXPORTS / file, runtime, sidecar=str(EXPORTS / f"{file}.json")))["result"]
    assert found["kernels"] in kernels
    for figure in ("samples", "end_to_end"):
        assert found[figure]["number"] >= 20
        assert 0 < found[figure]["ms"][0] <= found[figure]["ms"][-1]
    assert found["init_ms"] > 0 < found["first_ms"]
    assert (found["arena_bytes"] or 0) > 1000 or runtime != "tflite-micro"
    if sys.platform == "linux":
        phases = found["memory"]
        assert list(phases) == ["imported", "load", "first", "steady"]
        assert all(phase["peak_rss"] >= phase["rss"] > phase["private_dirty"] > 0 for phase in phases.values())
    assert found["conditions"]["kernel"]


@pytest.mark.group("bench")
def test_the_same_kernels_give_the_same_bytes(agent: Path) -> None:
    file = EXPORTS / "fashion_mnist.int8.tflite"
    digests = {r: said(agent, job(file, r, invokes=2))["result"]["answers_sha256"]
               for r in ("litert", "tensorflow", "litert-reference", "tflite-micro")}  # fmt: skip
    assert digests["litert"] == digests["tensorflow"]
    assert digests["litert-reference"] == digests["tflite-micro"]


@pytest.mark.group("bench")
def test_the_agent_counts_calls_instead_of_time_where_it_is_told_to(agent: Path) -> None:
    found = said(agent, job(EXPORTS / "fashion_mnist.int8.onnx", "onnxruntime", invokes=3))["result"]
    assert not {"samples", "memory", "end_to_end"} & found.keys()


@pytest.mark.group("bench")
def test_what_goes_wrong_is_said_in_the_last_line(agent: Path, tmp_path: Path) -> None:
    broken = tmp_path / "cut.tflite"
    broken.write_bytes((EXPORTS / "fashion_mnist.int8.tflite").read_bytes()[:200])
    assert said(agent, job(broken, "tflite"))["kind"] in ("ValueError", "RuntimeError")
    np.savez(tmp_path / "x.npz", other=np.zeros(3))
    answer = said(agent, job(EXPORTS / "fashion_mnist.int8.onnx", "onnxruntime", inputs=str(tmp_path / "x.npz")))
    assert (answer["kind"], answer["error"][:40]) == ("UnfitInputError", "the input 'input' is missing, the file t")


def test_the_agent_is_one_file_with_the_same_bytes_each_time(agent: Path, tmp_path: Path) -> None:
    assert write_agent(tmp_path / "again.pyz").read_bytes() == agent.read_bytes()
    with zipfile.ZipFile(agent) as archive:
        sources = {name: archive.read(name).decode() for name in archive.namelist()}
    assert {"__main__.py", "nbedge/machine.py", "nbedge/agent/perform.py"} <= sources.keys()
    for name, source in sources.items():
        tree = ast.parse(source, name, feature_version=OLDEST)
        later = [node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg in ("slots", "strict")]
        assert not later, f"{name} uses what Python 3.9 has not"
    assert str(Path(nbedge.__file__).parent) not in "".join(sources.values())


def test_measuring_loads_neither_torch_nor_tensorflow() -> None:
    program = (
        "import sys, nbedge.benchmark, nbedge.cli.bench; print({'torch', 'tensorflow', 'onnx'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"


def test_short_calls_are_batched_and_long_lists_thinned() -> None:
    count = [0]

    def invoke() -> None:
        count[0] += 1

    times = timing.sampled(invoke, 0.001, 7, 100)
    assert count[0] == 7 * len(times) >= 700
    thin = timing.thinned(np.arange(10_001.0))
    assert len(thin) == timing.KEPT
    assert (thin[0], thin[-1], float(np.median(thin))) == (0, 10_000, 5_000)
    assert 0 < timing.overhead_ms() < 0.01


def test_a_warm_up_ends_when_two_windows_agree() -> None:
    found = timing.samples(lambda: sum(range(20_000)), 0.01, 10)
    assert 2 <= found.warm_up_windows <= timing.WINDOWS
    assert found.number >= 10


def test_inputs_are_seeded_and_of_the_right_type() -> None:
    for dtype in ("float32", "float16", "int8", "uint8", "int64", "bool"):
        first, second = (random_input((1, 3, 4), dtype) for _ in range(2))
        assert first.dtype == dtype
        assert first.shape == (1, 3, 4)
        assert (first == second).all()
    with pytest.raises(UnfitInputError, match="object cannot be made up"):
        random_input((1,), "object")


def test_real_inputs_must_fit(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.ones((1, 2), np.int8))
    assert inputs({"a": ((1, 2), "int8")}, str(tmp_path / "x.npz"))["a"].sum() == 2
    with pytest.raises(UnfitInputError, match=r"'a' is int8 \(1, 2\), the file takes float32 \(1, 2\)"):
        inputs({"a": ((1, 2), "float32")}, str(tmp_path / "x.npz"))


@pytest.mark.parametrize(("dtype", "layout"), [("float32", "NCHW"), ("int8", "NHWC"), ("uint8", "NHWC")])
def test_a_picture_becomes_the_input_that_the_exporters_meant(dtype: str, layout: str) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    prepare = Preprocessing((3, 6, 5), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    spec = TensorSpec("x", (1, 6, 5, 3), dtype, layout, 0.02 if dtype != "float32" else 0.0, 3)
    x = prepare(picture[None])
    wanted = quantize(x.transpose(0, 2, 3, 1) if layout == "NHWC" else x, spec)
    scale, shift = prepare.scale_shift()
    found = encoded(picture.astype(np.float32) * scale + shift, asdict(spec))
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    assert np.abs(found.astype(float) - wanted.astype(float)).max() <= (1e-5 if dtype == "float32" else 1)


@pytest.mark.skipif(sys.platform != "linux", reason="NOT CHECKED: only Linux tells")
def test_the_peak_of_a_phase_is_its_own() -> None:
    first = memory.end_phase(memory.begin_phase())
    began = memory.begin_phase()
    held = np.ones(30_000_000, np.uint8)
    during = memory.end_phase(began)
    del held
    after = memory.end_phase(memory.begin_phase())
    assert during["peak_rss"] - first["peak_rss"] > 25_000_000  # type: ignore[operator]
    assert during["private_dirty"] - after["private_dirty"] > 25_000_000  # type: ignore[operator]
    assert during["peak_rss"] - after["peak_rss"] > 25_000_000  # type: ignore[operator]


def test_the_power_chip_of_a_pi_5_is_read() -> None:
    text = """
        3V3_SYS_A current(1)=0.07500000A
        VDD_CORE_A current(7)=2.00000000A
        3V3_SYS_V volt(9)=3.30000000V
        VDD_CORE_V volt(15)=0.75000000V
        EXT5V_V volt(24)=5.15000000V
    """
    assert energy.watts_of(text) == pytest.approx(0.075 * 3.3 + 2 * 0.75)
    assert energy.watts_of("error=1") is None


def test_energy_is_counted_by_rapl_where_it_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    (package / "max_energy_range_uj").write_text("1000000")
    (package / "energy_uj").write_text("900000")
    monkeypatch.setattr(energy, "_POWERCAP", tmp_path)
    monkeypatch.setattr(energy, "SECONDS", 0.0)
    found = energy.measured(lambda: (package / "energy_uj").write_text("400000"))  # the counter started again
    assert found == {"joules_per_inference": pytest.approx(0.5), "source": "RAPL, processor package"}


def test_an_arena_is_read_from_what_tflite_micro_prints() -> None:
    assert arena_of("[RecordingMicroAllocator] Arena allocation total 16544 bytes\n...") == 16544
    assert arena_of("nothing") is None


def test_a_missing_runtime_is_named() -> None:
    with pytest.raises(MissingRuntimeError, match="'no-such-runtime' is not installed"):
        imported("no_such_runtime", "no-such-runtime")


def test_a_missing_interpreter_names_all_that_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ai_edge_litert.interpreter", "tflite_runtime.interpreter", "tensorflow.lite.python.interpreter"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingRuntimeError, match="'ai-edge-litert', 'tflite-runtime' and 'tensorflow'"):
        ENGINES["tflite"]()


@pytest.mark.parametrize(
    ("before", "after", "reasons"),
    [
        (0, 0, []),
        (None, None, []),
        (0x50000, 0x50000, []),  # that was before the run
        (0, 0x50000, ["under-voltage", "throttled"]),
        (0x50005, 0x50005, ["under-voltage", "throttled"]),
        (0, 0x80008, ["soft temperature limit"]),
    ],
)
def test_a_board_that_was_slowed_down_says_why(before: int | None, after: int | None, reasons: list[str]) -> None:
    assert machine.why_throttled(before, after) == reasons


def test_conditions_are_plain_json() -> None:
    found = machine.conditions()
    assert json.loads(json.dumps(found)) == found
    assert {"cpu_model", "instruction_sets", "cores", "affinity", "kernel", "os", "python", "load_average_1min",
            "governor", "frequency_mhz", "temperature_c", "throttled", "board"} <= found.keys()  # fmt: skip
