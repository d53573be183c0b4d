"""A detector on the whole path: from pictures with boxes to checkpoints, figures, and pictures with boxes drawn in."""

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pycocotools")

import detection as benchmark  # noqa: E402
from nbedge.checkpoint import Checkpoint, load_checkpoint, read_metadata, save_checkpoint  # noqa: E402
from nbedge.expansion import expand  # noqa: E402
from nbedge.preprocessing import Preprocessing  # noqa: E402
from nbedge.proposal import propose  # noqa: E402
from nbedge.reference import ModelReference  # noqa: E402

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "sample_models" / "blood_smears"
DATA = f"coco:{SAMPLE / 'data'}"
PICTURE = sorted((SAMPLE / "data" / "test").glob("*.jpg"))[0]
HALF = Preprocessing((3, 60, 80), (0.5,) * 3, (0.25,) * 3)


def call(*words: str, status: int = 0, cwd: Path = ROOT) -> str:
    command = [sys.executable, "-m", "nbedge", *words]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status == 0 else done.stderr


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return data of 24, 8 and 8 pictures."""
    folder = tmp_path_factory.mktemp("few")
    (folder / "annotations").mkdir()
    for part, number in (("train", 24), ("val", 8), ("test", 8)):
        content = json.loads((SAMPLE / "data" / "annotations" / f"{part}.json").read_text())
        content["images"] = content["images"][:number]
        kept = {row["id"] for row in content["images"]}
        content["annotations"] = [row for row in content["annotations"] if row["image_id"] in kept]
        (folder / "annotations" / f"{part}.json").write_text(json.dumps(content))
        (folder / part).mkdir()
        for row in content["images"]:
            shutil.copy(SAMPLE / "data" / part / row["file_name"], folder / part)
    return f"coco:{folder}"


def recipe(data: str, more: str = "") -> str:
    return f"""name = "few"
[model]
reference = "sample:detector_tiny"
input = [3, 60, 80]
arguments = {{ num_classes = 3, resolution = 60 }}
[data]
source = "{data}"
calibration = 4
[train]
batch_size = 8
learning_rate = 0.05
giant_epochs = 1
plt_epochs = 2
warmup_epochs = 0.0
[gate]
lead = -100
plt_loss = 100
[export]
formats = []
{more}
"""


@pytest.mark.group("path")
def test_a_run_boosts_proves_and_judges_a_detector(tmp_path: Path, few: str) -> None:
    (tmp_path / "recipe.toml").write_text(
        recipe(few, '[baselines]\ntrain = ["branches"]\n[plt]\norder = "least-sensitive-first"')
    )
    said = json.loads(call("run", "recipe.toml", "--out", "out", "--json", cwd=tmp_path))
    out = tmp_path / "out"
    verdicts = [json.loads(path.read_text())["verdict"] for path in (out / "verification").glob("*.json")]
    assert verdicts == ["PASS"] * 3
    assert {row["name"] for row in said["rows"]} == {"control", "branches", "giant", "contracted"}
    assert all(0 <= row["map"] <= row["map50"] <= 1 and row["top1"] is None for row in said["rows"])
    evaluation = json.loads((out / "evaluation.json").read_text())
    assert (evaluation["task"], evaluation["metric"], evaluation["pictures"]) == ("detection", "mAP@0.5:0.95", 8)
    assert {"class", "box"} == set(evaluation["samples"][0]["label"][0])
    curve = json.loads((out / "curves" / "giant.json").read_text())
    assert (curve["metric"], len(curve["epochs"])) == ("mAP@0.5:0.95", 1)
    tiny, about = load_checkpoint(out / "contracted.safetensors")
    assert about.task == "detection"
    assert set(tiny(torch.zeros(1, 3, 60, 80))) == {"scores", "boxes"}
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "mAP@0.5:0.95 on the validation split" in page
    assert "data:image/png;base64" in page


@pytest.mark.group("path")
def test_the_backbone_of_a_giant_becomes_that_of_a_detector(tmp_path: Path, few: str) -> None:
    classifier = ModelReference("sample:mobilenet_v2_tiny", {"num_classes": 10, "in_channels": 3, "tf_same": True})
    tiny = classifier.build().eval()
    plan = propose(tiny, torch.zeros(1, 3, 60, 80), ratio=2, every=4)
    classes = tuple(map(str, range(10)))
    for stage, model in (("control", tiny), ("giant", expand(tiny, plan))):
        about = Checkpoint(stage, classifier, HALF, classes, plan if stage == "giant" else None)
        save_checkpoint(tmp_path / f"{stage}.safetensors", model, about)
    words = ("--from", "giant.safetensors", "--control", "control.safetensors", "--data", few, "--epochs", "2")
    detector = ("--model", "sample:detector_tiny", "--input", "3x60x80", "--batch-size", "8", "--learning-rate", "0.05")
    call("train", *words, *detector, "--part", "features", "--out", "out", cwd=tmp_path)
    for stage in ("control", "transferred", "contracted"):
        assert read_metadata(tmp_path / "out" / f"{stage}.safetensors").task == "detection"
    given, _ = load_checkpoint(tmp_path / "out" / "giant.safetensors")
    wanted = expand(tiny, plan).state_dict()
    shared = [name for name in given.state_dict() if name.startswith("features.") and "block" not in name]
    assert shared
    assert all(torch.equal(given.state_dict()[name], wanted[name]) for name in shared if name in wanted)
    # without the part the two have less in common than all but a layer
    assert "differs in more than its head" in call("train", *words, *detector, "--out", "b", status=2, cwd=tmp_path)
    nothing = call("train", *words, *detector, "--part", "neck", "--out", "b", status=2, cwd=tmp_path)
    assert "the model has no part 'neck'" in nothing
    assert not (tmp_path / "b").exists()


@pytest.mark.group("path")
def test_a_detector_is_rehearsed_on_generated_boxes(tmp_path: Path, few: str) -> None:
    (tmp_path / "recipe.toml").write_text(recipe(few))
    call("run", "recipe.toml", "--out", "out", "--dry-run", cwd=tmp_path)
    call("run", "recipe.toml", "--out", "out", "--dry-run", "--overwrite", cwd=tmp_path)


@pytest.mark.group("path")
def test_a_recipe_for_few_pictures_with_boxes_leaves_most_to_learn_from(tmp_path: Path, few: str) -> None:
    call("init", "sample:detector_tiny", "--input", "3x60x80", "--data", few, "--out", "r.toml", cwd=tmp_path)
    told = tomllib.loads((tmp_path / "r.toml").read_text())
    assert (told["data"]["calibration"], told["train"]["batch_size"], told["train"]["learning_rate"]) == (3, 16, 0.1)
    call("run", "r.toml", "--out", "out", "--dry-run", cwd=tmp_path)


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_table_of_the_benchmark_needs_no_number_of_seeds(seeds: int) -> None:
    rows = [
        {"run": kind, "seed": seed, "model": model, "map": 0.25 + 0.01 * seed * ("giant" in model), "map50": 0.5}
        for kind, models in benchmark.ROWS.items() for model in models.values() for seed in range(seeds)
    ]  # fmt: skip
    table = list(benchmark.table(rows))
    assert len(table) == 2 + 6
    assert table[2] == f"| 80 epochs | from scratch | {seeds} | 25.00 | {'0.00' if seeds > 1 else '-'} | 50.00 | - |"
    assert ("+0.50 (-5.85 to +6.85)" in table[3]) == (seeds > 1)


def test_the_recorded_table_is_on_the_page() -> None:
    rows = [json.loads(line) for line in benchmark.RESULTS.read_text().splitlines()]
    assert "\n".join(benchmark.table(rows)) in (ROOT / "docs" / "detection.md").read_text(encoding="utf-8")


def refusals(data: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {
        "a teacher": (recipe(data, '[distill]\nteacher = "giant"'), ("distill.teacher 'giant' is for classes",)),
        "a baseline of classes": (
            recipe(data, '[baselines]\ntrain = ["teacher-free"]'), ("baselines.train 'teacher-free' is for classes",)
        ),
        "other classes": (
            recipe(data).replace("num_classes = 3", "num_classes = 5"),
            ("gives scores (1, 5, 8, 10), boxes (1, 4, 8, 10) for one picture", "the data has 3 classes"),
        ),
        "a classifier": (
            recipe(data).replace("detector_tiny", "mobilenet_v2_tiny").replace("resol", "in_channels = 3, resol"),
            ("gives (1, 3) for one picture; scores (1, 3, h, w) and boxes (1, 4, h, w) are expected",),
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", refusals(""))
def test_a_recipe_that_does_not_fit_is_refused_in_a_sentence(tmp_path: Path, few: str, name: str) -> None:
    text, words = refusals(few)[name]
    (tmp_path / "recipe.toml").write_text(text)
    said = call("run", "recipe.toml", "--out", "out", status=2, cwd=tmp_path)
    assert all(word in said for word in words), said
    assert not (tmp_path / "out").exists()


def judged(*names: str, more: tuple[str, ...] = ()) -> dict[str, Any]:
    files = [str(SAMPLE / name) for name in names]
    found = json.loads(call("evaluate", *files, "--data", DATA, "--json", *more))
    return {name: row for name, row in zip(names, found["rows"], strict=True)}


@pytest.mark.group("path")
def test_the_files_of_the_sample_are_judged_by_their_boxes() -> None:
    known = {row["name"]: row for row in json.loads((SAMPLE / "evaluation.json").read_text())["rows"]}
    names = [f"exports/blood_smears.{name}" for name in ("fp32.onnx", "fp32.tflite", "int8.tflite")]
    rows = judged("chosen.safetensors", *names, more=("--reference", str(SAMPLE / "chosen.safetensors")))
    assert rows["chosen.safetensors"]["flips"] == 0
    for name in names:
        # the same file on another kind of processor may answer a bit otherwise
        assert rows[name]["map"] == pytest.approx(known[Path(name).name]["map"], abs=0.01)
        assert set(rows[name]["per_class"]) == {"platelet", "red", "white"}
    assert rows[names[0]]["map"] == pytest.approx(rows["chosen.safetensors"]["map"], abs=1e-3)


@pytest.mark.group("path")
def test_the_sample_is_verified_by_its_boxes() -> None:
    file = SAMPLE / "exports" / "blood_smears.int8-float-io.tflite"
    said = json.loads(call("verify", str(SAMPLE / "chosen.safetensors"), str(file), "--data", DATA, "--json"))
    checks = {check["name"]: check for edge in said["edges"] for check in edge["checks"]}
    assert said["verdict"] == "PASS"
    assert "boxes of both" in checks["answers that differ"]["detail"] or "of" in checks["answers that differ"]["detail"]
    assert {"SQNR, real, scores", "SQNR, real, boxes", "accuracy loss"} <= checks.keys()


def test_boxes_are_printed_and_drawn(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    file = str(SAMPLE / "exports" / "blood_smears.fp32.onnx")
    words = ("predict", file, str(PICTURE), "--out", "found.png")
    said = json.loads(call(*words, "--json", cwd=tmp_path))
    assert len(said["answers"]) > 1
    assert set(said["answers"][0]) == {"class", "score", "box"}
    assert all(0 <= side <= 1 for one in said["answers"] for side in one["box"])
    drawn, plain = image.open(tmp_path / "found.png"), image.open(PICTURE)
    assert drawn.size == (640, 480)  # four times the size of the picture
    assert drawn.convert("RGB").resize(plain.size).tobytes() != plain.convert("RGB").tobytes()
    assert "exists already" in call(*words, status=2, cwd=tmp_path)
    fewer = json.loads(call("predict", file, str(PICTURE), "--score", "0.6", "--json"))
    assert len(fewer["answers"]) < len(said["answers"])
    assert "is to be a picture; call it NAME.png" in call(*words[:-1], "found.jpg", status=2, cwd=tmp_path)
    assert "--top has no effect here" in call("predict", file, str(PICTURE), "--top", "3", status=2)


def test_data_of_another_task_is_refused() -> None:
    classifier = str(ROOT / "sample_models" / "blood_cells" / "chosen.safetensors")
    said = call("evaluate", classifier, "--data", DATA, status=2)
    assert "does classification" in said
    assert "is for detection; give data of its own task" in said
    cells = f"folder:{ROOT / 'sample_models' / 'blood_cells' / 'data'}"
    said = call("evaluate", str(SAMPLE / "chosen.safetensors"), "--data", cells, status=2)
    assert "does detection" in said
    picture = str(ROOT / "sample_models" / "blood_cells" / "data" / "test" / "red" / "0003.jpg")
    assert "--out has no effect here" in call("predict", classifier, picture, "--out", "x.png", status=2)
