"""Giants and what they contract to: correct pairs of every kind of block, in every condition of their BatchNorms."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import nbedge
from nbedge.blocks import expanded_blocks
from nbedge.selection import parse
from nbedge.slopes import set_slope_

SHAPE = (3, 12, 12)


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A giant at slope 1 and its contracted model, with the inputs that they are compared on.

    Attributes:
        name: of network and block.
        giant: the reference.
        tiny: the candidate.
        x: (n, c, h, w) inputs.
    """

    name: str
    giant: nn.Module
    tiny: nn.Module
    x: Tensor


class Residual(nn.Module):
    """A small network with all that sites come in: k x k, depthwise, grouped, strided, with bias, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(8, eps=1e-3)
        self.expand = nn.Conv2d(8, 16, 1, bias=False)
        self.expand_norm = nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 16, 3, 1, 1, groups=16, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(16)
        self.project = nn.Conv2d(16, 8, 1, groups=2, bias=True)
        self.project_norm = nn.BatchNorm2d(8)
        self.square = nn.Conv2d(8, 8, 1, bias=False)
        self.square_norm = nn.BatchNorm2d(8)
        self.classifier = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) -> (n, 5)."""
        x = nn.functional.relu6(self.stem_norm(self.stem(x)))
        y = nn.functional.relu6(self.expand_norm(self.expand(x)))
        y = nn.functional.relu6(self.depthwise_norm(self.depthwise(y)))
        x = x + self.project_norm(self.project(y))
        x = x + self.square_norm(self.square(x))
        answer: Tensor = self.classifier(x.mean((2, 3)))
        return answer


def _norms(giant: nn.Module) -> Iterator[_BatchNorm]:
    return (module for module in giant.modules() if isinstance(module, _BatchNorm))


def calibrated(giant: nn.Module) -> None:
    """Leave the BatchNorms as the pictures have set them."""


def spread(giant: nn.Module) -> None:
    """Scales over six decades."""
    for norm in _norms(giant):
        norm.weight.data = 10 ** (6 * torch.rand_like(norm.weight) - 4)


def dead(giant: nn.Module) -> None:
    """A quarter of the channels has hardly any variance."""
    for norm in _norms(giant):
        assert norm.running_var is not None
        chosen = torch.rand_like(norm.running_var) < 0.25
        norm.running_var[chosen] = 10 ** (6 * torch.rand(int(chosen.sum())) - 12)


def shifted(sigmas: float) -> Callable[[nn.Module], None]:
    """Return a regime in which means lie `sigmas` deviations away from 0."""

    def apply(giant: nn.Module) -> None:
        for norm in _norms(giant):
            mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
            mean.copy_(sigmas * variance.sqrt() * torch.sign(torch.randn_like(variance)))

    return apply


REGIMES: dict[str, Callable[[nn.Module], None]] = {
    "calibrated": calibrated, "scales over 6 decades": spread, "dead channels": dead, "mean = 10 sigma": shifted(10),
    "mean = 1e3 sigma": shifted(1e3), "mean = 1e4 sigma": shifted(1e4),
}  # fmt: skip
#: what is inserted: (block, ratio, shortcut)
INSERTED = {
    "inverted_residual": ("inverted_residual", 4.0, False), "basic": ("basic", 2.0, False),
    "bottleneck": ("bottleneck", 2.0, False), "linear": ("linear", 2.0, False), "branches": ("branches", 2.0, False),
    "shortcut": ("inverted_residual", 3.0, True),
}  # fmt: skip


def pair(inserted: str, regime: str = "calibrated", seed: int = 0) -> Pair:
    """Return a correct pair: every layer that can be is expanded, the BatchNorms see noise, then the regime is set."""
    block, ratio, shortcut = INSERTED[inserted]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        x = torch.randn(16, *SHAPE)
        tiny = Residual()
        sites = "name:square" if shortcut else "name:*"
        plan = nbedge.propose(tiny, x, ratio=ratio, choose=parse(sites), block=block, shortcut=shortcut)
        giant = nbedge.expand(tiny, plan, seed=seed)
        set_slope_(giant, 1.0)
        with torch.no_grad():
            for _ in range(20):
                giant.train()(torch.randn(32, *SHAPE))
            for norm in _norms(giant):
                norm.weight.data.uniform_(0.5, 1.5)
                norm.bias.data.normal_(0, 0.5)
            REGIMES[regime](giant)
    giant.eval()
    return Pair(f"{inserted}, {regime}", giant, nbedge.contract(giant), x)


def sites(giant: nn.Module) -> list[str]:
    """Return the paths of the giant's blocks."""
    return [name for name, _ in expanded_blocks(giant)]
