"""Print what nbedge adds to the arithmetic of a training step: `benchmarks/training_cost.py`.

* loop: a step of `nbedge.train` with PLT, against a bare PyTorch loop over a hand-written giant of the same modules,
  on the same batches, with the same optimizer.
* PLT: `PLT.apply`, as a share of a step of the giant.

Rounds alternate between the two sides of a ratio; a figure is the median of the rounds' ratios of processor time.
`step_time.py` beside this file compares the arithmetic itself: giant and squeezed giant with the tiny model.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import numpy as np
import pytorch_lightning as lightning
import torch
from torch import Tensor, nn
from torch.nn import functional

import nbedge
from nbedge.blocks import expanded_blocks
from nbedge.data import Pictures, Splits
from nbedge.slopes import sloped_activations
from nbedge.training import TrainSettings, batches, train
from step_time import CASES, Shape, models, seconds, stepper

#: steps of a round
STEPS = 8


class Clock(lightning.Callback):
    """Note the processor time at the end of each step."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def on_train_batch_end(self, *_arguments: object) -> None:
        """Look at the clock."""
        self.at.append(time.process_time())


def ratio(over: Callable[[], None], under: Callable[[], None], rounds: int) -> list[float]:
    seconds(over, 2), seconds(under, 2)
    return [seconds(over) / seconds(under) for _ in range(rounds)]


def noise(shape: Shape) -> Splits:
    count = shape[0] * STEPS
    images = np.random.default_rng(0).integers(0, 256, (count, *shape[2:], shape[1]), np.uint8)
    part = Pictures(images, np.arange(count) % 10)
    held = Pictures(images[:10], np.arange(10))
    return Splits(part, held, held, held, tuple("abcdefghij"), "noise")


class HandWritten(nn.Module):
    """(1 - a) f(x) + a x as one writes it down, the slope a number of Python."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation
        self.slope = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Map x elementwise."""
        straightened: Tensor = (1 - self.slope) * self.activation(x) + self.slope * x
        return straightened


def by_hand(giant: nn.Module) -> tuple[nn.Module, list[HandWritten]]:
    """Return a copy of `giant` of plain torch modules, and its activations with a slope."""
    plain = copy.deepcopy(giant)
    for name, block in expanded_blocks(plain):
        plain.set_submodule(name, block.chain)
    written = []
    for name, activation in sloped_activations(plain):
        written.append(HandWritten(activation.activation))
        plain.set_submodule(name, written[-1])
    return plain, written


def loop_ratio(giant: nn.Module, shape: Shape, rounds: int) -> list[float]:
    """Compare seconds a step of `nbedge.train` with those of a bare loop over the hand-written giant."""
    data, channels = noise(shape), shape[1]
    prepare = nbedge.Preprocessing(shape[1:], (0.5,) * channels, (0.5,) * channels)
    settings = TrainSettings(shape[0], 1e-3)
    plain, activations = by_hand(giant)
    plain.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(plain.parameters(), lr=1e-3, momentum=0.9, weight_decay=4e-5, nesterov=True)

    def ours() -> float:
        clock = Clock()
        train(giant, data, prepare, settings, epochs=1, plt=nbedge.PLT(0, STEPS), callbacks=[clock])
        return (clock.at[-1] - clock.at[0]) / (STEPS - 1)

    def bare() -> float:
        at = []
        for step, (x, labels) in enumerate(batches(data.train, prepare, shape[0], 0, settings.augment)):
            for activation in activations:
                activation.slope = step / STEPS
            optimizer.zero_grad()
            functional.cross_entropy(plain(x), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            at.append(time.process_time())
        return (at[-1] - at[0]) / (STEPS - 1)

    ours(), bare()
    return [ours() / bare() for _ in range(rounds)]


def plt_ratio(giant: nn.Module, shape: Shape, rounds: int) -> list[float]:
    """Compare `PLT.apply` with a step of the giant."""
    plt = nbedge.PLT(0, 10**6)

    def apply() -> None:
        plt.apply(giant, 1)

    return ratio(apply, stepper(giant, shape), rounds)


def measure(name: str, rounds: int) -> str:
    """Return the row of one network."""
    shape, giant = CASES[name][1], models(name)["giant"]
    loop, plt = loop_ratio(giant, shape, rounds), plt_ratio(giant, shape, rounds)
    return (
        f"| {name} | {statistics.median(loop):.3f} ({min(loop):.3f} to {max(loop):.3f}) "
        f"| {100 * statistics.median(plt):.2f} % |"
    )


HEAD = """\
| network | train() / bare loop | PLT.apply, of a step |
|---|---|---|"""


def main() -> None:
    """Measure the chosen networks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="pairs of blocks a ratio (9)")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="networks")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(HEAD)
    for name in asked.only:
        print(measure(name, asked.rounds), flush=True)


if __name__ == "__main__":
    main()
