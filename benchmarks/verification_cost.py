"""Print what the proof of a merge costs, against the forward passes it must make: `benchmarks/verification_cost.py`.

The passes are those of giant and contracted model, in float32 and once more in float64, on the same inputs. Each
network is measured in a fresh process, on one thread; memory is the highest resident size above that before the proof.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import torch
from torch import nn

import nbedge
from nbedge import samples
from nbedge.slopes import set_slope_

CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "sample": (lambda: samples.mobilenet_v2_tiny(width_mult=0.5), (1, 28, 28)),
    "mobilenet_v2-1.0-96": (lambda: samples.mobilenet_v2(10, 3, 96, width_mult=1.0), (3, 96, 96)),
    "mobilenet_v2-1.0-224": (lambda: samples.mobilenet_v2(1000, 3, 224, width_mult=1.0), (3, 224, 224)),
}
#: inputs, as many as a run proves its merge on
INPUTS = 128
HEAD = "| network | passes, s | verify, s | ratio | memory, MB | verdict |\n|---|---|---|---|---|---|"


def resident(key: str) -> float:
    """Return a figure of /proc/self/status in MB: VmRSS, or VmHWM, the highest so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1000


def passes(giant: nn.Module, tiny: nn.Module, x: torch.Tensor) -> float:
    """Return the seconds of one forward pass of each model in each of the two types."""
    started = time.perf_counter()
    with torch.inference_mode():
        for dtype in (torch.float32, torch.float64):
            for model in (giant, tiny):
                model.to(dtype)(x.to(dtype))
                model.float()
    return time.perf_counter() - started


def measure(name: str) -> str:
    """Return the row of one network."""
    build, shape = CASES[name]
    torch.manual_seed(0)
    tiny, x = build(), torch.randn(INPUTS, *shape)
    giant = nbedge.expand(tiny, nbedge.propose(tiny, x[:1]))
    set_slope_(giant, 1.0)
    giant.eval()
    contracted = nbedge.contract(giant)
    passes(giant, contracted, x[:2])
    forward = passes(giant, contracted, x)
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before, started = resident("VmRSS"), time.perf_counter()
    judged = nbedge.verify(giant, contracted, x)
    took = time.perf_counter() - started
    memory = resident("VmHWM") - before
    return f"| {name} | {forward:.2f} | {took:.2f} | {took / forward:.1f} | {memory:.0f} | {judged.verdict} |"


def main() -> None:
    """Measure the chosen networks, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="networks")
    parser.add_argument("--here", action="store_true", help="in this process")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.here:
        print("\n".join(measure(name) for name in asked.only), flush=True)
        return
    print(HEAD, flush=True)
    for name in asked.only:
        subprocess.run([sys.executable, __file__, "--here", "--only", name], check=True)


if __name__ == "__main__":
    main()
