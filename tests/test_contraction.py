import copy
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nbedge import samples
from nbedge.blocks import Expanded, expanded_blocks
from nbedge.contraction import AffineMap, compose, contract, merge, of_conv, scale_shift, then_norm
from nbedge.errors import ContractionError
from nbedge.expansion import expand
from nbedge.linearization import set_slope_
from nbedge.proposal import propose

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
    return float((found - wanted).abs().max() / wanted.abs().max())


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


def conv_pairs() -> list[tuple[nn.Conv2d, nn.Conv2d]]:
    return [
        (nn.Conv2d(4, 6, 1), nn.Conv2d(6, 5, 1, bias=False)),
        (nn.Conv2d(4, 6, 1), nn.Conv2d(6, 6, 3, groups=6)),
        (nn.Conv2d(4, 6, (3, 2), groups=2), nn.Conv2d(6, 9, 1, groups=3)),
        (nn.Conv2d(4, 4, 5, groups=4, bias=False), nn.Conv2d(4, 8, 1)),
        (nn.Conv2d(4, 8, 1, groups=4), nn.Conv2d(8, 4, (1, 3), groups=2, stride=2)),
    ]


@pytest.mark.parametrize("index", range(5))
def test_two_convolutions_compose_with_groups_and_kernels(index: int) -> None:
    torch.manual_seed(index)
    first, second = (conv.double() for conv in conv_pairs()[index])
    x = torch.randn(3, 4, 9, 9, dtype=torch.float64)
    found = compose(of_conv(first), of_conv(second))
    with torch.no_grad():
        answers = nn.functional.conv2d(x, found.weight, found.bias, stride=second.stride)
        torch.testing.assert_close(answers, second(first(x)), rtol=1e-12, atol=1e-12)


def test_two_large_kernels_do_not_compose() -> None:
    with pytest.raises(ContractionError, match="two kernels larger than 1"):
        compose(of_conv(nn.Conv2d(2, 2, 3)), of_conv(nn.Conv2d(2, 2, 3)))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("groups", [1, 3])
def test_a_norm_is_merged_into_what_it_follows(groups: int, affine: bool) -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(6, 9, 3, groups=groups).double(), nn.BatchNorm2d(9, eps=1e-3, affine=affine).double().eval()
    norm.get_buffer("running_mean").normal_()
    norm.get_buffer("running_var").uniform_(0.1, 2)
    x = torch.randn(3, 6, 7, 7, dtype=torch.float64)
    found = then_norm(of_conv(conv), norm)
    with torch.no_grad():
        answers = nn.functional.conv2d(x, found.weight, found.bias)
        torch.testing.assert_close(answers, norm(conv(x)), rtol=1e-12, atol=1e-12)


def test_the_formula_is_that_of_batchnorm() -> None:
    norm = nn.BatchNorm2d(1, eps=0.25)
    for name, value in {"weight": 3.0, "bias": 5.0, "running_mean": 7.0, "running_var": 2.0}.items():
        norm.state_dict()[name].fill_(value)
    scale, shift = scale_shift(norm)
    assert scale.item() == 3 / math.sqrt(2.25) == 2
    assert shift.item() == 5 - 7 * 2


def test_a_norm_without_statistics_has_no_formula() -> None:
    with pytest.raises(ContractionError, match="without running statistics"):
        then_norm(
            AffineMap(torch.eye(2)[:, :, None, None], torch.zeros(2)), nn.BatchNorm2d(2, track_running_stats=False)
        )


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
            fill("conv.chain.expand_norm.running_var", math.nan), "conv.chain.expand_norm.running_var", id="NaN var"
        ),
        pytest.param(fill("norm.running_mean", math.inf), "norm.running_mean holds", id="infinite mean"),
        pytest.param(fill("conv.chain.project.weight", math.nan), "conv.chain.project.weight holds", id="NaN weight"),
        pytest.param(put("conv.chain.expand_act", nn.ReLU6()), "conv.chain.expand_act is a ReLU6", id="activation"),
        pytest.param(put("conv.chain.expand_norm", nn.GroupNorm(2, 6)), "expand_norm is a GroupNorm", id="group norm"),
        pytest.param(
            put("conv.chain.expand_norm", nn.BatchNorm2d(6, track_running_stats=False).eval()),
            "conv.chain.expand_norm keeps no running statistics",
            id="inner norm without statistics",
        ),
        pytest.param(
            put("norm", nn.BatchNorm2d(4, track_running_stats=False).eval()),
            "norm after conv is no BatchNorm2d with running statistics",
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


def test_a_block_without_convolution_is_refused() -> None:
    _, block = expanded_blocks(chain_giant())[0]
    with pytest.raises(ContractionError, match="b holds no convolution"):
        merge(Expanded(block.replaced, "norm", nn.Sequential()), "b")
