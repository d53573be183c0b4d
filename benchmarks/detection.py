"""Print the mean average precision of detectors from scratch and from pictures of classes: `benchmarks/detection.py`.

With `--pictures cifar10-jpeg --work WORK` they are trained. The pictures of classes, PICTURES/{train,test}/CLASS/*,
train the sample's backbone and its giant, each at the best of three learning rates. For each seed two runs follow on
the sample's blood smears, with its recipe: one from scratch, and one that moves both to the detector, beside one from
scratch of as many epochs. Each model is judged once, on the test pictures. A seed's lines are added to
benchmarks/results/detection.jsonl once all are known; what is there is not done again, and a run that was stopped goes
on.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nbedge.benchmark.statistics import mean_interval

SAMPLE = Path(__file__).parent.parent / "sample_models" / "blood_smears"
RESULTS = Path(__file__).parent / "results" / "detection.jsonl"
#: learning rates that are tried on the pictures of classes
RATES = (0.1, 0.2, 0.4)
#: of the pictures of classes; the plan is the detector's
BEFORE = """\
name = "before"
threads = 1
[model]
reference = "sample:mobilenet_v2_tiny"
input = [3, 32, 32]
arguments = {{ num_classes = 10, in_channels = 3, resolution = 32, tf_same = true }}
[data]
source = "folder:{pictures}"
[plan]
every = 2
ratio = 4
[train]
giant_epochs = 6
plt_epochs = 1
learning_rate = {rate}
augment = ["shift", "flip"]
"""
#: run -> model of it -> row of the table; the first row of a run is what the others are compared with
ROWS = {
    "scratch": {"control": "from scratch", "giant": "giant", "contracted": "NetBooster"},
    "moved": {
        "control": "from scratch", "transferred": "backbone from classes",
        "contracted": "giant's backbone from classes, contracted",
    },
}  # fmt: skip


def recipes(work: Path) -> dict[str, str]:
    """Return the recipes of both runs: the sample's, and what makes a transfer of it."""
    before = {name: work / f"before-{best(work, name)}" / f"{name}.safetensors" for name in ("giant", "control")}
    own = (SAMPLE / "recipe.toml").read_text(encoding="utf-8").replace("coco:data", f"coco:{SAMPLE / 'data'}")
    moved = re.sub(r"\[plan\]\n(.+\n)+\n|giant_epochs.*\n", "", own).replace(
        "[train]",
        f'[transfer]\ngiant = "{before["giant"]}"\ncontrol = "{before["control"]}"\npart = "features"\n\n[train]',
    )
    return {"scratch": own, "moved": moved}


def best(work: Path, name: str) -> float:
    """Return the learning rate at which a model is best on the validation part of the pictures of classes."""

    def reached(rate: float) -> float:
        curve = json.loads((work / f"before-{rate}" / "curves" / f"{name}.json").read_text())
        return float(curve["epochs"][-1]["validation_score"])

    return max(RATES, key=reached)


def run(recipe: str, out: Path, until: str, seed: int) -> None:
    """Do a run, or go on with it, up to a stage."""
    path = out.parent / f"{out.name}.toml"
    path.write_text(recipe, encoding="utf-8")
    again = ["--resume"] if out.exists() else []
    called("run", str(path), "--out", str(out), "--until", until, "--seed", str(seed), *again, "--quiet")


def called(*words: str) -> str:
    """Return what nbedge prints."""
    command = [sys.executable, "-m", "nbedge", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def seed_rows(work: Path, seed: int) -> list[dict[str, Any]]:
    """Return a line for each model of a seed."""
    rows = []
    for kind, recipe in recipes(work).items():
        out = work / f"{kind}-{seed}"
        run(recipe, out, "verify", seed)
        paths = {str(out / f"{model}.safetensors"): name for model, name in ROWS[kind].items()}
        judged = json.loads(called("evaluate", *paths, "--data", f"coco:{SAMPLE / 'data'}", "--json"))
        for row in judged["rows"]:
            found = {key: row[key] for key in ("map", "map50", "per_class")}
            rows.append({"run": kind, "seed": seed, "model": paths[row["file"]], **found})
    return rows


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield the rows of a table: means, standard deviations, and paired differences with Student's 95 % interval."""
    yield "| training | model | n | mAP@0.5:0.95, % | sd | mAP@0.5, % | - from scratch, points (95 %) |"
    yield "|---|---|---|---|---|---|---|"
    for kind, models in ROWS.items():
        scores = {
            model: {r["seed"]: r for r in rows if (r["run"], r["model"]) == (kind, model)} for model in models.values()
        }
        first = scores[next(iter(models.values()))]
        for model, own in scores.items():
            maps = [100 * row["map"] for row in own.values()]
            half = statistics.mean(100 * row["map50"] for row in own.values())
            mean, low, high = mean_interval([100 * (own[seed]["map"] - first[seed]["map"]) for seed in own])
            apart = "-" if own is first or len(own) < 2 else f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"
            spread = f"{statistics.stdev(maps):.2f}" if len(own) > 1 else "-"
            what = "80 epochs" if kind == "scratch" else "40 epochs"
            yield (f"| {what} | {model} | {len(own)} | {statistics.mean(maps):.2f} | {spread} | {half:.2f} | {apart} |")


def main() -> int:
    parser = argparse.ArgumentParser("detection", description=__doc__)
    parser.add_argument("--pictures", type=Path, help="folder of the pictures of classes; none: print what is recorded")
    parser.add_argument("--work", type=Path, default=Path("runs/detection"), help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="seeds at once, with one thread each")
    asked = parser.parse_args()
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    if asked.pictures:
        work: Path = asked.work.resolve()
        work.mkdir(parents=True, exist_ok=True)
        wanted = sorted(set(range(asked.seeds)) - {row["seed"] for row in rows})
        with ThreadPoolExecutor(asked.jobs) as pool:
            text = {rate: BEFORE.format(pictures=asked.pictures.resolve(), rate=rate) for rate in RATES}
            list(pool.map(lambda rate: run(text[rate], work / f"before-{rate}", "giant", 0), RATES))
            print(*(f"{name}: learning rate {best(work, name)}" for name in ("control", "giant")), sep="\n")
            for found in pool.map(lambda seed: seed_rows(work, seed), wanted):
                with RESULTS.open("a") as file:
                    file.writelines(f"{json.dumps(row)}\n" for row in found)
                rows += found
    print("\n".join(table(rows)) if rows else "nothing is recorded yet; pass --pictures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
