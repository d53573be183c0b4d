"""Quantization-aware tuning: the network is trained a little while, computing as its integer file will."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from nbedge.quantization.folding import copied, layers_of
from nbedge.quantization.grid import Grid, extremes, on_grid
from nbedge.tracing import tensors


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long, and how.

    Attributes:
        steps: of Adam.
        batch: inputs a step.
        rate: the first learning rate, in steps of the integer grid of each weight; it falls to 0 along a cosine.
        seed: of the order of inputs.
        every: after how many steps all inputs are answered once, to keep the best of what the network was.
    """

    steps: int = 200
    batch: int = 32
    rate: float = 0.01
    seed: int = 0
    every: int = 25


def tuned(
    module: fx.GraphModule, x: Tensor, grid: Grid, schedule: Schedule | None = None,
    progress: Callable[[int], None] = lambda _step: None,
) -> fx.GraphModule:  # fmt: skip
    """Return a folded network that was trained to answer like `module` on the grid; its weights lie on it.

    The merged weight itself is what is rounded and trained, BatchNorm folded into it (Thu et al., RepQ, BMVC 2023). It
    learns from the network's own answers, so that no labels are needed: the loss is their squared distance, of each
    output in units of its variance. A weight
    that crosses to the next step of the grid moves many answers at once, so the loss leaps to the end (by 8 dB on a
    network of the samples): what is returned is the best of what the network was, on all of `x`.

    Args:
        module: a folded network; it is left as it is.
        x: (n, ...) inputs to learn from; the ranges of activations are those of the first 128.
        grid: of the file.
        schedule: how long.
        progress: told each step.
    """
    schedule = schedule or Schedule()
    found, generator = copied(module), torch.Generator().manual_seed(schedule.seed)
    wanted = _answers(module, x, schedule.batch)
    sizes = [max(float(y.var()), 1e-12) for y in wanted]
    with torch.enable_grad():
        optimizer = torch.optim.Adam(_groups(found, x[:128], grid, schedule.rate))
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, schedule.steps)
        simulated = Simulated(found, grid, x[:128])
        best = _Best()
        for step in range(1, schedule.steps + 1):
            some = torch.randint(len(x), (min(schedule.batch, len(x)),), generator=generator)
            loss = _distance(tensors(simulated.run(x[some])), [y[some] for y in wanted], sizes)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            falling.step()
            if step % schedule.every == 0 or step == schedule.steps:
                answers = _answers(simulated.run, x, schedule.batch)
                best.offer(float(_distance(answers, wanted, sizes)), found)
            progress(step)
    best.restore(found)
    for layer in layers_of(found):
        layer.weight.requires_grad_(False).copy_(grid.weight(layer.weight))
        layer.bias.requires_grad_(False)
    return found


@torch.no_grad()
def _answers(network: Callable[[Tensor], Any], x: Tensor, batch: int) -> list[Tensor]:
    """Return each output of all inputs."""
    parts = [tensors(network(part)) for part in torch.split(x, batch)]
    return [torch.cat(each) for each in zip(*parts, strict=True)]


def _distance(found: Sequence[Tensor], wanted: Sequence[Tensor], sizes: Sequence[float]) -> Tensor:
    """Return the mean squared distances of outputs (n, ...), each in units of its `sizes`, added up."""
    each = [nn.functional.mse_loss(a, b) / size for a, b, size in zip(found, wanted, sizes, strict=True)]
    return torch.stack(each).sum()


class _Best:
    """The numbers of a network where its loss was smallest."""

    def __init__(self) -> None:
        self._loss = math.inf
        self._numbers: dict[str, Tensor] = {}

    def offer(self, loss: float, module: nn.Module) -> None:
        if loss < self._loss:
            self._loss = loss
            self._numbers = {name: number.detach().clone() for name, number in module.named_parameters()}

    @torch.no_grad()
    def restore(self, module: nn.Module) -> None:
        for name, number in module.named_parameters():
            if name in self._numbers:
                number.copy_(self._numbers[name])


def _groups(module: fx.GraphModule, x: Tensor, grid: Grid, rate: float) -> list[dict[str, Any]]:
    """Return each layer's numbers with a learning rate of their own: weights and answers of layers differ in size."""
    found, layers = [], layers_of(module)
    ranges = _ranges(module, x, {layer.node for layer in layers})
    for layer in layers:
        low, high = ranges[layer.node]
        # with more than a tenth of a step for biases the answers drift (measured on a network of the samples)
        steps = (float(grid.scales(layer.weight).mean()), 0.1 * (high - low) / 255)
        for number, step in zip((layer.weight, layer.bias), steps, strict=True):
            found.append({"params": [number.requires_grad_(True)], "lr": rate * step})
    return found


class Simulated(fx.Interpreter):
    """Runs a folded network as its integer file will compute."""

    def __init__(self, module: fx.GraphModule, grid: Grid, x: Tensor) -> None:
        """Measure the ranges of activations on x (n, ...)."""
        super().__init__(module)
        self._grid = grid
        self._layers = {layer.node: layer for layer in layers_of(module)}
        self._ranges: Mapping[fx.Node, tuple[float, float]] = _ranges(module, x, on_grid(module))

    def run_node(self, n: fx.Node) -> Any:
        """Compute one node, rounded."""
        if n in self._layers:
            (x, *_), _ = self.fetch_args_kwargs_from_env(n)
            layer = self._layers[n]
            value = layer(x, self._grid.weight(layer.weight), layer.bias)
        else:
            value = super().run_node(n)
        return self._grid.activation(value, *self._ranges[n]) if n in self._ranges else value


def _ranges(module: fx.GraphModule, x: Tensor, nodes: Collection[fx.Node]) -> dict[fx.Node, tuple[float, float]]:
    found = {}

    class Watch(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if n in nodes:
                found[n] = extremes(value)
            return value

    with torch.no_grad():
        Watch(module).run(x)
    return found
