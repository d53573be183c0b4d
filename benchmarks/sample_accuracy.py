"""Print accuracy over seeds and seconds per stage of finished runs: `benchmarks/sample_accuracy.py RUN_DIR...`.

The runs must have the same recipe up to the seed. A difference is taken seed by seed, since two models of one seed
share their pictures, and the weights that they begin with outside the expanded layers.
"""

import argparse
import json
import math
import statistics
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: 97.5 % quantiles of Student's t by degrees of freedom; beyond the last, that of the normal distribution is near
T_QUANTILES = {2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
NORMAL_QUANTILE = 1.960


@dataclass(frozen=True, slots=True)
class Run:
    """One finished run: top-1 in percent by model, seconds by stage; `settings` is its recipe without the seed."""

    folder: Path
    seed: int
    settings: dict[str, Any]
    pictures: int
    top1: dict[str, float]
    seconds: dict[str, float]


class UnusableRunsError(Exception):
    """The folders given cannot be summarised together."""


def read(folder: Path) -> Run:
    """Read one run directory."""
    try:
        recipe = tomllib.loads((folder / "recipe.toml").read_text(encoding="utf-8"))
        evaluation = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise UnusableRunsError(f"{folder} is no finished run directory ({error})") from error
    top1 = {row["name"]: 100 * row["top1"] for row in evaluation["rows"]}
    seconds = {name: stage["seconds"] for name, stage in manifest["stages"].items()}
    return Run(folder, recipe.pop("seed"), recipe, evaluation["pictures"], top1, seconds)


def check(runs: list[Run]) -> None:
    """Refuse runs that are no repetitions of each other."""
    for run in runs[1:]:
        if run.settings != runs[0].settings or run.top1.keys() != runs[0].top1.keys():
            raise UnusableRunsError(f"{run.folder} and {runs[0].folder} differ in more than the seed")
    seeds = [run.seed for run in runs]
    if len(set(seeds)) < len(seeds):
        raise UnusableRunsError(f"the seeds are {', '.join(map(str, seeds))}; each may be there once")


def accuracy_table(runs: list[Run]) -> list[str]:
    """Return the lines of the table of top-1, one row a model or file."""
    seeds = " | ".join(f"seed {run.seed}" for run in runs)
    lines = [f"| model or file | {seeds} | mean | sd |", "|---" * (len(runs) + 3) + "|"]
    for name in runs[0].top1:
        found = [run.top1[name] for run in runs]
        cells = " | ".join(f"{value:.2f}" for value in found)
        lines.append(f"| {name} | {cells} | {statistics.mean(found):.2f} | {_sd(found)} |")
    return lines


def differences_table(runs: list[Run]) -> list[str]:
    """Return the lines of the table of paired differences in points, with standard error and 95 % interval."""
    files = [name for name in runs[0].top1 if name not in ("control", "giant", "contracted")]
    pairs = [("contracted", "control"), ("giant", "control"), *((file, "contracted") for file in files)]
    lines = ["| difference | mean, points | standard error | 95 % interval |", "|---|---|---|---|"]
    for after, before in pairs:
        found = [run.top1[after] - run.top1[before] for run in runs]
        lines.append(f"| {after} - {before} | {statistics.mean(found):+.2f} | {_error_and_interval(found)} |")
    return lines


def _sd(values: list[float]) -> str:
    return f"{statistics.stdev(values):.2f}" if len(values) > 1 else "-"


def _error_and_interval(values: list[float]) -> str:
    if len(values) < 2:
        return "- | -"
    error = statistics.stdev(values) / math.sqrt(len(values))
    if len(values) < 3:
        return f"{error:.2f} | -"
    reach = T_QUANTILES.get(len(values) - 1, NORMAL_QUANTILE) * error
    mean = statistics.mean(values)
    return f"{error:.2f} | {mean - reach:+.2f} to {mean + reach:+.2f}"


def seconds_table(runs: list[Run]) -> list[str]:
    """Return the lines of the table of seconds per stage, wall clock: median and range over the runs."""
    lines = ["| stage | seconds, median | range |", "|---|---|---|"]
    stages = [stage for stage in runs[0].seconds if all(stage in run.seconds for run in runs)]
    rows = {stage: [run.seconds[stage] for run in runs] for stage in stages}
    rows["all"] = [sum(run.seconds[stage] for stage in stages) for run in runs]
    for stage, found in rows.items():
        lines.append(f"| {stage} | {statistics.median(found):.1f} | {min(found):.1f} to {max(found):.1f} |")
    return lines


def main() -> int:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", metavar="RUN_DIR", nargs="+", type=Path, help="finished runs, one a seed")
    asked = parser.parse_args()
    try:
        runs = sorted((read(folder) for folder in asked.folders), key=lambda run: run.seed)
        check(runs)
    except UnusableRunsError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"Top-1 in percent on {runs[0].pictures} test pictures; seeds: {len(runs)}\n")
    print("\n".join([*accuracy_table(runs), "", *differences_table(runs), "", *seconds_table(runs)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
