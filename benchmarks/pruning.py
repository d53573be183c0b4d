"""Print what pruning a wider network gives beside the control and the contracted giant: `benchmarks/pruning.py`.

Each way ends at the multiply-accumulates of the tiny network, magnitude pruning at its number of parameters, and costs
about the same training: epochs times multiply-accumulates, summed over its phases, is that of the giant and its tuning,
rounded down to whole epochs. The wider network is trained once a seed and pruned in each way; its training is counted
in each. Network, pictures, optimizer and learning rate are those of the sample's recipe. The test pictures are read
once, at the end of each way.
"""

import argparse
import copy
import gzip
import math
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from nbedge import Preprocessing, contract, data, expand, measure, propose, prune_channels, prune_weights, train
from nbedge.conversion import Exported, export
from nbedge.data import Splits
from nbedge.errors import NbedgeError
from nbedge.evaluation import judge, logits_of_module, single
from nbedge.linearization import PLT
from nbedge.pruning import nonzero, settle_
from nbedge.recipe import Recipe, read
from nbedge.reference import ModelReference
from nbedge.runtime import answer_pictures, open_file
from nbedge.slopes import set_slope_
from nbedge.tracing import cost
from nbedge.training import steps_per_epoch
from sample_accuracy import NORMAL_QUANTILE, T_QUANTILES

RECIPE = Path(__file__).parent.parent / "sample_models" / "fashion_mnist" / "recipe.toml"
#: width of the network that is pruned, over that of the tiny one
WIDER = 2
#: how channels are pruned: spread over the layers, and of what the widths are multiples
STRUCTURED = (("uniform", 4), ("uniform", 1), ("global", 4))
#: share of the training cost that goes into the wide network; the rest tunes what pruning leaves
WIDE_SHARE = 0.6
#: pictures that a file is judged on before it is kept
CHECKED = 500

#: epochs, multiply-accumulates of one input
Phase = tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """What one seed works with; files go to `out`."""

    recipe: Recipe
    seed: int
    splits: Splits
    prepare: Preprocessing
    out: Path

    @property
    def example(self) -> torch.Tensor:
        """An input (1, c, h, w)."""
        return torch.zeros(1, *self.recipe.model.input)

    def network(self, wider: int = 1) -> nn.Module:
        """Return the tiny network, or one `wider` times as wide, with the weights that the seed gives."""
        torch.manual_seed(self.seed)
        arguments = dict(self.recipe.model.arguments)
        arguments["width_mult"] *= wider
        return ModelReference(self.recipe.model.reference, arguments).build()

    def macs(self, model: nn.Module) -> int:
        """Return the multiply-accumulates for one input."""
        return cost(model, self.example).macs

    def fit(self, model: nn.Module, epochs: int, plt: PLT | None = None) -> Phase:
        """Train in place and return the phase."""
        train(model, self.splits, self.prepare, self.recipe.train, epochs=epochs, seed=self.seed, plt=plt)
        return epochs, self.macs(model)


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """What one way gives."""

    name: str
    model: nn.Module
    phases: tuple[Phase, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A `Trained` judged on the test pictures: accuracies in percent, `int8` None where that file was not kept."""

    name: str
    phases: tuple[Phase, ...]
    macs: int
    parameters: int
    nonzero: int
    top1: float
    int8: float | None
    files: tuple[Path, ...]


def main() -> None:
    """Print a line a model on the way, then the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument("--epochs", type=int, default=20, help="2 or more: of the giant, and as many of its tuning")
    parser.add_argument("--format", default="onnx", help="of the files")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / str(seed) for seed in range(asked.seeds)]
        found = [list(rows(seed, asked.epochs, asked.format, place)) for seed, place in enumerate(places)]
        tables = (accuracy_table(found), differences_table(found), files_table(found[0]))
        print("\n" + "\n\n".join("\n".join(lines) for lines in tables))
    processor = sum(os.times()[:4])  # of this process and of those that convert and measure
    print(f"\n{processor / 60:.1f} minutes of processor time, {(time.perf_counter() - began) / 60:.1f} of the clock")


def rows(seed: int, epochs: int, kind: str, out: Path) -> Iterator[Row]:
    """Yield a row a way, of one seed."""
    recipe = read(RECIPE)
    splits = data.load(recipe.data.source, recipe.model.input, seed=seed, calibration=recipe.data.calibration)
    prepare = Preprocessing(recipe.model.input, *data.statistics(splits.train.sample()))
    setting = Setting(recipe, seed, splits, prepare, out)
    for trained in ways(setting, epochs):
        row = judged(setting, trained, kind)
        phases = " + ".join(str(number) for number, _ in row.phases)
        print(f"seed {seed}: {row.name}: {phases} epochs, {row.macs} MACs, {row.top1:.2f} %", flush=True)
        yield row


def ways(setting: Setting, epochs: int) -> Iterator[Trained]:
    """Train every way for what `epochs` of the giant and as many of its tuning cost."""
    contracted = boosted(setting, epochs)
    budget = spent(contracted.phases)
    tiny = setting.network()
    yield Trained("control", tiny, (setting.fit(tiny, budget // setting.macs(tiny)),))
    yield contracted
    wide = setting.network(WIDER)
    first = setting.fit(wide, int(WIDE_SHARE * budget) // setting.macs(wide))
    yield Trained("wide, not pruned", wide, (first,))
    rest, size = budget - spent((first,)), cost(tiny, setting.example)
    for spread, multiple in STRUCTURED:
        cut = prune_channels(wide, setting.example, size.macs, spread=spread, multiple=multiple)
        second = setting.fit(cut, rest // setting.macs(cut))
        yield Trained(f"structured, {spread}, widths in {multiple}s", cut, (first, second))
    masked = prune_weights(wide, size.parameters)
    second = setting.fit(masked, rest // setting.macs(wide))
    settle_(masked)
    yield Trained("magnitude", masked, (first, second))


def boosted(setting: Setting, epochs: int) -> Trained:
    """Return the contracted model: giant, tuning with PLT, contraction, as the recipe says."""
    section, tiny = setting.recipe.plan, setting.network()
    plan = propose(tiny, setting.example, ratio=section.ratio, every=section.every)
    giant = expand(tiny, plan, seed=setting.seed)
    first = setting.fit(giant, epochs)
    steps = steps_per_epoch(len(setting.splits.train), setting.recipe.train.batch_size) * epochs
    second = setting.fit(giant, epochs, PLT(0, round(setting.recipe.train.ramp * steps)))
    set_slope_(giant, 1.0)
    return Trained("contracted", contract(giant), (first, second))


def spent(phases: Sequence[Phase]) -> int:
    """Return the training cost: epochs times multiply-accumulates of a forward pass."""
    return sum(epochs * macs for epochs, macs in phases)


def judged(setting: Setting, trained: Trained, kind: str) -> Row:
    """Export, and measure module and integer file on the test pictures."""
    test, classes, model = setting.splits.test, setting.splits.classes, trained.model
    logits = logits_of_module(model, test.images, setting.prepare)
    files = tuple(kept.artifact.path for kept in exported(setting, trained, kind))
    int8 = None
    if files:
        answers = answer_pictures(open_file(files[-1]), test.images, setting.prepare)
        int8 = 100 * judge(single(answers), test.labels, classes).top1
    size = cost(model, setting.example)
    top1 = 100 * judge(logits, test.labels, classes).top1
    return Row(trained.name, trained.phases, size.macs, size.parameters, nonzero(model), top1, int8, files)


def exported(setting: Setting, trained: Trained, kind: str) -> list[Exported]:
    """Return the float and the integer file; nothing if one of them was refused."""
    held = setting.splits.validation.spread(CHECKED)
    try:
        return export(
            copy.deepcopy(trained.model), setting.example, formats=[kind], quant=["fp32", "int8"],
            calibration=setting.prepare(setting.splits.calibration.images[:]), preprocess=setting.prepare,
            classes=setting.splits.classes, check_on=setting.prepare(held.images[:]), labels=held.labels,
            out=setting.out, name=trained.name.replace(", ", "_").replace(" ", "_"),
        )  # fmt: skip
    except NbedgeError as error:
        print(f"<!-- {trained.name}: {error} -->")
        return []


def accuracy_table(found: list[list[Row]]) -> list[str]:
    """Return the lines of the table of top-1, one row a way."""
    seeds = " | ".join(f"seed {seed}" for seed in range(len(found)))
    head = f"| way | epochs | training | MACs | parameters | not 0 | {seeds} | mean | sd | int8, mean | int8, sd |"
    lines = [head, "|---" * head.count(" | ") + "|---|"]
    base = spent(found[0][0].phases)
    for same in zip(*found, strict=True):
        first, top1 = same[0], [row.top1 for row in same]
        phases = " + ".join(str(epochs) for epochs, _ in first.phases)
        cells = [first.name, phases, f"{spent(first.phases) / base:.2f}", *map(grouped, _sizes(first))]
        cells += [*(f"{value:.2f}" for value in top1), *mean_sd(top1)]
        cells += mean_sd([row.int8 for row in same if row.int8 is not None])
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _sizes(row: Row) -> tuple[int, int, int]:
    return row.macs, row.parameters, row.nonzero


def grouped(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def mean_sd(values: Sequence[float]) -> list[str]:
    if not values:
        return ["not kept", ""]
    return [f"{statistics.mean(values):.2f}", f"{statistics.stdev(values):.2f}" if len(values) > 1 else "-"]


def differences_table(found: list[list[Row]]) -> list[str]:
    """Return the lines of the table of differences from the control, seed by seed, in points."""
    lines = ["| difference | mean, points | standard error | 95 % interval |", "|---|---|---|---|"]
    for index in range(1, len(found[0])):
        values = [rows[index].top1 - rows[0].top1 for rows in found]
        mean, error = statistics.mean(values), math.nan
        if len(values) > 1:
            error = statistics.stdev(values) / math.sqrt(len(values))
        reach = T_QUANTILES.get(len(values) - 1, NORMAL_QUANTILE) * error
        interval = f"{mean - reach:+.2f} to {mean + reach:+.2f}" if len(values) > 2 else "-"
        lines.append(f"| {found[0][index].name} - control | {mean:+.2f} | {error:.2f} | {interval} |")
    return lines


def files_table(same: list[Row]) -> list[str]:
    """Return the lines of the table of the first seed's files: kB as they are and behind gzip, median latency."""
    paths = [path for row in same for path in row.files]
    times = {str(m.case.path): m.latency.median_ms for m in measure(paths) if m.latency}
    lines = ["| file | MACs | kB | gzip, kB | latency, ms |", "|---|---|---|---|---|"]
    for row in same:
        for path in row.files:
            content = path.read_bytes()
            packed = len(gzip.compress(content, 9, mtime=0))
            cells = (path.name, grouped(row.macs), f"{len(content) / 1000:.1f}", f"{packed / 1000:.1f}")
            lines.append(f"| {' | '.join(cells)} | {times[str(path)]:.3f} |")
    return lines


if __name__ == "__main__":
    main()
