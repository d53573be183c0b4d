"""Print what training a giant costs beyond its arithmetic: `benchmarks/training_cost.py`.

* loop: a step of `nbedge.train` with PLT, against a bare PyTorch loop over the same giant, data and optimizer.
* squeezed: a step of the giant at slope 1 with squeezed blocks, against one of the tiny model.
* giant: a step of the giant at slope 1, not squeezed, against one of the tiny model.
* PLT: `PLT.apply`, as a share of a step of the giant.
* memory: bytes kept for the backward pass, giant and squeezed against the tiny model.

Rounds alternate between the two sides of a ratio; a figure is the median of the rounds' ratios of processor time.
"""

import argparse
import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import statistics
import time
from collections.abc import Callable

import numpy as np
import pytorch_lightning as lightning
import torch
from torch import Tensor, nn
from torch.nn import functional

import nbedge
from nbedge import samples
from nbedge.blocks import squeeze_
from nbedge.data import Pictures, Splits
from nbedge.slopes import set_slope_
from nbedge.training import TrainSettings, batches, train

Shape = tuple[int, int, int, int]
CASES: dict[str, tuple[Callable[[], nn.Module], Shape]] = {
    "sample": (lambda: samples.mobilenet_v2_tiny(width_mult=0.5), (256, 1, 28, 28)),
    "sample-96": (lambda: samples.mobilenet_v2_tiny(10, 3, 96, 0.5), (32, 3, 96, 96)),
    "mobilenet_v2-0.35-96": (lambda: samples.mobilenet_v2(10, 3, 96, width_mult=0.35), (32, 3, 96, 96)),
}
#: steps of a round
STEPS = 8


class Clock(lightning.Callback):
    """Note the processor time at the end of each step."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def on_train_batch_end(self, *_arguments: object) -> None:
        """Look at the clock."""
        self.at.append(time.process_time())


def straight(giant: nn.Module) -> nn.Module:
    set_slope_(giant, 1.0)
    return giant


def stepper(model: nn.Module, shape: Shape) -> Callable[[], None]:
    model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=4e-5, nesterov=True)
    x = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (shape[0],))

    def step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(model(x), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def seconds(step: Callable[[], None], number: int = STEPS) -> float:
    started = time.process_time()
    for _ in range(number):
        step()
    return (time.process_time() - started) / number


def ratio(over: Callable[[], None], under: Callable[[], None], rounds: int) -> list[float]:
    seconds(over, 2), seconds(under, 2)
    return [seconds(over) / seconds(under) for _ in range(rounds)]


def noise(shape: Shape) -> Splits:
    count = shape[0] * STEPS
    images = np.random.default_rng(0).integers(0, 256, (count, *shape[2:], shape[1]), np.uint8)
    part = Pictures(images, np.arange(count) % 10)
    held = Pictures(images[:10], np.arange(10))
    return Splits(part, held, held, held, tuple("abcdefghij"), "noise")


def loop_ratio(giant: nn.Module, shape: Shape, rounds: int) -> list[float]:
    """Compare seconds a step of `nbedge.train` with those of a bare loop on the same batches."""
    data, channels = noise(shape), shape[1]
    prepare = nbedge.Preprocessing(shape[1:], (0.5,) * channels, (0.5,) * channels)
    settings = TrainSettings(shape[0], 1e-3)

    def ours() -> float:
        clock = Clock()
        train(giant, data, prepare, settings, epochs=1, plt=nbedge.PLT(0, STEPS), callbacks=[clock])
        return (clock.at[-1] - clock.at[0]) / (STEPS - 1)

    def bare() -> float:
        giant.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.SGD(giant.parameters(), lr=1e-3, momentum=0.9, weight_decay=4e-5, nesterov=True)
        at = []
        for x, labels in batches(data.train, prepare, shape[0], 0, settings.augment):
            optimizer.zero_grad()
            functional.cross_entropy(giant(x), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            at.append(time.process_time())
        return (at[-1] - at[0]) / (STEPS - 1)

    ours(), bare()
    return [ours() / bare() for _ in range(rounds)]


def kept(model: nn.Module, shape: Shape) -> int:
    """Return the bytes that a forward pass keeps for the backward pass, each storage once."""
    found: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        answer = model(torch.randn(shape))
    del answer
    return sum(found.values())


def measure(name: str, rounds: int) -> str:
    """Return the row of one network."""
    build, shape = CASES[name]
    torch.manual_seed(0)
    tiny = build()
    plan = nbedge.propose(tiny, torch.zeros(1, *shape[1:]))
    giant, squeezed = (straight(nbedge.expand(tiny, plan)) for _ in range(2))
    squeeze_(squeezed)
    memory = [kept(model, shape) / kept(tiny, shape) for model in (giant, squeezed)]
    step = stepper(tiny, shape)
    columns = [ratio(stepper(model, shape), step, rounds) for model in (giant, squeezed)]
    columns.append(loop_ratio(nbedge.expand(tiny, plan), shape, rounds))
    plt = nbedge.PLT(0, 10**6)
    cost = ratio(lambda: void(plt.apply(giant, 1)), stepper(giant, shape), rounds)
    shown = [f"{statistics.median(c):.3f} ({min(c):.3f} to {max(c):.3f})" for c in columns]
    return (
        f"| {name} | {' | '.join(shown)} | {100 * statistics.median(cost):.2f} % | {memory[0]:.2f} | {memory[1]:.2f} |"
    )


def void(_value: object) -> None:
    """Drop a value."""


HEAD = """\
| network | giant / tiny | squeezed / tiny | train() / bare loop | PLT.apply, of a step | kept, giant | kept, squeezed |
|---|---|---|---|---|---|---|"""


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
