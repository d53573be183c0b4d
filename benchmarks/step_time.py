"""Print how much more a training step of the giant costs than one of its tiny model: `benchmarks/step_time.py`.

A step is what training does: forward, loss, backward, step of the optimizer, on one thread. The giant is measured at
slope 0.5, in the middle of PLT, and squeezed at slope 1. Each form of running (memory layout, eager or compiled) is one
row; both sides of a ratio have the same form, the last column compares the tiny model with itself, eager and in
channels-last layout.

Time: blocks of steps of the models take turns, so that other work on the machine hits all alike; the figure is the
median of the ratios of neighbouring blocks, in processor time. Memory: the most bytes that a step holds beyond
parameters, gradients of the step before and the state of the optimizer, counted by the profiler at each allocation.
`--profile` prints instead where the processor time of a step goes, by kind of operator.
"""

import argparse
import json
import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

import nbedge
from nbedge import samples
from nbedge.blocks import squeeze_
from nbedge.slopes import set_slope_
from nbedge.tracing import cost

Shape = tuple[int, int, int, int]
CASES: dict[str, tuple[Callable[[], nn.Module], Shape]] = {
    "sample": (lambda: samples.mobilenet_v2_tiny(width_mult=0.5), (256, 1, 28, 28)),
    "sample-96": (lambda: samples.mobilenet_v2_tiny(10, 3, 96, 0.5), (32, 3, 96, 96)),
    "mobilenet_v2-0.35-96": (lambda: samples.mobilenet_v2(10, 3, 96, width_mult=0.35), (32, 3, 96, 96)),
}
#: name of a form -> memory layout, and whether torch.compile runs the model
FORMS: dict[str, tuple[torch.memory_format, bool]] = {
    "contiguous": (torch.contiguous_format, False),
    "channels-last": (torch.channels_last, False),
    "contiguous, compiled": (torch.contiguous_format, True),
    "channels-last, compiled": (torch.channels_last, True),
}
MODELS = ("tiny", "giant", "squeezed")
#: steps of a block
STEPS = 4
#: kind of operator -> what its names in the profile hold; the first kind that fits counts
KINDS = {
    "convolution, backward": ("convolution_backward",),
    "convolution": ("mkldnn_convolution", "thnn_conv", "_conv_depthwise"),
    "BatchNorm, backward": ("batch_norm_backward",),
    "BatchNorm": ("batch_norm",),
    "activation": ("hardtanh", "clamp", "maximum", "lerp", "where", "threshold"),
    "sums and products": ("aten::add", "aten::mul", "aten::sum", "aten::addcmul"),
    "optimizer": ("optimizer", "_foreach"),
    "copies": ("copy_", "fill_", "zero_", "clone"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one network in one form; a ratio is (median, smallest, largest), the peaks are bytes."""

    network: str
    shape: Shape
    form: str
    rounds: int
    macs_ratio: float
    tiny_cpu_ms: float
    giant_to_tiny: tuple[float, float, float]
    squeezed_to_tiny: tuple[float, float, float]
    tiny_to_channels_last: tuple[float, float, float]
    peak: dict[str, int]


def models(name: str) -> dict[str, nn.Module]:
    """Return the tiny model, its giant in the middle of PLT and its squeezed giant."""
    build, shape = CASES[name]
    torch.manual_seed(0)
    tiny = build()
    plan = nbedge.propose(tiny, torch.zeros(1, *shape[1:]))
    giant, squeezed = (nbedge.expand(tiny, plan) for _ in range(2))
    set_slope_(giant, 0.5)
    set_slope_(squeezed, 1.0)
    squeeze_(squeezed)
    return dict(zip(MODELS, (tiny, giant, squeezed), strict=True))


def stepper(model: nn.Module, shape: Shape, form: str = "channels-last") -> Callable[[], None]:
    """Return a function that trains `model` for one step on a fixed batch of noise."""
    layout, compiled = FORMS[form]
    model.train().to(memory_format=layout)  # type: ignore[call-overload]
    run: Callable[..., Any] = torch.compile(model) if compiled else model
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=4e-5, nesterov=True)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).contiguous(memory_format=layout)
    labels = torch.randint(0, 10, (shape[0],), generator=generator)

    def step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(run(x), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def seconds(step: Callable[[], None], number: int = STEPS) -> float:
    """Return the processor seconds of a step, over `number` of them."""
    started = time.process_time()
    for _ in range(number):
        step()
    return (time.process_time() - started) / number


def profiled(step: Callable[[], None], number: int = 1) -> Any:
    """Return the profile of `number` steps, after two that allocate and compile."""
    for _ in range(2):
        step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        for _ in range(number):
            step()
    return record


def peak(step: Callable[[], None]) -> int:
    """Return the most bytes that a step holds beyond what it found."""
    events = profiled(step).profiler.kineto_results.events()
    held = most = 0
    for event in events:
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def measure(name: str, form: str, rounds: int) -> Row:
    """Time the three models in turn, `rounds` times, and the tiny one in the plain form beside them."""
    torch.compiler.reset()  # else models of one class count as recompilations of each other, and the last run eagerly
    shape, candidates = CASES[name][1], models(name)
    example = torch.zeros(1, *shape[1:])
    macs = cost(candidates["giant"], example).macs / cost(candidates["tiny"], example).macs
    steps = {model: stepper(candidates[model], shape, form) for model in MODELS}
    steps["plain"] = stepper(models(name)["tiny"], shape)
    peaks = {model: peak(steps[model]) for model in MODELS}  # the first steps allocate and compile
    seconds(steps["plain"], 2)
    blocks = [{which: seconds(step) for which, step in steps.items()} for _ in range(rounds)]

    def ratio(over: str, under: str) -> tuple[float, float, float]:
        each = [block[over] / block[under] for block in blocks]
        return statistics.median(each), min(each), max(each)

    return Row(
        name, shape, form, rounds, macs, 1000 * statistics.median(block["tiny"] for block in blocks),
        ratio("giant", "tiny"), ratio("squeezed", "tiny"), ratio("tiny", "plain"), peaks,
    )  # fmt: skip


def shown(ratio: tuple[float, float, float]) -> str:
    """Return a ratio with its range."""
    return f"{ratio[0]:.2f} ({ratio[1]:.2f} to {ratio[2]:.2f})"


def markdown(row: Row) -> str:
    """Return the row of the table."""
    held = row.peak
    cells = [
        row.network, row.form, f"{row.macs_ratio:.2f}", f"{row.tiny_cpu_ms:.1f}", shown(row.giant_to_tiny),
        shown(row.squeezed_to_tiny), f"{held['tiny'] / 1e6:.1f}", f"{held['giant'] / held['tiny']:.2f}",
        f"{held['squeezed'] / held['tiny']:.2f}", shown(row.tiny_to_channels_last),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def shares(step: Callable[[], None]) -> dict[str, float]:
    """Return kind of operator -> processor ms of a step, its children not counted."""
    total: Counter[str] = Counter()
    for event in profiled(step, STEPS).key_averages():
        name = event.key.lower()
        kind = next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), "other")
        total[kind] += event.self_cpu_time_total / 1000 / STEPS
    return dict(total)


def print_profile(name: str, form: str) -> None:
    """Print where the time of a step goes, in percent of the tiny model's step."""
    steps = [stepper(model, CASES[name][1], form) for model in models(name).values()]
    columns = [shares(step) for step in steps]
    whole = sum(columns[0].values())
    print(
        f"{name}, {form}: percent of the tiny model's step\n\n| operators | {' | '.join(MODELS)} |\n|---|---|---|---|"
    )
    for kind in (*KINDS, "other"):
        print(f"| {kind} | {' | '.join(f'{100 * column.get(kind, 0) / whole:.0f}' for column in columns)} |")
    print(f"| all | {' | '.join(f'{100 * sum(column.values()) / whole:.0f}' for column in columns)} |")


HEAD = """\
| network | form | MACs | tiny, CPU ms | giant / tiny | squeezed / tiny \
| tiny, peak MB | peak, giant | peak, squeezed | tiny / eager channels-last |
|---|---|---|---|---|---|---|---|---|---|"""


def main() -> None:
    """Measure the chosen networks and forms and print the table, or one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="blocks of each model (9)")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="networks")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS), help="memory layout, compiled or not")
    parser.add_argument("--profile", action="store_true", help="print where the time of a step goes instead")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of the table")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if not (asked.json or asked.profile):
        print(HEAD)
    for name in asked.only:
        for form in asked.forms:
            if asked.profile:
                print_profile(name, form)
                continue
            row = measure(name, form, asked.rounds)
            print(json.dumps(asdict(row)) if asked.json else markdown(row), flush=True)


if __name__ == "__main__":
    main()
