"""Remedies of float networks: each keeps what it must keep, on networks of every shape that it may meet."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nbedge.errors import ExportError
from nbedge.quantization import Grid, Schedule, corrected, equalized, folded, layers_of, rounded, tuned
from nbedge.quantization.equalization import BOUND
from nbedge.quantization.grid import on_grid, operator_name
from nbedge.quantization.tuning import Simulated


class Residual(nn.Module):
    """Convolutions, one of them depthwise, a sum, and a classifier; `act` decides whether channels may be scaled."""

    def __init__(self, act: Callable[[], nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), act())
        self.depthwise = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), act())
        self.project = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(8, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        answer: Tensor = self.head(x + self.project(self.depthwise(x)))
        return answer


class Twice(nn.Module):
    """One layer that is called twice, a BatchNorm behind no layer, and a convolution without a module."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.layer = nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3, padding=1)
        self.weight = nn.Parameter(torch.randn(4, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.layer(self.norm(x)), inplace=True)
        return functional.conv2d(functional.hardswish(self.layer(x)), self.weight).mean((2, 3))


NETS: dict[str, Callable[[], nn.Module]] = {
    "residual": Residual,
    "clipped": lambda: Residual(nn.ReLU6),
    "twice": Twice,
    "grouped": lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=2), nn.Flatten()),
    "sequence": lambda: nn.Sequential(nn.Flatten(2), nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(1)),
}


def net_of(name: str) -> tuple[nn.Module, Tensor]:
    """Return a network with statistics of its own, in eval mode, and inputs."""
    torch.manual_seed(0)
    net, x = NETS[name](), torch.randn(16, 3, 9, 9)
    net.train()
    for _ in range(5):
        net(torch.randn(16, 3, 9, 9))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.01, 4)
    return net.eval(), x


@pytest.mark.parametrize("name", NETS)
def test_a_folded_network_computes_the_same(name: str) -> None:
    net, x = net_of(name)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    module = folded(net, (3, 9, 9))
    with torch.no_grad():
        torch.testing.assert_close(module(x), net(x), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    norms = [node for node in module.graph.nodes if "batch_norm" in operator_name(node)]
    assert len(norms) == (1 if name == "twice" else 0)  # none but the one with no layer before it


def test_a_layer_that_is_called_twice_gets_numbers_for_each_call() -> None:
    layers = layers_of(folded(net_of("twice")[0], (3, 9, 9)))
    assert len(layers) == 3
    assert len({id(layer.weight) for layer in layers}) == 3


def test_a_weight_that_is_computed_is_refused() -> None:
    net = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 1))
    with pytest.raises(ExportError, match="weights of conv2d are computed; give a model with plain weights"):
        folded(nn.Sequential(net, nn.Flatten()), (3, 9, 9))


@pytest.mark.parametrize("name", NETS)
def test_equalization_keeps_the_answers(name: str) -> None:
    net, x = net_of(name)
    found = equalized(folded(net, (3, 9, 9)), x)
    with torch.no_grad():
        torch.testing.assert_close(found.module(x), net(x), rtol=1e-3, atol=1e-4)
    assert {"residual": (2, 0), "clipped": (0, 3), "grouped": (0, 2)}.get(name, (found.tensors, found.skipped)) == (
        found.tensors,
        found.skipped,
    )


class Watch(torch.fx.Interpreter):
    """Keeps what each node computes."""

    def __init__(self, module: torch.fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[str, Any] = {}

    def run_node(self, n: torch.fx.Node) -> Any:
        self.values[n.name] = super().run_node(n)
        return self.values[n.name]


def spread(module: torch.fx.GraphModule, x: Tensor, name: str) -> float:
    """Return the largest channel of a value over the smallest."""
    watch = Watch(module)
    with torch.no_grad():
        watch.run(x)
    sizes = watch.values[name].abs().amax((0, 2, 3))
    return float(sizes.max() / sizes.min())


def test_equalization_brings_channels_to_like_sizes() -> None:
    net, x = net_of("residual")
    before = folded(net, (3, 9, 9))
    after = equalized(before, x).module
    assert spread(after, x, "relu_1") < spread(before, x, "relu_1") / 2


def test_a_channel_is_scaled_by_no_more_than_the_bound_all_rounds_together() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Conv2d(3, 2, 1), nn.Flatten())
    with torch.no_grad():
        for layer in (net[0], net[2]):
            layer.bias.zero_()  # type: ignore[operator]
            layer.weight.fill_(1)  # type: ignore[operator]
        net[0].weight *= torch.tensor([1e-12, 1, 1e12]).reshape(3, 1, 1, 1)  # type: ignore[operator]
    module = folded(net.eval(), (1, 4, 4))
    after = layers_of(equalized(module, torch.rand(16, 1, 4, 4)).module)[0]
    factors = (after.weight / layers_of(module)[0].weight).flatten()
    torch.testing.assert_close(factors, torch.tensor([BOUND, 1, 1 / BOUND]), rtol=1e-2, atol=0)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("bits", [8, 16])
def test_remedies_of_weights_bring_rounded_answers_nearer(name: str, bits: int) -> None:
    net, x = net_of(name)
    module, grid = folded(net, (3, 9, 9)), Grid(7, bits)  # so coarse that rounding is what errs
    wanted = module(x).detach()

    def error(found: torch.fx.GraphModule) -> float:
        with torch.no_grad():
            return float((Simulated(found, grid, x).run(x) - wanted).square().mean())

    plain = error(module)
    assert error(corrected(module, x, grid)) < plain
    assert error(rounded(module, x, grid)) < plain
    with torch.no_grad():
        assert torch.equal(module(x), wanted)  # the network itself is left as it is


def test_tuning_brings_rounded_answers_nearer() -> None:
    net, x = net_of("residual")
    module, grid = folded(net, (3, 9, 9)), Grid(31)
    with torch.no_grad():
        before, after = (Simulated(m, grid, x).run(x) for m in (module, tuned(module, x, grid)))
        assert float((after - module(x)).square().mean()) < float((before - module(x)).square().mean())


@pytest.mark.parametrize("largest", [127, 64])
def test_remedied_weights_lie_on_the_grid_where_any_quantizer_leaves_them(largest: int) -> None:
    net, x = net_of("residual")
    module, grid = folded(net, (3, 9, 9)), Grid(largest)
    for found in (rounded(module, x, grid), tuned(module, x, grid, Schedule(steps=5))):
        for layer, before in zip(layers_of(found), layers_of(module), strict=True):
            steps = layer.weight.detach() / grid.scales(layer.weight)
            assert float((steps - steps.round()).abs().max()) < 1e-3
            assert int(steps.abs().max().round()) == largest
            assert not torch.equal(layer.weight, before.weight)
    kept = zip(layers_of(rounded(module, x, grid)), layers_of(module), strict=True)
    for layer, before in kept:  # up or down, never further
        assert float(((layer.weight - before.weight) / grid.scales(before.weight)).abs().max()) <= 1.001


def test_the_same_seed_gives_the_same_weights() -> None:
    net, x = net_of("residual")
    module, grid = folded(net, (3, 9, 9)), Grid()
    for remedy in (rounded, lambda m, x, g: tuned(m, x, g, Schedule(steps=5))):
        first, second = ([layer.weight for layer in layers_of(remedy(module, x, grid))] for _ in range(2))
        assert all(map(torch.equal, first, second))


def test_values_inside_a_fused_activation_are_not_rounded() -> None:
    nodes = on_grid(folded(net_of("residual")[0], (3, 9, 9)))
    names = {node.name for node in nodes}
    assert {"x", "relu", "relu_1", "conv2d_2", "linear"} <= names
    assert "add" in {operator_name(node) for node in nodes}
    assert names.isdisjoint({"conv2d", "conv2d_1", "view"})


@pytest.mark.parametrize(
    ("bits", "low", "high", "step", "held"),
    [(8, -1.0, 1.55, 0.01, 1.55), (16, -2.0, 1.0, 2 / 32767, 2.0), (8, 3.0, 5.1, 0.02, 5.1)],
)
def test_an_activation_s_grid_holds_its_range_and_zero(
    bits: int, low: float, high: float, step: float, held: float
) -> None:
    grid = Grid(bits=bits)
    x = torch.tensor([0.0, low, high, step, 10 * step, 100.0], requires_grad=True)
    y = grid.activation(x, low, high)
    torch.testing.assert_close(y.detach()[:5], x.detach()[:5], atol=step / 2 + 1e-6, rtol=0)
    assert float(y.detach()[0]) == 0
    assert float(y.detach()[5]) == pytest.approx(held, abs=step)
    y.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.tolist()[3:] == [1, 1, 0]  # nothing learns from what is clipped
