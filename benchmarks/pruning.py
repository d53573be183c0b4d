"""Print what pruning a wider network gives beside the control and the contracted giant: `benchmarks/pruning.py`.

Every way ends at the multiply-accumulates of the tiny network (magnitude pruning: at its number of parameters) and
costs about the same training: epochs times multiply-accumulates, summed over its phases, is that of giant and tuning,
rounded down to whole epochs. The wider network is trained once a seed and pruned in each way; its training is counted
in each. Data, splits, optimizer and learning rate are those of the sample's recipe; the test pictures are read at the end.
"""

import argparse
import gzip
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from nbedge import Preprocessing, contract, data, expand, measure, propose, prune_channels, prune_weights
from nbedge.conversion import export
from nbedge.data import Splits
from nbedge.errors import NbedgeError
from nbedge.evaluation import judge, logits_of_module
from nbedge.linearization import PLT
from nbedge.pruning import SPREADS, settle_
from nbedge.recipe import Recipe, TrainSection, read
from nbedge.reference import ModelReference
from nbedge.runtime import answer_pictures, open_file
from nbedge.slopes import set_slope_
from nbedge.tracing import cost
from nbedge.training import steps_per_epoch, train

RECIPE = Path(__file__).parent.parent / "sample_models" / "fashion_mnist" / "recipe.toml"
#: width of the network that is pruned, over that of the tiny one
WIDER = 2
#: share of the training cost that goes into the wide network; the rest tunes what pruning leaves
WIDE_SHARE = 0.6
#: pictures that an integer file is judged on before it is kept
CHECKED = 500


@dataclass(frozen=True, slots=True)
class Row:
    """One model of one seed: `phases` are (epochs, MACs), accuracies fractions, `int8` None where no file was kept."""

    name: str
    phases: tuple[tuple[int, int], ...]
    macs: int
    parameters: int
    nonzero: int
    top1: float
    int8: float | None = None
    file: Path | None = None

    @property
    def training(self) -> int:
        """Epochs times multiply-accumulates of a forward pass."""
        return sum(epochs * macs for epochs, macs in self.phases)


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """What one seed works with."""

    recipe: Recipe
    seed: int
    splits: Splits
    prepare: Preprocessing
    out: Path

    @property
    def example(self) -> torch.Tensor:
        return torch.zeros(1, *self.recipe.model.input)

    def model(self, width: float) -> nn.Module:
        torch.manual_seed(self.seed)
        return ModelReference(self.recipe.model.reference, {**self.recipe.model.arguments, "width_mult": width}).build()

    def macs(self, model: nn.Module) -> int:
        return cost(model, self.example).macs

    def fit(self, model: nn.Module, epochs: int, plt: PLT | None = None) -> tuple[int, int]:
        """Train in place and return the phase."""
        settings = self.recipe.train
        train(model, self.splits, self.prepare, settings, epochs=epochs, seed=self.seed, plt=plt)
        return epochs, self.macs(model)


def main() -> None:
    """Print one line a model and seed on the way, then the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="0 to N - 1")
    parser.add_argument("--epochs", type=int, default=20, help="of the giant, and as many of its tuning")
    parser.add_argument("--format", default="onnx", help="of the integer files")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        rows = [list(seed_rows(seed, asked.epochs, asked.format, Path(folder) / str(seed))) for seed in range(asked.seeds)]
        print("\n".join(["", *accuracy_table(rows), "", *differences(rows), "", *file_table(rows[0])]))
    print(f"\n{(time.process_time() - began) / 60:.1f} minutes of processor time, one thread")


def seed_rows(seed: int, epochs: int, kind: str, out: Path) -> Iterator[Row]:
    """Train every way with one seed."""
    recipe = read(RECIPE)
    splits = data.load(recipe.data.source, recipe.model.input, seed=seed)
    prepare = Preprocessing(recipe.model.input, *data.statistics(splits.train.sample()))
    setting = Setting(recipe, seed, splits, prepare, out)
    ways: list[Callable[[], Iterator[tuple[str, nn.Module, tuple[tuple[int, int], ...]]]]] = [
        lambda: boosted(setting, epochs), lambda: pruned(setting, epochs),
    ]  # fmt: skip
    for way in ways:
        for name, model, phases in way():
            row = judged(setting, name, model, phases, kind)
            print(f"seed {seed}: {name}, {' + '.join(str(e) for e, _ in phases)} epochs, {100 * row.top1:.2f} %", flush=True)
            yield row
