"""Print how much longer a training step of the giant takes than one of its tiny model: `benchmarks/step_time.py`.

A step is what training does: forward, loss, backward, step of the optimizer, on tensors in channels-last layout.
Blocks of steps alternate (tiny, giant, tiny, giant, ...), so that other work on the machine hits both alike; the
figure is the median of the ratios of neighbouring blocks. Processor time is the one to trust on a busy machine.
"""

import argparse
import json
import os

# one thread; set before torch is imported
os.environ["OMP_NUM_THREADS"] = "1"

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional

import nbedge
from nbedge import samples
from nbedge.tracing import cost


@dataclass(frozen=True, slots=True)
class Case:
    """One network at one size: `shape` is (n, c, h, w), `steps` those of a block."""

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, int, int, int]
    steps: int


@dataclass(frozen=True, slots=True)
class Block:
    """What one block took, in ms a step."""

    cpu_ms: float
    wall_ms: float


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one case; each ratio is giant / tiny, a range is (smallest, largest) over the rounds."""

    case: str
    shape: tuple[int, int, int, int]
    rounds: int
    macs_ratio: float
    tiny_cpu_ms: float
    giant_cpu_ms: float
    cpu_ratio: float
    cpu_ratio_range: tuple[float, float]
    wall_ratio: float
    wall_ratio_range: tuple[float, float]


CASES = (
    Case("sample", lambda: samples.mobilenet_v2_tiny(width_mult=0.5), (256, 1, 28, 28), 8),
    Case("sample-96", lambda: samples.mobilenet_v2_tiny(10, 3, 96, 0.5), (32, 3, 96, 96), 8),
    Case("mobilenet_v2-0.35-96", lambda: samples.mobilenet_v2(10, 3, 96, width_mult=0.35), (32, 3, 96, 96), 2),
)


def step_of(model: nn.Module, shape: tuple[int, int, int, int]) -> Callable[[], None]:
    """Return a function that trains `model` for one step on a fixed batch of noise."""
    model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=4e-5, nesterov=True)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (shape[0],), generator=generator)

    def step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(model(x), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def time_block(step: Callable[[], None], steps: int) -> Block:
    """Run a block of `steps` steps."""
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(steps):
        step()
    return Block((time.process_time() - cpu) * 1000 / steps, (time.perf_counter() - wall) * 1000 / steps)


def measure(case: Case, rounds: int) -> Row:
    """Time tiny model and giant in turn, `rounds` times."""
    torch.manual_seed(0)
    tiny = case.build()
    example = torch.zeros(1, *case.shape[1:])
    giant = nbedge.expand(tiny, nbedge.propose(tiny, example))
    macs = cost(giant, example).macs / cost(tiny, example).macs
    steps = step_of(tiny, case.shape), step_of(giant, case.shape)
    for step in steps:  # the first steps allocate
        time_block(step, 2)
    blocks = [(time_block(steps[0], case.steps), time_block(steps[1], case.steps)) for _ in range(rounds)]
    cpu = [giant_block.cpu_ms / tiny_block.cpu_ms for tiny_block, giant_block in blocks]
    wall = [giant_block.wall_ms / tiny_block.wall_ms for tiny_block, giant_block in blocks]
    return Row(
        case.name, case.shape, rounds, macs,
        statistics.median(b.cpu_ms for b, _ in blocks), statistics.median(b.cpu_ms for _, b in blocks),
        statistics.median(cpu), (min(cpu), max(cpu)), statistics.median(wall), (min(wall), max(wall)),
    )  # fmt: skip


def markdown(row: Row) -> str:
    """Return the row of the table."""
    shape = "x".join(map(str, row.shape))
    return (
        f"| {row.case} | {shape} | {row.tiny_cpu_ms:.1f} | {row.giant_cpu_ms:.1f} "
        f"| {_ratio(row.cpu_ratio, row.cpu_ratio_range)} | {_ratio(row.wall_ratio, row.wall_ratio_range)} "
        f"| {row.macs_ratio:.2f} |"
    )


def _ratio(median: float, ends: tuple[float, float]) -> str:
    return f"{median:.2f} ({ends[0]:.2f} to {ends[1]:.2f})"


HEAD = """\
| network | batch | tiny, CPU ms a step | giant, CPU ms a step | ratio, CPU time | ratio, wall clock | ratio, MACs |
|---|---|---|---|---|---|---|"""


def main() -> None:
    """Measure the chosen cases and print the table, or one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [case.name for case in CASES]
    parser.add_argument("--rounds", type=int, default=9, help="pairs of blocks a network (9)")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="networks")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of the table")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if not asked.json:
        print(HEAD)
    for case in (case for case in CASES if case.name in asked.only):
        row = measure(case, asked.rounds)
        print(json.dumps(asdict(row)) if asked.json else markdown(row), flush=True)


if __name__ == "__main__":
    main()
