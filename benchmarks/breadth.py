"""Boost every architecture of `breadth.txt` and judge the contraction: `benchmarks/breadth.py --resume`.

Each network is timm's, with random weights from a seed. Its BatchNorms get random scales and shifts, and statistics
from a few pictures of ramps and noise; so do those of its giant, which is made by the default policy, at slope 1. It is
not trained, which the algebra does not need. Runs where timm is installed (`make setup-timm`); a row is written as soon
as it is known, so that a run can be stopped. Exit status 1: a result is wrong.
"""

import argparse
import gc
import json
import os

# one thread; set before torch is imported
os.environ["OMP_NUM_THREADS"] = "1"

import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import nbedge
from nbedge.blocks import expanded_blocks
from nbedge.files import write_bytes
from nbedge.slopes import set_slope_
from nbedge.survey import survey
from nbedge.tracing import cost

NETWORKS = Path(__file__).with_name("breadth.txt")
RESULTS = Path(__file__).parent / "results" / "breadth.jsonl"
#: sides of the pictures in pixels; a network is fed the smallest that it takes
SIDES = (64, 96, 128, 224, 256)
#: of max|Δ| / max|y| in float64; correct merges of the table stay far below
LIMIT = 1e-9
#: pictures of a batch and batches for the statistics; pictures that the models are compared on
PICTURES, BATCHES, COMPARED = 16, 2, 4
#: what must live as long as torchvision
_KEPT: list[Any] = []


@dataclass(slots=True)
class Row:
    """What is known of one architecture; a layer is a convolution or a fully connected one.

    Attributes:
        name: of timm.
        family: of `breadth.txt`.
        side: of the pictures, in pixels.
        layers: number of all layers; `layers_accepted` of those that can be expanded.
        pointwise: number of plain 1x1 convolutions (one group); `pointwise_accepted` likewise.
        refused: reason -> number of layers; `pointwise_refused` of plain 1x1 convolutions.
        sites: that the default policy has expanded.
        parameters: of the tiny model, then of the giant; `macs` likewise, for one picture.
        contract_s: time of the contraction as stored, in float32.
        forward_s: time of one forward pass of the giant on one picture.
        float64_error: max|Δ| / max|y| of giant and contracted model, both in float64; `float32_error` as stored.
        keys_equal: the contracted model has the keys and shapes of a new one, which loads it and answers the same.
        cost_equal: it has the parameters and multiply-accumulates of a new one.
        refusal: why there is no giant.
        wrong: what is wrong with the result.
        seconds: of everything.
    """

    name: str
    family: str
    side: int = 0
    layers: int = 0
    layers_accepted: int = 0
    pointwise: int = 0
    pointwise_accepted: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    pointwise_refused: dict[str, int] = field(default_factory=dict)
    sites: int = 0
    parameters: tuple[int, int] = (0, 0)
    macs: tuple[int, int] = (0, 0)
    contract_s: float | None = None
    forward_s: float | None = None
    float64_error: float | None = None
    float32_error: float | None = None
    keys_equal: bool | None = None
    cost_equal: bool | None = None
    refusal: str | None = None
    wrong: str | None = None
    seconds: float = 0.0


def load_timm() -> Any:
    """Return timm. It needs torchvision, whose wheel cannot load its own operators beside a torch without CUDA."""
    if torch.version.cuda is None and not _KEPT:
        stub: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for name in ("nms", "qnms"):
            stub.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(stub)
    return import_module("timm")


def families() -> dict[str, str]:
    """Return architecture -> family, in the order of the table."""
    lines = (line.partition(":") for line in NETWORKS.read_text(encoding="utf-8").splitlines() if line[:1] != "#")
    return {name: family for family, _, names in lines for name in names.split()}


def measure(name: str, family: str) -> Row:
    """Boost the architecture `name` and contract it again; whatever goes wrong stands in the row."""
    row, started = Row(name, family), time.perf_counter()
    try:
        _fill_(row)
    except nbedge.NbedgeError as error:
        row.refusal = str(error)
    except Exception as error:  # a bug, whatever it raises
        place = traceback.extract_tb(error.__traceback__)[-1]
        row.wrong = f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
    row.seconds = round(time.perf_counter() - started, 2)
    return row


def _fill_(row: Row) -> None:
    torch.manual_seed(0)
    tiny = load_timm().create_model(row.name).eval()
    row.side = _side(tiny)
    batches = [pictures(PICTURES, row.side, seed) for seed in range(BATCHES)]
    disturb_(tiny)
    calibrate_(tiny, batches)
    x = pictures(COMPARED, row.side, BATCHES)
    _survey_(row, tiny, x[:1])
    plan = nbedge.propose(tiny, x[:1])
    giant = straight_giant(tiny, plan, batches)
    costs = cost(tiny, x[:1]), cost(giant, x[:1])
    del tiny
    row.sites = len(plan.sites)
    row.parameters = costs[0].parameters, costs[1].parameters
    row.macs = costs[0].macs, costs[1].macs
    _contract_(row, giant, x)


def straight_giant(tiny: nn.Module, plan: nbedge.Plan, batches: Iterable[Tensor]) -> nn.Module:
    """Return the giant in eval mode at slope 1, its blocks disturbed, its statistics those of `batches`."""
    giant = nbedge.expand(tiny, plan)
    set_slope_(giant, 1.0)
    for _, block in expanded_blocks(giant):
        disturb_(block)
    calibrate_(giant, batches)
    return giant


def _contract_(row: Row, giant: nn.Module, x: Tensor) -> None:
    row.forward_s = min(_seconds_of_forward(giant, x[:1]) for _ in range(3))
    started = time.perf_counter()
    contracted = nbedge.contract(giant)
    row.contract_s = time.perf_counter() - started
    row.float32_error = difference(giant, contracted, x)
    fresh = load_timm().create_model(row.name).eval()
    row.cost_equal = cost(fresh, x[:1]) == cost(contracted, x[:1])
    row.keys_equal = _loads(contracted, fresh, x)
    changed = _changed(giant, contracted)
    del contracted, fresh
    giant.double()
    row.float64_error = difference(giant, nbedge.contract(giant), x.double())
    faults = {
        "keys, shapes or answers are not those of a new model": not row.keys_equal,
        "parameters or MACs are not those of a new model": not row.cost_equal,
        f"the error in float64 is above {LIMIT:g}": not row.float64_error <= LIMIT,
        f"{changed} has changed, which is no part of a site": changed is not None,
    }
    row.wrong = "; ".join(fault for fault, found in faults.items() if found) or None


def _survey_(row: Row, tiny: nn.Module, x: Tensor) -> None:
    found = survey(tiny, x)
    accepted, refused = {c.site.layer for c in found.candidates}, {r.layer: r.reason for r in found.refused}
    plain = {name for name in (*accepted, *refused) if _is_plain(tiny.get_submodule(name))}
    row.layers, row.layers_accepted = len(accepted) + len(refused), len(accepted)
    row.pointwise, row.pointwise_accepted = len(plain), len(plain & accepted)
    row.refused = dict(Counter(refused.values()))
    row.pointwise_refused = dict(Counter(reason for layer, reason in refused.items() if layer in plain))


def _is_plain(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and set(layer.kernel_size) == {1} and layer.groups == 1


def _side(model: nn.Module) -> int:
    """Return the smallest side of pictures that `model` takes."""
    for side in SIDES[:-1]:
        try:
            with torch.inference_mode():
                model(torch.zeros(1, 3, side, side))
        except (AssertionError, RuntimeError, ValueError):
            continue
        return side
    return SIDES[-1]


def pictures(count: int, side: int, seed: int) -> Tensor:
    """Return (count, 3, side, side): a ramp in each channel, and noise."""
    generator = torch.Generator().manual_seed(seed)
    slopes = torch.randn(count, 3, 2, 1, 1, generator=generator)
    axis = torch.linspace(-1, 1, side)
    ramps = slopes[:, :, 0] * axis[:, None] + slopes[:, :, 1] * axis
    return ramps + 0.5 * torch.randn(count, 3, side, side, generator=generator)


def _norms(model: nn.Module) -> list[_BatchNorm]:
    return [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]


def disturb_(model: nn.Module) -> None:
    """Give BatchNorms random scales and shifts, and the layers random biases."""
    for layer in model.modules():
        if isinstance(layer, _BatchNorm) and layer.affine:
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.5)
        elif isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.normal_(layer.bias, 0, 0.1)


def calibrate_(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the statistics of every BatchNorm to the plain mean over `batches`; leave the model in eval mode."""
    model.eval()
    momenta = {norm: norm.momentum for norm in _norms(model)}
    for norm in momenta:
        norm.train().reset_running_stats()
        norm.momentum = None
    with torch.no_grad():
        for batch in batches:
            model(batch)
    for norm, momentum in momenta.items():
        norm.momentum = momentum
    model.eval()


def difference(giant: nn.Module, contracted: nn.Module, x: Tensor) -> float:
    """Return max|Δ| / max|y|."""
    with torch.inference_mode():
        wanted, found = giant(x), contracted(x)
    return float((found - wanted).abs().max() / wanted.abs().max())


def _seconds_of_forward(model: nn.Module, x: Tensor) -> float:
    started = time.perf_counter()
    with torch.inference_mode():
        model(x)
    return time.perf_counter() - started


def _loads(contracted: nn.Module, fresh: nn.Module, x: Tensor) -> bool:
    """Return whether `fresh` takes the state of `contracted` key by key, and then answers the same."""
    state = contracted.state_dict()
    if _shapes(state) != _shapes(fresh.state_dict()):
        return False
    fresh.load_state_dict(state, strict=True)
    return difference(contracted, fresh, x) == 0


def _shapes(state: Mapping[str, Tensor]) -> list[tuple[str, torch.Size]]:
    return [(name, value.shape) for name, value in state.items()]


def _changed(giant: nn.Module, contracted: nn.Module) -> str | None:
    """Return the first key that is no part of a site and yet differs."""
    blocks = [block.site for _, block in expanded_blocks(giant)]
    own = tuple(f"{site.layer}." for site in blocks)
    means = {f"{site.norm}.running_mean" for site in blocks}
    before = giant.state_dict()
    for name, value in contracted.state_dict().items():
        if not name.startswith(own) and name not in means and not torch.equal(value, before[name]):
            return name
    return None


def read(path: Path) -> dict[str, Row]:
    """Return architecture -> row of a file of JSON lines; nothing if there is no file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {row.name: row for row in (Row(**json.loads(line)) for line in lines)}


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write the rows, one JSON object a line."""
    write_bytes(path, "".join(json.dumps(asdict(row)) + "\n" for row in rows).encode())


def run(path: Path, wanted: Sequence[str], known: dict[str, Row]) -> bool:
    """Measure the architectures `wanted` beside the rows `known`; return whether any result is wrong."""
    order = families()
    for name in wanted:
        row = known[name] = measure(name, order[name])
        write(path, [known[key] for key in order if key in known])
        print(f"{name}: {row.wrong or row.refusal or f'{row.sites} sites, {row.float64_error:.1e}'}", flush=True)
        gc.collect()
    return any(row.wrong for row in known.values())


def main() -> None:
    """Measure the chosen architectures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS, help="file of JSON lines (benchmarks/results)")
    parser.add_argument("--resume", action="store_true", help="keep the rows that are there; measure the others")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="architectures or families")
    parser.add_argument("--limit", type=int, help="measure at most so many")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    known = read(asked.out) if asked.resume or asked.only else {}
    order = families()
    chosen = [name for name, family in order.items() if not asked.only or {name, family} & set(asked.only)]
    wanted = [name for name in chosen if not (asked.resume and name in known)][: asked.limit]
    sys.exit(run(asked.out, wanted, known))


if __name__ == "__main__":
    main()
