import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nbedge import samples
from nbedge.blocks import expanded_blocks, squeeze_
from nbedge.contraction import contract
from nbedge.errors import ContractionError
from nbedge.expansion import expand
from nbedge.plan import Plan, Site, fingerprint
from nbedge.proposal import propose
from nbedge.slopes import set_slope_
from nbedge.tracing import cost
from nbedge.verification import verify

#: how BatchNorm statistics are drawn
REGIMES = ("ordinary", "gamma spread", "offset 10", "offset 10000")


class Unit(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, bias: bool, eps: float, act: type[nn.Module]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, stride, bias=bias)
        self.norm, self.act = nn.BatchNorm2d(outputs, eps), act()
        self.depthwise = nn.Conv2d(outputs, outputs, 3, padding=1, groups=outputs)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.depthwise(self.act(self.norm(self.conv(x))))
        return result


def disturb_(model: nn.Module, regime: str, generator: torch.Generator) -> None:
    """Give every BatchNorm random weights and statistics."""
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        draw = torch.rand(4, norm.num_features, generator=generator, dtype=torch.float64)
        gamma = 10 ** (6 * draw[0] - 4) if regime == "gamma spread" else 0.5 + draw[0]
        norm.weight.data.copy_(gamma * (1 - 2 * (draw[1] < 0.5).double()))
        norm.bias.data.copy_(draw[1] - 0.5)
        norm.get_buffer("running_mean").copy_(draw[2] - 0.5)
        norm.get_buffer("running_var").copy_(0.1 + draw[3])


def calibrate_(model: nn.Module, x: Tensor) -> None:
    """Set the statistics of every BatchNorm to those of x."""
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = None
        norm.reset_running_stats()
    with torch.no_grad():
        model.train()(x)
    model.eval()


def straight_giant(model: nn.Module, x: Tensor, regime: str, seed: int = 0, ratio: int = 6) -> tuple[nn.Module, Tensor]:
    """Return a giant ready to contract, and inputs of the regime."""
    generator = torch.Generator().manual_seed(seed)
    giant = expand(model, propose(model, x, ratio=ratio, every=1), seed=seed).eval()
    set_slope_(giant, 1.0)
    disturb_(giant, regime, generator)
    if regime.startswith("offset"):
        x = x + float(regime.split()[1])
        calibrate_(giant, x)
    return giant, x


def tiny_giant(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    x = torch.randn(2, 1, 28, 28)
    return straight_giant(samples.mobilenet_v2_tiny(width_mult=0.5), x, "ordinary", seed)[0]


def chain_giant() -> nn.Module:
    model = Unit(3, 4, 1, False, 1e-5, nn.ReLU6)
    return straight_giant(model, torch.randn(2, 3, 5, 5), "ordinary", ratio=2)[0]


def relative(found: Tensor, wanted: Tensor) -> float:
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


@settings(max_examples=80, derandomize=True, deadline=None)
@given(
    channels=st.tuples(st.integers(1, 8), st.integers(2, 8)),
    ratio=st.integers(1, 6),
    stride=st.integers(1, 2),
    bias=st.booleans(),
    eps=st.sampled_from([1e-3, 1e-5, 1e-6]),
    activation=st.sampled_from([nn.ReLU, nn.ReLU6]),
    regime=st.sampled_from(REGIMES),
    seed=st.integers(0, 10**6),
)
def test_the_contracted_model_is_the_giant(
    channels: tuple[int, int], ratio: int, stride: int, bias: bool, eps: float, activation: type[nn.Module],
    regime: str, seed: int,
) -> None:  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Unit(*channels, stride, bias, eps, activation).double()
        x = torch.randn(8, channels[0], 6, 6, dtype=torch.float64)
    giant, x = straight_giant(model, x, regime, seed, ratio)
    with torch.no_grad():
        assert relative(contract(giant)(x), giant(x)) <= 1e-9


def test_the_whole_net_is_the_giant() -> None:
    giant, x = tiny_giant().double(), torch.randn(16, 1, 28, 28, dtype=torch.float64)
    with torch.no_grad():
        assert relative(contract(giant)(x), giant(x)) <= 1e-12


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("regime", REGIMES)
def test_in_float32_it_is_the_float64_merge_rounded_once(regime: str, bias: bool) -> None:
    torch.manual_seed(0)
    model = Unit(5, 7, 1, bias, 1e-5, nn.ReLU6)
    giant, _ = straight_giant(model, torch.randn(4, 5, 6, 6), regime)
    exact, found = contract(copy.deepcopy(giant).double()).state_dict(), contract(giant).state_dict()
    assert all(torch.equal(value, exact[name].to(value.dtype)) for name, value in found.items())


def test_the_result_has_the_original_class_keys_and_shapes() -> None:
    fresh, tiny = samples.mobilenet_v2_tiny(width_mult=0.5), contract(tiny_giant())
    fresh.load_state_dict(tiny.state_dict(), strict=True)
    assert type(tiny) is type(fresh)
    assert list(tiny.state_dict()) == list(fresh.state_dict())
    assert str(tiny) == str(fresh)
    x = torch.randn(3, 1, 28, 28)
    assert torch.equal(fresh.eval()(x), tiny(x))


def test_the_giant_is_left_as_it_is() -> None:
    giant = tiny_giant()
    before = copy.deepcopy(giant.state_dict())
    contract(giant)
    assert len(expanded_blocks(giant)) == 6
    assert all(torch.equal(value, before[name]) for name, value in giant.state_dict().items())


def test_torch_s_own_random_state_is_not_touched() -> None:
    giant = chain_giant()
    before = torch.get_rng_state()
    contract(giant)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_result_can_be_trained_again() -> None:
    tiny = contract(chain_giant())
    assert all(parameter.requires_grad for parameter in tiny.parameters())
    tiny(torch.randn(2, 3, 5, 5)).sum().backward()


def part(giant: nn.Module, name: str) -> Tensor:
    found: Tensor = giant.state_dict()[name]
    return found


def put(name: str, layer: nn.Module) -> Callable[[nn.Module], object]:
    return lambda giant: giant.set_submodule(name, layer)


def fill(name: str, value: float) -> Callable[[nn.Module], object]:
    return lambda giant: part(giant, name).view(-1)[:1].fill_(value)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(fill("conv.chain.expand_act.slope", 0.999), "conv.chain.expand_act has slope 0.999", id="slope"),
        pytest.param(
            fill("conv.chain.depthwise_act.slope", 1 - 2**-24), "conv.chain.depthwise_act has slope", id="almost 1"
        ),
        pytest.param(nn.Module.train, "is in training mode", id="training"),
        pytest.param(lambda g: g.norm.train(), "norm is in training mode", id="outer norm in training"),
        pytest.param(
            lambda g: g.get_submodule("conv.chain.depthwise_norm").train(), "conv.chain.depthwise_norm is in", id="norm"
        ),
        pytest.param(
            fill("conv.chain.expand_norm.running_var", math.nan), "expand_norm holds .*running_var", id="NaN var"
        ),
        pytest.param(
            fill("norm.running_mean", math.inf),
            r"norm holds a value that is not finite \(running_mean\)",
            id="infinite mean",
        ),
        pytest.param(
            fill("conv.chain.project.weight", math.nan), r"conv.chain.project holds .*\(weight\)", id="NaN weight"
        ),
        pytest.param(put("conv.chain.expand_act", nn.ReLU6()), "conv.chain.expand_act is a ReLU6", id="activation"),
        pytest.param(put("conv.chain.expand_act", nn.Dropout()), "expand_act is active dropout", id="dropout"),
        pytest.param(put("conv.chain.expand_act", nn.Dropout2d()), "expand_act is active dropout", id="dropout 2d"),
        pytest.param(put("conv.chain.expand_norm", nn.GroupNorm(2, 6)), "expand_norm is a GroupNorm", id="group norm"),
        pytest.param(
            put("conv.chain.expand_norm", nn.BatchNorm2d(6, track_running_stats=False).eval()),
            "conv.chain.expand_norm keeps no running statistics",
            id="inner norm without statistics",
        ),
        pytest.param(
            put("norm", nn.BatchNorm2d(4, track_running_stats=False).eval()),
            "norm keeps no running statistics",
            id="outer norm without statistics",
        ),
    ],
)
def test_a_giant_that_is_not_one_affine_map_is_refused(spoil: Callable[[nn.Module], object], words: str) -> None:
    giant = chain_giant()
    spoil(giant)
    with pytest.raises(ContractionError, match=words):
        contract(giant)


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(ContractionError, match="no expanded block"):
        contract(samples.mobilenet_v2_tiny())


@pytest.mark.parametrize("kind", [nn.Dropout, nn.Dropout2d, nn.AlphaDropout])
def test_dropout_in_eval_mode_is_no_obstacle(kind: type[nn.Module]) -> None:
    giant, x = chain_giant().double(), torch.randn(2, 3, 5, 5, dtype=torch.float64)
    chain: nn.Sequential = giant.get_submodule("conv.chain")  # type: ignore[assignment]
    chain.append(kind().eval())
    assert relative(contract(giant)(x), giant(x)) <= 1e-9


def test_parameters_and_multiply_accumulates_are_those_of_the_tiny_model() -> None:
    giant, fresh, x = tiny_giant(), samples.mobilenet_v2_tiny(width_mult=0.5), torch.zeros(1, 1, 28, 28)
    assert cost(contract(giant), x) == cost(fresh, x)
    assert cost(giant, x).macs > cost(fresh, x).macs


def twice_expanded() -> nn.Module:
    """Return a giant of a giant: blocks inside a block, and one at a fresh site."""
    torch.manual_seed(0)
    model, x = samples.mobilenet_v2_tiny(width_mult=0.5), torch.zeros(1, 1, 28, 28)
    giant = expand(model, propose(model, x))
    chain = "features.2.conv.0.0.chain"
    sites = (
        Site(f"{chain}.expand", f"{chain}.expand_norm", block="basic", ratio=2),
        Site(f"{chain}.depthwise", f"{chain}.depthwise_norm", block="branches", ratio=2),
        Site("features.3.conv.0.0", "features.3.conv.0.1", start="zero"),
    )
    again = expand(giant, Plan(fingerprint(giant), sites)).eval()
    set_slope_(again, 1.0)
    disturb_(again, "ordinary", torch.Generator().manual_seed(1))
    return again


def test_a_giant_expanded_twice_is_contracted_at_once_and_verified() -> None:
    giant, x = twice_expanded(), torch.randn(4, 1, 28, 28)
    tiny, fresh = contract(giant), samples.mobilenet_v2_tiny(width_mult=0.5)
    fresh.load_state_dict(tiny.state_dict(), strict=True)
    assert str(tiny) == str(fresh)
    assert verify(giant, tiny, x)
    squeeze_(giant)
    assert all(torch.equal(value, tiny.state_dict()[name]) for name, value in contract(giant).state_dict().items())


def test_a_slope_inside_an_inner_block_is_named() -> None:
    giant = twice_expanded()
    part(giant, "features.2.conv.0.0.chain.expand.chain.spatial_act.slope").fill_(0.5)
    with pytest.raises(
        ContractionError, match=r"features\.2\.conv\.0\.0\.chain\.expand\.chain\.spatial_act has slope 0\.5"
    ):
        contract(giant)


class Inside(nn.Module):
    """A model that holds another, as a module of Lightning does."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.model(x)
        return result


@pytest.mark.parametrize("make", [tiny_giant, twice_expanded])
def test_a_giant_inside_another_module_is_contracted_and_verified(make: Callable[[], nn.Module]) -> None:
    giant, x = Inside(make()), torch.randn(2, 1, 28, 28)
    tiny = contract(giant)
    assert list(tiny.state_dict()) == [f"model.{n}" for n in samples.mobilenet_v2_tiny(width_mult=0.5).state_dict()]
    assert verify(giant, tiny, x)
    assert relative(tiny(x), giant(x)) < 1e-5


def walked(model: nn.Module) -> nn.Module:
    """Do as timm.utils.reparameterize_model: put what `fuse` returns in the place of each module that has it."""
    for name, child in model.named_children():
        fuse: Any = getattr(child, "fuse", None)
        if fuse:
            setattr(model, name, fuse())
        else:
            walked(child)
    return model


@pytest.mark.parametrize("make", [tiny_giant, chain_giant, twice_expanded])
def test_a_walk_that_fuses_gives_what_contract_gives(make: Callable[[], nn.Module]) -> None:
    giant = make()
    found, wanted = walked(copy.deepcopy(giant)).state_dict(), contract(giant).state_dict()
    assert list(found) == list(wanted)
    assert all(torch.equal(value, wanted[name]) for name, value in found.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_a_giant_in_half_precision_is_merged_in_float64_and_rounded_once(dtype: torch.dtype, bias: bool) -> None:
    model = Unit(5, 7, 1, bias, 1e-5, nn.ReLU6).to(dtype)
    giant, _ = straight_giant(model, torch.randn(4, 5, 6, 6, dtype=dtype), "ordinary")
    exact, tiny = contract(copy.deepcopy(giant).double()).state_dict(), contract(giant)
    assert {value.dtype for value in tiny.state_dict().values() if value.is_floating_point()} == {dtype}
    assert all(torch.equal(value, exact[name].to(value.dtype)) for name, value in tiny.state_dict().items())
    assert verify(giant, tiny, torch.randn(4, 5, 6, 6))


def test_a_bias_without_a_home_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False))
    giant = expand(model, propose(model, torch.zeros(1, 3, 5, 5), block="linear")).eval()
    contract(giant)
    giant.get_submodule("0.chain.project").register_parameter("bias", nn.Parameter(torch.ones(4)))
    with pytest.raises(ContractionError, match="0 has become a layer with a bias"):
        contract(giant)
