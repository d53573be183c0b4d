"""Print how exact the contraction is, and how long it and its proof take: `benchmarks/contraction_error.py`.

Each giant is made from a seed: random gamma and beta in the inserted BatchNorms, statistics from a few passes over the
pictures of the samples, slope 1. It is not trained, which the algebra does not need.
"""

import argparse
import json
import os

# one thread; set before torch is imported
os.environ["OMP_NUM_THREADS"] = "1"

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import nbedge
from nbedge import data, samples
from nbedge.blocks import expanded_blocks
from nbedge.slopes import set_slope_

SAMPLES = Path(__file__).parent.parent / "sample_models"
FASHION = f"npz:{SAMPLES / 'fashion_mnist' / 'data.npz'}"
CELLS = f"folder:{SAMPLES / 'blood_cells' / 'data'}"


@dataclass(frozen=True, slots=True)
class Case:
    """One network, the size (c, h, w) of its input, and the pictures that it is fed."""

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, int, int]
    pictures: str


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one case; errors are end to end, max|Δ| / max|y|, `worst_site` is in units of u·B."""

    case: str
    sites: int
    inputs: int
    contract_s: float
    float64_error: float
    float32_error: float
    worst_site: float
    worst_site_limit: float | None
    verdict: str
    verify_s: float


CASES = (
    Case("sample", lambda: samples.mobilenet_v2_tiny(width_mult=0.5), (1, 28, 28), FASHION),
    Case("mobilenet_v2-0.35-96", lambda: samples.mobilenet_v2(3, 3, 96, width_mult=0.35), (3, 96, 96), CELLS),
    Case("mobilenet_v2-1.0-96", lambda: samples.mobilenet_v2(3, 3, 96), (3, 96, 96), CELLS),
)


def inputs_of(case: Case, count: int) -> Tensor:
    """Return `count` training pictures as inputs (count, c, h, w), drawn by a seed."""
    pictures = data.read(case.pictures, case.shape).train
    assert isinstance(pictures, data.Pictures)
    chosen = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(0))[:count]
    images = pictures.images[chosen.numpy()]
    return torch.from_numpy(nbedge.Preprocessing(case.shape, *data.statistics(images))(images))


def giant_of(case: Case, x: Tensor, passes: int) -> nn.Module:
    """Return the giant in eval mode at slope 1, its statistics those of `passes` batches of `x`."""
    torch.manual_seed(0)
    tiny = case.build()
    giant = nbedge.expand(tiny, nbedge.propose(tiny, x[:1]))
    set_slope_(giant, 1.0)
    for _, block in expanded_blocks(giant):
        for layer in block.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias, 0, 0.5)
    _calibrate_(giant.train(), x, passes)
    return giant.eval()


def _calibrate_(giant: nn.Module, x: Tensor, passes: int) -> None:
    norms = [layer for layer in giant.modules() if isinstance(layer, nn.BatchNorm2d)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the plain mean of all batches
    with torch.no_grad():
        for batch in x.chunk(passes):
            giant(batch)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum


def end_to_end(giant: nn.Module, tiny: nn.Module, x: Tensor) -> float:
    """Return max|Δ| / max|y|."""
    with torch.inference_mode():
        wanted, found = giant(x), tiny(x)
    return float((found - wanted).abs().max() / wanted.abs().max())


def measure(case: Case, inputs: int, passes: int) -> Row:
    """Contract the giant of `case` in both precisions and verify the merge."""
    x = inputs_of(case, 32 * passes)
    giant = giant_of(case, x, passes)
    x = x[:inputs]
    started = time.perf_counter()
    tiny = nbedge.contract(giant)
    contracted = time.perf_counter()
    judged = nbedge.verify(giant, tiny, x)
    verified = time.perf_counter()
    float32 = end_to_end(giant, tiny, x)
    giant64 = giant.double()
    float64 = end_to_end(giant64, nbedge.contract(giant64), x.double())
    site = next(check for check in judged.checks if check.name == "behaviour in float32")
    return Row(
        case.name, len(expanded_blocks(giant)), len(x), contracted - started, float64, float32, site.value, site.limit,
        str(judged.verdict), verified - contracted,
    )  # fmt: skip


def markdown(row: Row) -> str:
    """Return the row of the table."""
    limit = "none" if row.worst_site_limit is None else f"{row.worst_site_limit:.0f}"
    return (
        f"| {row.case} | {row.sites} | {row.contract_s:.2f} | {row.float64_error:.1e} | {row.float32_error:.1e} "
        f"| {row.worst_site:.2f} ({limit}) | {row.verdict} | {row.verify_s:.1f} |"
    )


HEAD = """\
| network | sites | contract, s | error in float64 | error in float32 | worst site, u·B (limit) | verdict | verify, s |
|---|---|---|---|---|---|---|---|"""


def main() -> None:
    """Measure the chosen cases and print the table, or one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [case.name for case in CASES]
    parser.add_argument("--inputs", type=int, default=64, help="pictures that the models are compared on (64)")
    parser.add_argument("--passes", type=int, default=4, help="batches of 32 pictures for the statistics (4)")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="networks")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of the table")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if not asked.json:
        print(HEAD)
    for case in (case for case in CASES if case.name in asked.only):
        row = measure(case, asked.inputs, asked.passes)
        print(json.dumps(asdict(row)) if asked.json else markdown(row), flush=True)


if __name__ == "__main__":
    main()
