"""Print how many faults are caught and how many correct pairs accepted: `benchmarks/verification_rates.py`.

The same pairs are judged by nbedge and by three usual checks of the outputs for one random batch: `torch.allclose` as
it comes, the habit of rtol 1e-3 and atol 1e-4, and Polygraphy's comparison as it comes (rtol and atol 1e-5;
`pip install polygraphy`, its row is left out where it is missing).
"""

import argparse
import copy
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import nbedge
from faults import files, merges, pairs
from nbedge.cli.subject import open_subject
from nbedge.data import load
from nbedge.errors import NbedgeError
from nbedge.runtime import Runner, answers, of_module
from nbedge.subject import Subject
from nbedge.verification import Families, families

Array = NDArray[np.float32]
Model = nn.Module | Runner
Rule = Callable[[Array, Array], bool]
DATA = {"fashion_mnist": "npz:{}/data.npz", "blood_cells": "folder:{}/data"}
MERGES, FILES, RIGHT = "faults of merges", "faults of files", "correct pairs"


@dataclass(slots=True)
class Tally:
    """How many pairs of each group were right, check by check, and which faults each check missed."""

    total: Counter[str] = field(default_factory=Counter)
    right: dict[str, Counter[str]] = field(default_factory=dict)
    missed: dict[str, list[str]] = field(default_factory=dict)

    def add(self, group: str, name: str, accepted: dict[str, bool]) -> None:
        """Count one pair."""
        self.total[group] += 1
        for check, said in accepted.items():
            right = said == (group == RIGHT)
            self.right.setdefault(check, Counter())[group] += right
            if not right and group != RIGHT:
                self.missed.setdefault(check, []).append(name)


def rules() -> dict[str, Rule]:
    """Return the checks of outputs, by name."""
    found: dict[str, Rule] = {
        "torch.allclose": lambda a, b: torch.allclose(torch.from_numpy(a), torch.from_numpy(b)),
        "rtol 1e-3, atol 1e-4": lambda a, b: bool(np.allclose(b, a, rtol=1e-3, atol=1e-4)),
    }
    try:
        found[f"Polygraphy {version('polygraphy')}"] = polygraphy()
    except PackageNotFoundError:
        print("polygraphy is not installed; pip install polygraphy adds its row\n")
    return found


def polygraphy() -> Rule:
    """Return Polygraphy's own comparison, with its defaults."""
    from polygraphy.comparator import CompareFunc, IterationResult
    from polygraphy.logger import G_LOGGER

    G_LOGGER.module_severity = G_LOGGER.CRITICAL
    compare = CompareFunc.simple()

    def judge(wanted: Array, found: Array) -> bool:
        said = compare(*(IterationResult({"output": y}) for y in (found, wanted)))
        return bool(said) and all(bool(result) for result in said.values())

    return judge


def outputs(before: Model, after: Model, shape: tuple[int, ...]) -> tuple[Array, Array] | None:
    """Return the first outputs of both for one batch of normal numbers; None where one cannot be run."""
    x = np.random.default_rng(0).standard_normal((8, *shape)).astype(np.float32)
    try:
        both = [answers(m if isinstance(m, Runner) else of_module(m.eval(), shape), x) for m in (before, after)]
    except Exception:  # what cannot be run is caught by everybody
        return None
    wanted, found = (np.ascontiguousarray(next(iter(y.values()))) for y in both)
    return (wanted, found) if wanted.shape == found.shape else None


def usual(checks: dict[str, Rule], both: tuple[Array, Array] | None) -> dict[str, bool]:
    return {name: both is not None and rule(*both) for name, rule in checks.items()}


def merged_pairs(seeds: int) -> Iterator[tuple[str, str, pairs.Pair]]:
    """Yield (group, name, pair): the faulty merges, then the correct ones."""
    whole = {inserted: pairs.pair(inserted) for inserted in pairs.INSERTED}
    for fault in merges.FAULTS:
        for inserted in fault.inserted:
            one = whole[inserted]
            copied = pairs.Pair(one.name, *copy.deepcopy((one.giant, one.tiny)), one.x)
            yield MERGES, f"{fault.name} ({inserted})", merges.made(fault, copied)
    for inserted in pairs.INSERTED:
        for regime in pairs.REGIMES:
            for seed in range(seeds):
                yield RIGHT, f"{inserted}, {regime}", pairs.pair(inserted, regime, seed)


def file_pairs(folder: Path) -> Iterator[tuple[str, str, Subject | None, Subject | None, Families]]:
    """Yield (group, name, before, after, inputs): files, the correct ones first; None, None where one was refused."""
    for sample, data in DATA.items():
        known = open_subject(str(files.exported(sample, "fp32.onnx")))
        held = load(data.format(files.SAMPLES / sample), known.pictured()).validation
        given = families(known.shape, known.preprocessing, known.prepared()(held.spread(60).images[:]))
        for name in ("fp32.onnx", "int8.onnx", "fp32.tflite", "int8.tflite"):
            source = "chosen.safetensors" if name == "fp32.onnx" else f"exports/{sample}.fp32.onnx"
            before = open_subject(str(files.SAMPLES / sample / source))
            yield RIGHT, f"{name} ({sample})", before, open_subject(str(files.exported(sample, name))), given
        for number, fault in enumerate(f for f in files.FAULTS if sample in f.samples):
            place = folder / f"{sample}{number}"
            place.mkdir()
            try:
                yield FILES, f"{fault.name} ({sample})", *files.made(fault, sample, place), given
            except NbedgeError:
                yield FILES, f"{fault.name} ({sample})", None, None, given


def count(seeds: int) -> Tally:
    """Judge every pair by every check."""
    tally, checks = Tally(), rules()
    for group, name, made in merged_pairs(seeds):
        accepted = {"nbedge": bool(nbedge.verify(made.giant, made.tiny, made.x))}
        tally.add(group, name, accepted | usual(checks, outputs(made.giant, made.tiny, pairs.SHAPE)))
    with tempfile.TemporaryDirectory() as folder:
        for group, name, before, after, given in file_pairs(Path(folder)):
            if before is None or after is None:
                tally.add(group, name, dict.fromkeys(("nbedge", *checks), False))
                continue
            try:
                accepted = {"nbedge": not files.failed(before, after, given)}
            except NbedgeError:
                accepted = {"nbedge": False}
            tally.add(group, name, accepted | usual(checks, outputs(before.model, after.model, after.shape)))
    return tally


def show(tally: Tally) -> None:
    """Print the rates, and what each check missed."""
    groups = (MERGES, FILES, RIGHT)
    heads = [f"{group} {'accepted' if group == RIGHT else 'caught'}, of {tally.total[group]}" for group in groups]
    print(f"| check | {' | '.join(heads)} |\n|---|---|---|---|")
    for check, right in tally.right.items():
        print(f"| {check} | {' | '.join(f'{right[g]} ({100 * right[g] / tally.total[g]:.0f} %)' for g in groups)} |")
    for check in tally.right:
        print(f"\n**Missed by {check}**: {'; '.join(tally.missed.get(check, [])) or 'none'}.")


def main() -> None:
    """Judge all pairs and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=6, help="correct merges of each kind (6)")
    show(count(parser.parse_args().seeds))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
