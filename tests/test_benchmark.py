"""What is made of what the processes found: intervals, percentiles, verdicts, comparisons, limits."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbedge import benchmark, files
from nbedge.benchmark import Case, Comparison, baseline, stability
from nbedge.benchmark.measurement import summarize
from nbedge.benchmark.place import NATIVE, fitting
from nbedge.benchmark.statistics import (
    STUDENT,
    geometric_interval,
    least_samples,
    mean_interval,
    ratio_interval,
    student,
)
from nbedge.environments import ENVIRONMENTS
from nbedge.errors import InputError, MissingDependencyError

FAST: dict[str, Any] = {"processes": 2, "seconds": 0.01}
SAMPLE = Path(__file__).parent.parent / "sample_models" / "fashion_mnist"


def conv_relu(path: Path, channels: int = 4) -> Path:
    """Write a convolution and a ReLU with a dynamic batch size."""
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper, float32 = onnx.helper, onnx.numpy_helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", float32, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("y", float32, ["n", channels, 14, 14])],
        [numpy_helper.from_array(np.ones((channels, 3, 3, 3), np.float32), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def outcome(*times: float, **more: Any) -> dict[str, Any]:
    """Return what a process says that took these samples."""
    phase = {"peak_rss": 3000, "rss": 2000, "private_dirty": 500}
    return {
        "runtime": "onnxruntime 1", "kernels": "ort-avx2", "arena_bytes": None, "answers_sha256": "0",
        "init_ms": times[0], "first_ms": times[-1], "overhead_ms": 2e-5, "energy": None, "end_to_end": None,
        "samples": {"ms": list(times), "number": 100 * len(times), "calls": 1, "warm_up_windows": 2, "warmed_up": True},
        "memory": {"imported": {**phase, "rss": 1000, "private_dirty": 100}, "load": phase, "first": phase,
                   "steady": {**phase, "peak_rss": 4000}},
        "conditions": {"load_average_1min": 0.5, "cores": 2, "throttled": None},
        "conditions_after": {"throttled": None}, **more,
    }  # fmt: skip


#: processes that agree
FIVE = [outcome(1.0)] * 5


@pytest.fixture
def case(tmp_path: Path) -> Case:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"abc")
    return Case(path, "onnxruntime")


class Scripted:
    """A machine that takes as long as it is told."""

    name, seconds, timed, compiles, runtimes = "scripted", 1.0, True, False, NATIVE

    def __init__(self, times: Mapping[str, Iterator[float]]) -> None:
        self.times, self.order = times, list[str]()

    def run(self, job: Mapping[str, Any]) -> dict[str, Any]:
        name = Path(job["file"]).name
        self.order.append(name)
        return outcome(next(self.times[name]))


# measure


@pytest.mark.group("bench")
def test_an_onnx_file_is_measured(tmp_path: Path) -> None:
    path = conv_relu(tmp_path / "tiny.onnx")
    calls: list[tuple[int, int]] = []
    (found,) = benchmark.measure([path], **FAST, progress=lambda *done: calls.append(done))
    assert calls == [(1, 2), (2, 2)]
    assert (found.case.path.name, found.sha256, found.size_bytes) == (
        "tiny.onnx",
        files.sha256(path),
        path.stat().st_size,
    )
    assert found.runtime.startswith("onnxruntime ")
    assert found.kernels.startswith("ort")
    assert found.latency is not None
    assert found.latency.samples >= 200
    assert 0 < found.latency.min_ms <= found.latency.median_ms <= found.latency.max_ms
    assert found.latency.low_ms < found.latency.median_ms < found.latency.high_ms
    assert found.latency.p99_ms is None or found.latency.samples >= 299
    assert found.end_to_end is None  # it has no sidecar that says how a picture becomes its input
    assert found.memory is not None
    assert 0 < (found.memory.peak_rss_bytes or 1) < 2**30
    assert found.overhead_ms is not None
    assert found.overhead_ms < 0.01


@pytest.mark.group("bench")
def test_each_runtime_and_number_of_threads_is_a_row() -> None:
    file = SAMPLE / "exports" / "fashion_mnist.int8.tflite"
    found = benchmark.measure([file], **FAST, runtimes=["litert", "litert-builtin"], threads=(1, 2))
    assert [(m.case.runtime, m.case.threads, m.kernels) for m in found] == [
        ("litert", 1, "xnnpack"), ("litert", 2, "xnnpack"), ("litert-builtin", 1, "builtin"),
        ("litert-builtin", 2, "builtin"),
    ]  # fmt: skip
    assert all(m.end_to_end for m in found)


@pytest.mark.group("bench")
def test_tflite_runtime_is_measured_in_its_own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(SAMPLE.parent.parent / ".venv-environments"))
    if not ENVIRONMENTS["tflite-runtime"].ready:
        pytest.skip("make setup-environments")
    file = SAMPLE / "exports" / "fashion_mnist.fp32.tflite"
    own, usual = benchmark.measure([file], **FAST, runtimes=["tflite-runtime", "litert"])
    assert own.runtime.startswith("tflite-runtime 2.14")
    assert usual.runtime.startswith("ai-edge-litert ")
    assert own.latency is not None


@pytest.mark.group("bench")
def test_a_checkpoint_is_measured_in_torch() -> None:
    (found,) = benchmark.measure([SAMPLE / "contracted.safetensors"], **FAST)
    assert found.runtime.startswith("torch ")
    assert found.kernels == "torch"


def test_files_are_interleaved(tmp_path: Path) -> None:
    paths = [tmp_path / "a.onnx", tmp_path / "b.tflite"]
    for path in paths:
        path.write_bytes(b"x")
    machine = Scripted({path.name: iter([1.0] * 3) for path in paths})
    found = benchmark.measure(paths, processes=3, on=machine)
    assert machine.order == ["a.onnx", "b.tflite"] * 3
    assert [m.case.path.name for m in found] == ["a.onnx", "b.tflite"]


def test_what_cannot_be_measured_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    with pytest.raises(InputError, match=r"net\.onnx does not exist"):
        benchmark.measure([path])
    path.write_bytes(b"not a network")
    with pytest.raises(InputError, match="processes=0"):
        benchmark.measure([path], processes=0)
    with pytest.raises(InputError, match="threads are 0; give 1 or more"):
        benchmark.measure([path], threads=0)
    with pytest.raises(InputError, match="no file to measure"):
        benchmark.measure([])
    with pytest.raises(InputError, match=r"net\.onnx runs in onnxruntime, not in litert"):
        benchmark.measure([path], runtimes=["litert"])
    pickled = tmp_path / "net.pth"
    pickled.touch()
    with pytest.raises(InputError, match=r"net\.pth cannot be measured; files that can end in \.onnx or \.tflite"):
        benchmark.measure([pickled])


def test_what_is_no_list_is_taken_as_one(tmp_path: Path) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(b"x")
    machine = Scripted({"a.tflite": iter([1.0, 1.0])})
    (found,) = benchmark.measure(str(path), processes=2, runtimes="litert", on=machine)
    assert found.case == Case(path, "litert")


def test_what_would_be_measured_twice_or_is_no_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(b"x")
    with pytest.raises(InputError, match=r"a\.tflite is given twice; name it once"):
        benchmark.measure([path, tmp_path / "." / "a.tflite"])
    with pytest.raises(InputError, match="the number of threads 1 is given twice"):
        benchmark.measure([path], threads=[1, 2, 1])
    with pytest.raises(InputError, match="the runtime litert is given twice"):
        benchmark.measure([path], runtimes=["litert", "litert"])
    with pytest.raises(InputError, match="no runtime is called 'bogus'; choose from onnxruntime, tflite, litert"):
        benchmark.measure([path], runtimes=["bogus"])
    with pytest.raises(InputError, match="tflite-micro has one thread, not 2"):
        benchmark.measure([path], runtimes=["tflite-micro"], threads=2)
    folder = tmp_path / "b.tflite"
    folder.mkdir()
    with pytest.raises(InputError, match=r"b\.tflite is a folder; name a file"):
        benchmark.measure([folder])


@pytest.mark.parametrize(
    ("file", "runtime", "on", "said"),
    [
        ("a.tflite", "tflite-micro", "emulated:cortex-a72", "which has onnxruntime, tflite, litert, litert-builtin"),
        ("a.safetensors", "torch", "emulated:cortex-a72", "is a checkpoint, which is not run on emulated:cortex-a72"),
        ("a.safetensors", "torch", "ssh://pi@pi", "is a checkpoint, which is not run on ssh://pi@pi; export it"),
        ("a.safetensors", "torch", "emulated:cortex-m4", "a microcontroller runs C"),
        ("a.tflite", "c", "local", "generated C is not run on local"),
    ],
)
def test_a_place_without_the_runtime_says_so(file: str, runtime: str, on: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        fitting(Case(Path(file), runtime), benchmark.place_of(on))


@pytest.mark.group("bench")
def test_a_damaged_checkpoint_gets_one_advice(tmp_path: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((SAMPLE / "contracted.safetensors").read_bytes()[:300])
    with pytest.raises(InputError, match=r"cut\.safetensors is cut short.*; copy or train it again$"):
        benchmark.measure([cut], **FAST)


@pytest.mark.group("bench")
def test_a_file_cut_short_names_itself_and_the_cause(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = conv_relu(tmp_path / "cut.onnx")
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match=r"cut\.onnx could not be run in onnxruntime \(.+\); check") as caught:
        benchmark.measure([path], **FAST)
    assert "\n" not in str(caught.value)


def test_a_missing_runtime_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"x")
    # a module that fails to import the way a missing one does, in front of the real one
    (tmp_path / "onnxruntime.py").write_text("raise ModuleNotFoundError('gone', name='onnxruntime')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match=r"'onnxruntime' is not installed; run: pip install 'nbedge\[onnx"):
        benchmark.measure([path])


# statistics


def test_student_s_quantiles_go_on_beyond_the_table() -> None:
    assert student(0) == math.inf
    assert student(30) == STUDENT[-1]
    assert student(31) == pytest.approx(2.0395, abs=2e-3)
    assert student(120) == pytest.approx(1.9799, abs=1e-3)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        values = generator.lognormal(0, 0.05, (2, 10))
        _, low, high = ratio_interval(values[0].tolist(), (1.1 * values[1]).tolist())
        held += low <= 1.1 <= high
    assert 0.93 < held / 2000 < 0.97
    assert math.isnan(mean_interval([1.0])[1])


def test_no_interval_of_a_time_reaches_below_zero() -> None:
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(2000):
        middle, low, high = geometric_interval(generator.lognormal(0, 0.5, 5).tolist())
        assert 0 < low < middle < high
        held += low <= 1 <= high
    assert 0.93 < held / 2000 < 0.97
    assert mean_interval([0.1, 0.001])[1] < 0 < geometric_interval([0.1, 0.001])[1]


@pytest.mark.parametrize(("percentile", "least"), [(90, 29), (95, 59), (99, 299), (99.9, 2995)])
def test_a_percentile_needs_samples(percentile: float, least: int) -> None:
    assert least_samples(percentile) == least


def test_the_process_is_the_unit(case: Case) -> None:
    found = summarize(case, "local", [outcome(1.0, 1.0, 1.0, 1.0, 1.0), outcome(1.0), outcome(3.0)])
    assert found.latency is not None
    assert found.latency.median_ms == pytest.approx(3 ** (1 / 3))
    assert 0 < found.latency.low_ms < 1 < 3 < found.latency.high_ms
    assert (found.latency.samples, found.latency.max_ms) == (700, 3.0)
    assert found.latency.p90_ms == pytest.approx(1.8)
    assert found.verdict == "unusable"
    assert found.memory is not None
    assert (found.memory.load_peak_rss_bytes, found.memory.peak_rss_bytes) == (2000, 3000)
    assert found.memory.steady_private_dirty_bytes == 400


@pytest.mark.parametrize(
    ("outcomes", "verdict", "reason"),
    [
        ([*FIVE, outcome(1.05)], "stable", "5.0 % of the median from process to process"),
        ([*FIVE, outcome(1.104)], "noisy", "10.4 % of the median from process to process"),
        ([*FIVE, outcome(2.0)], "unusable", "100.0 % of the median from process to process"),
        (
            [outcome(*np.linspace(1, 2, 9))] * 2,
            "unusable",
            "33.3 % of the median within a process (interquartile range)",
        ),
        ([outcome(1.0, samples={**outcome(1.0)["samples"], "number": 9})], "unusable", "9 samples; 100 are needed"),
        (
            [*FIVE, outcome(1.15, conditions={"load_average_1min": 3.5, "cores": 2, "throttled": None})],
            "noisy",
            "15.0 % of the median from process to process; load average 3.5 on 2 cores",
        ),
        (
            [outcome(1.0), outcome(1.05)],
            "unusable",
            "36.3 % of the median up to the end of the 95 % interval of 2 processes",
        ),
        (
            [outcome(1.0), outcome(1.01)],
            "stable",
            "6.5 % of the median up to the end of the 95 % interval of 2 processes",
        ),
        ([outcome(1.0)], "unknown", "how far processes differ is not known of 1; 2 or more are needed"),
        (
            [outcome(1.0, conditions={"throttled": 0}, conditions_after={"throttled": 0x50005})],
            "invalid",
            "the board was slowed down: throttled, under-voltage",
        ),
    ],
    ids=["stable", "noisy", "unusable", "within", "few", "busy", "two", "agreeing", "one", "throttled"],
)
def test_a_latency_has_a_verdict_with_its_reason(outcomes: list[Any], verdict: str, reason: str) -> None:
    assert stability.judged(outcomes) == (verdict, reason)


def test_json_has_units_in_its_keys(case: Case) -> None:
    values = json.loads(json.dumps(summarize(case, "local", [outcome(1.0)]).to_dict(), allow_nan=False))
    assert values["schema_version"] == 2
    wanted = {"latency_median_ms", "latency_p90_ms", "latency_min_ms", "latency_max_ms", "latency_iqr_ms",
              "latency_low_ms", "latency_mean_ms", "latency_std_ms", "first_inference_ms", "init_ms", "size_bytes",
              "load_peak_rss_bytes", "load_private_dirty_bytes", "empty_call_ms", "peak_rss_bytes"}  # fmt: skip
    assert wanted <= values.keys()
    assert values["latency_low_ms"] is None  # of one process


# comparisons


def compared(tmp_path: Path, before: list[float], after: list[float], **options: Any) -> tuple[Comparison, list[str]]:
    for name in ("old.onnx", "new.onnx"):
        (tmp_path / name).write_bytes(b"x")
    old, new = (Case(tmp_path / name, "onnxruntime") for name in ("old.onnx", "new.onnx"))
    machine = Scripted({"old.onnx": iter(before), "new.onnx": iter(after)})
    return benchmark.compare(old, new, machine, **options), machine.order


def test_files_are_compared_in_alternating_blocks(tmp_path: Path) -> None:
    times = [1.0, 2.0, 4.0, 1.0, 2.0, 4.0, 1.0, 2.0, 4.0, 1.0]  # the machine's speed changes, the ratio does not
    found, order = compared(tmp_path, times, [1.1 * t for t in times])
    assert order[:4] == ["old.onnx", "new.onnx", "new.onnx", "old.onnx"]
    assert found.blocks == 10
    assert found.ratio == pytest.approx(1.1)
    assert found.low == pytest.approx(1.1)
    assert found.exceeds(1.05)
    assert not found.exceeds(1.15)
    assert json.loads(json.dumps(found.to_dict()))["after"]["path"].endswith("new.onnx")


def test_blocks_are_added_until_a_limit_can_be_judged(tmp_path: Path) -> None:
    restless = [1.0, 1.2] * 20
    found, _ = compared(tmp_path, restless, restless[::-1], limit=1.05)
    assert found.blocks == 40
    assert not found.is_precise(1.05)
    steady, _ = compared(tmp_path, [1.0] * 10, [1.001, 1.0] * 5, limit=1.05)
    assert steady.blocks == 10
    assert steady.is_precise(1.05)


def test_fewer_than_ten_blocks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="9 blocks are too few to compare; give 10 or more"):
        compared(tmp_path, [], [], blocks=9)


@pytest.mark.parametrize("text", ["ratio", "ratio:x", "speed:1.1", "ratio:nan", "ratio:inf", "size:1e400"])
def test_a_limit_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(
        InputError, match=r"is no limit; write METRIC:TIMES of ratio, size, arena, flash, stack, instructions"
    ):
        baseline.Limit.parse(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [("ratio:1", "TIMES must be above 1"), ("ratio:0.5", "must be above 1"), ("size:0.9", "TIMES must be 1 or more")],
)
def test_a_limit_that_every_file_would_exceed_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=f"the limit '{text}' is too low; .*{said}"):
        baseline.Limit.parse(text)


def row(**more: Any) -> dict[str, Any]:
    conditions = {"cpu_model": "A", "governor": None, "kernel": "6"}
    return {"file": "a.tflite", "runtime": "ai-edge-litert 2", "kernels": "xnnpack", "threads": 1, "size_bytes": 100,
            "arena_bytes": None, "latency_median_ms": 1.0, "conditions": conditions, **more}  # fmt: skip


def test_only_what_is_the_same_every_day_is_compared_with_a_stored_figure() -> None:
    assert baseline.growth(baseline.Limit("size", 1), row(size_bytes=110), row()).times == pytest.approx(1.1)
    with pytest.raises(InputError, match="times of another day are no baseline"):
        baseline.growth(baseline.Limit("ratio", 1.05), row(), row())
    with pytest.raises(InputError, match=r"arena of a\.tflite is not measured here or not stored"):
        baseline.growth(baseline.Limit("arena", 1), row(arena_bytes=5), row())


def test_stored_rows_are_found_by_file_runtime_and_threads() -> None:
    stored = [row(threads=4, size_bytes=1), row(size_bytes=2), row(file="b.onnx", size_bytes=3)]
    assert baseline.matching(row(), stored)["size_bytes"] == 2
    assert baseline.matching(row(file="b.onnx", threads=9), stored)["size_bytes"] == 3
    assert baseline.matching(row(file="new.tflite"), stored[:1])["size_bytes"] == 1
    with pytest.raises(InputError, match=r"the baseline has 0 rows of c\.onnx"):
        baseline.matching(row(file="c.onnx"), stored)


@pytest.mark.parametrize(
    ("here", "there", "said"),
    [
        (
            {"on": "emulated:cortex-a53"},
            {"on": "emulated:cortex-a76"},
            "emulated:cortex-a53 here, emulated:cortex-a76 in",
        ),
        (
            {"on": "local"},
            {"on": "emulated:cortex-m4"},
            "a machine that is not emulated here, emulated:cor",
        ),
        (
            {"conditions": {"optimization": "-Os"}},
            {"conditions": {"optimization": "-O2"}},
            "-Os here, -O2 in the baseline",
        ),
        (
            {"conditions": {"compiler": "gcc 12"}},
            {"conditions": {"compiler": "gcc 13"}},
            "gcc 12 here, gcc 13 in the",
        ),
    ],
)
def test_counts_of_two_processors_or_compilers_are_not_compared(
    here: dict[str, Any], there: dict[str, Any], said: str
) -> None:
    new, old = (row(instructions_per_inference=9, arena_bytes=9, **more) for more in (here, there))
    for metric in ("instructions", "arena"):
        with pytest.raises(InputError, match=f"{metric} of a.tflite cannot be compared: {said}"):
            baseline.growth(baseline.Limit(metric, 1), new, old)
    assert baseline.growth(baseline.Limit("size", 1), new, old).times == 1


@pytest.mark.parametrize(
    ("metric", "runtime", "on", "told"),
    [
        ("size", "tflite", "local", True), ("ratio", "tflite", "local", True), ("arena", "tflite", "local", False),
        ("arena", "tflite-micro", "local", True), ("instructions", "tflite", "local", False),
        ("instructions", "tflite", "emulated:cortex-a72", True), ("ratio", "tflite", "emulated:cortex-a72", False),
        ("flash", "tflite", "emulated:cortex-a72", False), ("flash", "tflite", "emulated:cortex-m4", True),
    ],
)  # fmt: skip
def test_what_will_not_be_known_is_refused_beforehand(metric: str, runtime: str, on: str, told: bool) -> None:
    place = benchmark.place_of(on)
    asked = fitting(Case(Path("a.tflite"), runtime), place)
    if told:
        baseline.refuse_untold(baseline.Limit(metric, 1.05), asked, place)
    else:
        with pytest.raises(InputError, match=r"is not measured here or not stored|an emulator measures no time"):
            baseline.refuse_untold(baseline.Limit(metric, 1.05), asked, place)


def test_a_file_that_is_not_in_the_baseline_is_refused_beforehand() -> None:
    asked = Case(Path("c.onnx"), "onnxruntime")
    baseline.refuse_unmatched(asked, [row()])  # a file under a new name
    with pytest.raises(InputError, match=r"the baseline has 0 rows of c\.onnx"):
        baseline.refuse_unmatched(asked, [row(), row(file="b.onnx")])


def test_what_no_stored_row_has_is_refused_beforehand() -> None:
    place = benchmark.place_of("local")
    with pytest.raises(InputError, match=r"arena of a\.tflite is not measured here or not stored"):
        baseline.refuse_untold(baseline.Limit("arena", 1), Case(Path("a.tflite"), "tflite-micro"), place, [row()])


@pytest.mark.parametrize("content", ["no json", "[]", "{}", '{"rows": []}', '{"rows": [{"a": 1}]}'])
def test_what_is_no_baseline_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "old.json").write_text(content)
    with pytest.raises(InputError, match=r"old\.json holds no measurements; give the output of nbedge bench --json"):
        baseline.rows(tmp_path / "old.json")
