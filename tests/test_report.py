import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbedge import report
from nbedge.errors import InputError
from nbedge.report import formats, pictures
from nbedge.report.measured import plain_ticks

CLASSES = ["T-shirt", "trouser", "pullover", "dress", "<b>", "sandal", "shirt", "sneaker", "bag", "$1"]
FILES = {
    "fashion_mnist.fp32.onnx": (0.8475, 24_210, 0.0512),
    "fashion_mnist.int8.onnx": (0.8440, 14_870, 0.0473),
    "fashion_mnist.fp32.tflite": (0.8475, 22_940, 0.0271),
    "fashion_mnist.int8.tflite": (0.8455, 11_620, 0.0139),
}
RECIPE = '[model]\nname = "nbedge.samples:tiny"  # <b>\n\n[train]\nepochs = 12\nlearning_rate = 0.4\nseed = 0\n'


def put(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def curve(epochs: int, start: float, end: float, slope: bool | None) -> dict[str, Any]:
    t = np.linspace(0, 1, epochs)
    return {"schema_version": 1, "epochs": [
        {"epoch": i + 1, "train_loss": float(1.4 * np.exp(-2 * p) + 0.4 - start / 2),
         "validation_score": float(start + (end - start) * (1 - np.exp(-4 * p))),
         "slope": None if slope is None else float(min(1, 1.4 * p)) if slope else 0.0,
         "learning_rate": float(0.2 * (1 + np.cos(np.pi * p)))} for i, p in enumerate(t)]}  # fmt: skip


def evaluated(name: str, file: str, top1: float, seed: int, **more: Any) -> dict[str, Any]:
    noise = np.random.default_rng(seed).uniform(-0.12, 0.1, len(CLASSES))
    return {"name": name, "file": file, "top1": top1, "top5": 0.99, "flips": None, "parameters": None, "macs": None,
            "per_class": {c: float(np.clip(top1 + d, 0, 1)) for c, d in zip(CLASSES, noise, strict=True)},
            "confusion": [[1]], **more}  # fmt: skip


def evaluation(control: float, contracted: float) -> dict[str, Any]:
    rows = [
        evaluated("control", "control.safetensors", control, 0, parameters=4818, macs=187_000),
        evaluated("giant", "giant.safetensors", 0.861, 1, parameters=31_206, macs=1_240_000),
        evaluated("contracted", "contracted.safetensors", contracted, 2, parameters=4818, macs=187_000),
        *(evaluated(name, name, top1, 2, flips=i) for i, (name, (top1, _, _)) in enumerate(FILES.items())),
    ]
    models = [row["name"] for row in rows]
    samples = [
        {"index": i, "label": CLASSES[i % 10],
         "predictions": {m: "shirt" if i % 5 == 0 and m in models[2 + i % 3 :] else CLASSES[i % 10] for m in models}}
        for i in range(12)
    ]  # fmt: skip
    return {"schema_version": 1, "pictures": 2000, "rows": rows, "samples": samples}


def edge(reference: str, candidate: str, verdict: str = "PASS") -> dict[str, Any]:
    checks = [
        {"name": "outputs", "verdict": verdict, "value": 3.1e-7, "limit": 1e-5, "unit": "max|Δ|/RMS",
         "detail": "512 pictures, 4 input families"},
        {"name": "flips", "verdict": "PASS", "value": 0, "limit": 20, "unit": "pictures", "detail": ""},
    ]  # fmt: skip
    return {"schema_version": 1, "reference": reference, "candidate": candidate, "verdict": verdict, "checks": checks}


def verified(run: Path) -> None:
    algebra = edge("giant.safetensors", "contracted.safetensors")
    algebra["checks"].insert(0, {"name": "algebra", "verdict": "PASS", "value": 1.2e-15, "limit": 1e-9,
                                 "unit": "max|Δ|/max|y|", "detail": "float64, end to end"})  # fmt: skip
    put(run / "verification" / "1-contracted.json", algebra)
    sources = [
        "contracted.safetensors",
        "fashion_mnist.fp32.onnx",
        "fashion_mnist.fp32.onnx",
        "fashion_mnist.fp32.onnx",
    ]
    verdicts = ["PASS", "FAIL", "PASS", "NOT CHECKED"]
    for source, verdict, name in zip(sources, verdicts, FILES, strict=True):
        put(run / "verification" / f"{name}.json", edge(source, name, verdict))


def measured(run: Path) -> None:
    rows = [
        {"file": name, "runtime": "onnxruntime 1.32.0" if name.endswith("onnx") else "ai-edge-litert 2.3.0",
         "kernels": "ort-vnni" if name.endswith("onnx") else "xnnpack", "threads": 1, "processes": 5,
         "latency_median_ms": ms, "latency_p90_ms": 1.1 * ms, "peak_rss_bytes": 5_200_000, "size_bytes": size,
         "latency_quantiles_ms": [0.9 * ms, ms, 1.1 * ms], "latency_low_ms": 0.95 * ms, "latency_high_ms": 1.05 * ms,
         "first_inference_ms": 2 * ms, "init_ms": 9.0,
         "steady_private_dirty_bytes": 400_000, "reason": "it was a busy day",
         "verdict": "noisy" if name.endswith("int8.onnx") else "stable"}
        for name, (_, size, ms) in FILES.items()
    ]  # fmt: skip
    conditions = {"cpu_model": "Intel(R) Xeon(R)", "cores": 2, "os": "Debian GNU/Linux 12", "governor": None}
    put(run / "bench.json", {"schema_version": 1, "conditions": conditions, "rows": rows})
    for name, (_, size, _) in FILES.items():
        sidecar = {"file": name, "derived_from": "contracted.safetensors", "sha256": "ab" * 32, "size_bytes": size,
                   "tools": {"torch": "2.13.0", "onnxruntime": "1.32.0"}}  # fmt: skip
        put(run / "exports" / f"{name}.json", sidecar)


def whole_run(run: Path, control: float = 0.853, contracted: float = 0.848) -> Path:
    run.mkdir()
    (run / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    stages: dict[str, dict[str, Any]] = {
        s: {"seconds": 12.345 * (i + 1), "verdict": None} for i, s in enumerate(("control", "giant", "linearized"))
    }
    stages["verify"] = {"seconds": 3.2, "verdict": "PASS"}
    put(run / "manifest.json", {"schema_version": 1, "nbedge": "0.1.0", "name": "fashion_mnist", "stages": stages})
    put(run / "data.json", {"spec": "x", "classes": CLASSES, "train": 54_000, "validation": 6000, "calibration": 256,
                            "test": 10_000})  # fmt: skip
    put(run / "curves" / "control.json", curve(12, 0.68, 0.855, None))
    put(run / "curves" / "giant.json", curve(8, 0.70, 0.862, False))
    put(run / "curves" / "linearized.json", curve(4, 0.855, 0.849, True))
    put(run / "evaluation.json", evaluation(control, contracted))
    y, x = np.mgrid[:28, :28]
    images = np.stack([(x * (i + 2) + y * (13 - i)) % 256 for i in range(12)]).astype(np.uint8)
    np.savez(run / "samples.npz", images=images[..., None])
    verified(run)
    measured(run)
    return run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return whole_run(tmp_path / "run")


def test_rows_merge_evaluation_bench_and_verification(run: Path) -> None:
    rows = {row.name: row for row in report.summarize(run).rows}
    assert list(rows) == ["control", "giant", "contracted", *FILES]
    assert rows["control"].verdict == rows["giant"].verdict == formats.UNKNOWN
    assert rows["contracted"].verdict == "PASS"
    assert [rows[name].verdict for name in FILES] == ["PASS", "FAIL", "PASS", "NOT CHECKED"]
    int8 = rows["fashion_mnist.int8.tflite"]
    assert (int8.top1, int8.size_bytes, int8.latency_median_ms, int8.peak_rss_bytes) == (
        0.8455,
        11_620,
        0.0139,
        5_200_000,
    )
    assert rows["contracted"].size_bytes is None


def test_the_worst_edge_of_a_file_counts_and_none_is_not_checked(run: Path) -> None:
    put(run / "verification" / "again.json", edge("x", "fashion_mnist.fp32.tflite", "FAIL"))
    (run / "verification" / "fashion_mnist.fp32.onnx.json").unlink()
    rows = {row.name: row for row in report.summarize(run).rows}
    assert rows["fashion_mnist.fp32.tflite"].verdict == "FAIL"
    assert rows["fashion_mnist.fp32.onnx"].verdict == "NOT CHECKED"


def test_closing_says_plainly_that_nothing_was_gained(run: Path) -> None:
    said = report.summarize(run).closing()
    assert said.startswith("The contracted model is not better than the control: 84.8% against 85.3% (-0.5 points).")
    assert "many more steps" in said
    assert "only a part of its lead survives" in said
    assert "The giant itself reached 86.1%, 0.8 points above the control." in said
    assert "standard error of 0.8 points" in said


def test_closing_does_not_blame_plt_where_there_is_none(run: Path) -> None:
    put(run / "plan.json", {"sites": [{"layer": "a", "block": "branches"}, {"layer": "b", "block": "linear"}]})
    said = report.summarize(run).closing()
    assert "its blocks are linear from the start" in said
    assert "giant" not in said
    put(run / "plan.json", {"sites": [{"layer": "a", "block": "branches"}, {"layer": "b", "block": "basic"}]})
    assert "The giant itself" in report.summarize(run).closing()


def test_closing_calls_a_gain_one_seed(tmp_path: Path) -> None:
    said = report.summarize(whole_run(tmp_path / "run", control=0.865, contracted=0.877)).closing()
    assert "gains 1.2 points" in said
    assert "One run is one seed, not evidence" in said
    assert "it has not overtaken it yet" in said


def test_a_gain_that_reads_zero_is_none(tmp_path: Path) -> None:
    assert "not better" in report.summarize(whole_run(tmp_path / "run", control=0.86, contracted=0.8602)).closing()


def test_the_page_shows_every_part(run: Path, tmp_path: Path) -> None:
    out = report.write(run, tmp_path / "report.html")
    page = out.read_text(encoding="utf-8")
    assert "not run" not in page
    assert page.count("<svg") == 4
    assert page.count('role="img" aria-label="') == 4
    assert page.count('src="data:image/png;base64,') == 12
    assert page.count('alt="Test picture') == 12
    timed = "onnxruntime 1.32.0 (ort-vnni), 1 thread, 5 processes"
    checked = ("1.2e-15", "1e-09", "max|Δ|/max|y|", "NOT CHECKED", "FAIL")
    for text in (
        *checked,
        timed,
        "noisy: it was a busy day",
        "Distribution of the latencies",
        "4\u202f818",
        "learning_rate = 0.4",
        "ab" * 32,
        "✗ shirt",
        "37.0",
    ):
        assert text in page


def test_the_same_run_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    first, second = (report.write(run, tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert first == second


def test_the_page_loads_nothing(run: Path, tmp_path: Path) -> None:
    page = report.write(run, tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|<script|<link|@import|<iframe", page)
    assert set(re.findall(r"url\((.)", page)) <= {"#"}
    assert set(re.findall(r'(?:src|href)="(data:image/png|#)?', page)) <= {"data:image/png", "#"}


def test_class_names_are_escaped(run: Path, tmp_path: Path) -> None:
    page = report.write(run, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;" in page
    assert "# <b>" not in page
    assert "<b><b></b>" not in page


@pytest.mark.parametrize("kept", ["manifest.json", "recipe.toml"])
def test_missing_parts_are_not_run(run: Path, tmp_path: Path, kept: str) -> None:
    for path in sorted(run.rglob("*"), reverse=True):
        if path.is_file() and path.name != kept:
            path.unlink()
    assert "says nothing about accuracy" in report.summarize(run).closing()
    page = report.write(run, tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<b>not run</b>") >= 10
    assert "<svg" not in page


@pytest.mark.parametrize(
    "part", ["evaluation.json", "bench.json", "samples.npz", "curves", "verification", "exports", "data.json"]
)
def test_each_part_may_be_missing(run: Path, tmp_path: Path, part: str) -> None:
    place = run / part
    place.rename(tmp_path / "away")
    assert "</html>" in report.write(run, tmp_path / "report.html").read_text(encoding="utf-8")


def test_files_that_were_only_exported_are_listed_with_their_size(run: Path) -> None:
    (run / "evaluation.json").unlink()
    (run / "bench.json").unlink()
    rows = report.summarize(run).rows
    assert {row.name: row.size_bytes for row in rows} == {name: size for name, (_, size, _) in FILES.items()}


def test_refuses_what_is_no_run(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent does not exist"):
        report.summarize(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no run"):
        report.summarize(tmp_path / "empty")
    (run / "bench.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"bench\.json is not JSON"):
        report.summarize(run)
    put(run / "bench.json", {"rows": [{"nothing": 1}]})
    with pytest.raises(InputError, match="cannot read"):
        report.summarize(run)
    (run / "bench.json").unlink()
    (run / "samples.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"samples\.npz holds no pictures"):
        report.write(run, tmp_path / "report.html")


def test_refuses_a_manifest_that_lacks_its_version(run: Path, tmp_path: Path) -> None:
    put(run / "manifest.json", {"name": "x"})
    with pytest.raises(InputError, match="cannot read"):
        report.write(run, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_samples_group_equal_answers() -> None:
    sample = {
        "label": "cat",
        "predictions": {"control": "cat", "contracted": "dog", "n.a.onnx": "dog", "n.b.onnx": "cat"},
    }
    (found,) = pictures.samples({"samples": [sample]}, None)
    assert [(a.predicted, a.right, a.models) for a in found.answers] == [
        ("cat", True, ("control", "b.onnx")),
        ("dog", False, ("contracted", "a.onnx")),
    ]
    assert found.uri == ""


def test_the_arena_and_the_way_of_the_first_table_are_told(run: Path) -> None:
    bench = json.loads((run / "bench.json").read_text())
    usual = next(row for row in bench["rows"] if row["file"].endswith("int8.tflite"))
    bench["rows"].append({**usual, "kernels": "tflm", "arena_bytes": 16_544, "latency_median_ms": 99.0})
    put(run / "bench.json", bench)
    page = report.write(run, run / "page.html").read_text(encoding="utf-8")
    assert ">16.5<" in page
    assert f"its usual one, the first, stands here: {usual['file']} (xnnpack)." in " ".join(page.split())


@pytest.mark.parametrize(("low", "high"), [(0.0071, 0.0094), (0.004, 0.3), (0.001, 900.0)])
def test_ticks_of_a_latency_are_a_few_plain_numbers(low: float, high: float) -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.add_subplot()
    axes.plot([low, high], [0, 1])
    axes.set_xscale("log")
    plain_ticks(axes)
    figure.canvas.draw()
    inside = [
        t.get_text() for t in axes.get_xticklabels() if axes.get_xlim()[0] <= t.get_position()[0] <= axes.get_xlim()[1]
    ]
    assert 2 <= len(inside) <= 9
    assert all("$" not in text and float(text) > 0 for text in inside)
    assert not axes.xaxis.get_minorticklocs().size
