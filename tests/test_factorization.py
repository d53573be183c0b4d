"""Starts that keep what a trained model computes."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nbedge import samples
from nbedge.contraction import contract
from nbedge.errors import PlanError
from nbedge.expansion import expand
from nbedge.plan import BLOCKS, Plan, Site, fingerprint
from nbedge.proposal import propose
from nbedge.slopes import set_slope_, slopes_of

pytestmark = pytest.mark.group("algebra")

CHAINS = ("inverted_residual", "basic", "bottleneck", "linear")
LAYERS = [
    nn.Conv2d(4, 6, 1), nn.Conv2d(4, 6, 1, 2, bias=False), nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(4, 4, 3, groups=4),
    nn.Conv2d(4, 6, 3, 2, groups=2, bias=False), nn.Conv1d(4, 6, 3), nn.Conv3d(4, 6, 2), samples.Conv2dSame(4, 6, 3, 2),
    nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
]  # fmt: skip
NORMS: dict[int, Any] = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def giant_of(model: nn.Sequential, block: str, start: str, ratio: float) -> nn.Module:
    return expand(model, Plan(fingerprint(model), (Site("0", "1", block=block, ratio=ratio, start=start),)))


def behind(layer: Any) -> nn.Sequential:
    """Return the layer and a BatchNorm that has seen something."""
    number = layer.weight.ndim - 2
    norm = NORMS[number](len(layer.weight))
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return nn.Sequential(layer, norm)


def inputs(layer: Any, dtype: torch.dtype) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(3, 4, *[9] * (layer.weight.ndim - 2), dtype=dtype)


def error(giant: nn.Module, model: nn.Module, x: torch.Tensor) -> float:
    with torch.no_grad():
        wanted = model(x)
        return float((giant(x) - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("training", [True, False])
def test_a_zero_start_computes_what_the_model_did_bit_for_bit(layer: nn.Module, block: str, training: bool) -> None:
    model = behind(layer).train(training)
    giant, x = giant_of(model, block, "zero", 2), inputs(layer, torch.float32)
    assert torch.equal(giant(x), model(x))
    assert set(slopes_of(giant).values()) <= {0.0}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("block", ["basic", "linear"])
def test_a_fully_connected_layer_starts_at_zero(block: str, training: bool) -> None:
    model, x = behind(nn.Linear(4, 6)).train(training), torch.randn(5, 4)
    assert torch.equal(giant_of(model, block, "zero", 2)(x), model(x))


def test_from_a_zero_start_the_block_is_trained() -> None:
    layer = nn.Conv2d(4, 6, 3, padding=1)
    giant, x = giant_of(behind(layer), "inverted_residual", "zero", 2), inputs(layer, torch.float32)
    optimizer = torch.optim.SGD(giant.parameters(), lr=0.1)
    before = giant.get_parameter("0.chain.added.expand.weight").clone()
    for _ in range(2):
        optimizer.zero_grad()
        giant(x).pow(3).mean().backward()
        optimizer.step()
    assert not torch.equal(giant.get_parameter("0.chain.added.expand.weight"), before)


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("block", CHAINS)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 2e-6), (torch.float64, 1e-12)])
def test_a_factorized_start_computes_what_the_model_did(
    layer: nn.Module, block: str, dtype: torch.dtype, limit: float
) -> None:
    model = behind(layer).to(dtype).eval()
    ratio = 24 if block == "inverted_residual" else 2
    giant, x = giant_of(model, block, "factorized", ratio), inputs(layer, dtype)
    assert error(giant, model, x) <= limit
    assert set(slopes_of(giant).values()) <= {1.0}
    assert error(contract(giant), model, x) <= limit


@settings(max_examples=40, derandomize=True, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 6)), bias=st.booleans(),
    block=st.sampled_from(["basic", "linear"]), seed=st.integers(0, 99),
)  # fmt: skip
def test_a_fully_connected_layer_starts_factorized(shape: tuple[int, int], bias: bool, block: str, seed: int) -> None:
    torch.manual_seed(seed)
    model = behind(nn.Linear(*shape, bias)).double().eval()
    giant = giant_of(model, block, "factorized", 1)
    assert error(giant, model, torch.randn(5, shape[0], dtype=torch.float64)) <= 1e-12


@pytest.mark.parametrize(
    ("layer", "block", "ratio"),
    [
        (nn.Conv2d(4, 6, 1), "inverted_residual", 0.5),
        (nn.Conv2d(4, 6, 1), "linear", 0.75),
        (nn.Conv2d(4, 6, 3), "basic", 1),
        (nn.Conv2d(4, 6, 3), "bottleneck", 1),
        (nn.Conv2d(4, 6, 3), "inverted_residual", 5),
        (nn.Linear(4, 6), "basic", 0.5),
    ],
)
def test_a_block_too_narrow_for_the_weight_is_refused(layer: nn.Module, block: str, ratio: float) -> None:
    with pytest.raises(PlanError, match=f"site 0: at ratio {ratio:g} the {block} is too narrow"):
        giant_of(behind(layer), block, "factorized", ratio)


def test_a_weight_of_zeros_fits_into_any_block() -> None:
    layer = nn.Conv2d(4, 6, 1)
    nn.init.zeros_(layer.weight)
    model = behind(layer).double().eval()
    assert error(giant_of(model, "linear", "factorized", 0.25), model, inputs(layer, torch.float64)) <= 1e-12


def test_a_whole_net_keeps_its_answers_in_either_start() -> None:
    torch.manual_seed(0)
    model, x = samples.mobilenet_v2_tiny(width_mult=0.5).double().eval(), torch.randn(4, 1, 28, 28).double()
    for start in ("zero", "factorized"):
        giant = expand(model, propose(model, x, every=1, start=start))
        assert error(giant, model, x) <= 1e-12
        set_slope_(giant, 1.0)
        assert error(contract(giant), model, x) <= 1e-12


def test_a_random_start_gives_the_weights_up() -> None:
    layer = nn.Conv2d(4, 6, 3)
    model, x = behind(layer).eval(), inputs(layer, torch.float32)
    assert error(giant_of(model, "basic", "random", 2), model, x) > 0.1
