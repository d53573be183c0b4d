import copy
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nbedge import samples
from nbedge.blocks import Template
from nbedge.contraction import contract
from nbedge.errors import InputError
from nbedge.expansion import expand
from nbedge.graph import read
from nbedge.plan import BLOCKS, Plan, Site, fingerprint
from nbedge.preprocessing import Preprocessing
from nbedge.proposal import propose
from nbedge.runtime import of_module
from nbedge.slopes import SlopedActivation, set_slope_
from nbedge.verification import Check, Equivalence, Limits, Verdict, agreement, probing, verify
from nbedge.verification.agreement import relative_error, sqnr_db
from nbedge.verification.equivalence import at_least, at_most, not_checked, reported
from nbedge.verification.families import families
from nbedge.verification.lint import kernel_checks

pytestmark = pytest.mark.group("algebra")

Spoil = Callable[[nn.Module], object]


class Net(nn.Module):
    def __init__(self, bias: bool = False, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 1, stride, bias=bias)
        self.norm, self.act = nn.BatchNorm2d(8), nn.ReLU6()
        self.depthwise, self.last = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8)
        self.classifier = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.last(self.depthwise(self.act(self.norm(self.conv(x))))))
        result: Tensor = self.classifier(x.mean((2, 3)))
        return result


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def calibrated(model: nn.Module, x: Tensor) -> nn.Module:
    """Give every BatchNorm the statistics of x, and every slope 1."""
    set_slope_(model, 1.0)
    for norm in norms(model):
        norm.momentum = None
        norm.reset_running_stats()
    with torch.no_grad():
        model.train()(x)
    return model.eval()


def giant_of(model: nn.Module, x: Tensor, gammas: tuple[float, float] = (-0.3, 0.2), seed: int = 0) -> nn.Module:
    """Return a straightened, calibrated giant whose BatchNorm gammas are 10 ** U(gammas)."""
    giant = expand(model, propose(model, x[:1], every=1), seed=seed)
    for norm in norms(giant):
        norm.weight.data = 10 ** torch.empty(norm.num_features).uniform_(*gammas)
        norm.bias.data.normal_(0, 0.3)
    return calibrated(giant, x)


@pytest.fixture
def x() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(32, 4, 6, 6)


@pytest.fixture
def giant(x: Tensor) -> nn.Module:
    return giant_of(Net(), x)


def failed(found: Equivalence) -> list[str]:
    return [check.name for check in found.failures()]


def set_(name: str, value: float | Tensor) -> Spoil:
    return lambda model: model.state_dict()[name].view(-1)[:1].copy_(torch.as_tensor(value))


def scale(name: str, factor: float) -> Spoil:
    return lambda model: model.state_dict()[name].view(-1)[:1].mul_(factor)


# correct merges


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_calibrated_merge_passes(x: Tensor, bias: bool, stride: int) -> None:
    giant = giant_of(Net(bias, stride), x)
    assert failed(verify(giant, contract(giant), x)) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_merge_with_random_statistics_passes(x: Tensor, seed: int) -> None:
    giant = giant_of(Net(), x, seed=seed)
    for norm in norms(giant):
        norm.get_buffer("running_mean").normal_()
        norm.get_buffer("running_var").uniform_(0.1, 3)
    assert failed(verify(giant, contract(giant), x)) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_merge_with_a_wide_spread_of_gamma_passes(x: Tensor, seed: int) -> None:
    giant = giant_of(Net(), x, gammas=(-4, 2), seed=seed)
    assert failed(verify(giant, contract(giant), x)) == []


@pytest.mark.parametrize("offset", [100, 10_000])
@pytest.mark.parametrize("bias", [True, False])
def test_a_merge_of_activations_far_from_0_passes(x: Tensor, offset: float, bias: bool) -> None:
    giant = giant_of(Net(bias), x + offset)
    assert failed(verify(giant, contract(giant), x + offset)) == []


def test_the_merge_of_a_whole_net_passes() -> None:
    torch.manual_seed(0)
    x = torch.randn(16, 1, 28, 28)
    giant = giant_of(samples.mobilenet_v2_tiny(width_mult=0.5), x)
    found = verify(giant, contract(giant), x)
    assert failed(found) == []
    assert found
    assert (found.reference, found.candidate, found.kernels) == ("giant", "contracted", "torch")


@pytest.mark.parametrize("name", ["norm.weight", "conv.chain.project.weight", "conv.chain.expand_norm.weight"])
def test_a_merge_with_a_dead_channel_passes(giant: Any, x: Tensor, name: str) -> None:
    giant.state_dict()[name][0] = 0
    giant.norm.bias.data[0] = 0
    assert failed(verify(giant, contract(giant), x)) == []


def test_a_merge_whose_answers_are_all_0_passes(giant: Any, x: Tensor) -> None:
    nn.init.zeros_(giant.classifier.weight)
    nn.init.zeros_(giant.classifier.bias)
    assert failed(verify(giant, contract(giant), x)) == []


def test_verifying_leaves_models_and_random_state_as_they_are(giant: Any, x: Tensor) -> None:
    tiny = contract(giant)
    before = copy.deepcopy((giant.state_dict(), tiny.state_dict(), torch.get_rng_state()))
    giant.train()
    verify(giant, tiny, x)
    assert giant.training
    assert torch.equal(torch.get_rng_state(), before[2])
    for model, state in ((giant, before[0]), (tiny, before[1])):
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


# every kind of block and layer

LAYERS: dict[str, Any] = {
    "1x1": nn.Conv2d(4, 6, 1),
    "3x3": nn.Conv2d(4, 4, 3, padding=1, bias=False),
    "depthwise": nn.Conv2d(4, 4, 3, groups=4),
    "conv3d": nn.Conv3d(4, 4, 2, groups=2),
    "linear": nn.Linear(4, 6),
    "grouped": nn.Conv2d(4, 6, 3, 2, 2, 2, 2, bias=False),
    "same": nn.Conv2d(4, 6, 3, padding="same", dilation=2),
    "reflect": nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
    "tensorflow": samples.Conv2dSame(4, 6, 3, 2),
    "circular": nn.Conv2d(4, 6, 5, padding=2, padding_mode="circular", bias=False),
    "conv1d": nn.Conv1d(4, 6, 3, 2, 1),
    "replicate": nn.Conv2d(4, 4, (1, 3), padding=(0, 1), padding_mode="replicate"),
    "linear without bias": nn.Linear(4, 6, bias=False),
}
PAIRS = [
    (block, name)
    for block in BLOCKS
    for name in LAYERS
    if block in ("basic", "linear") or not name.startswith("linear")
]


def pair_of(block: str, name: str, start: str = "random") -> tuple[Any, Any, Tensor]:
    """Return a straight giant of layer and BatchNorm with random statistics, its contracted model, and inputs."""
    torch.manual_seed(0)
    layer = copy.deepcopy(LAYERS[name])
    number = layer.weight.ndim - 2
    norm: Any = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[number]
    model = nn.Sequential(layer, norm(len(layer.weight)))
    giant = expand(model, Plan(fingerprint(model), (Site("0", "1", block=block, ratio=2, start=start),))).eval()
    set_slope_(giant, 1.0)
    for part in giant.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.weight.data.uniform_(0.5, 1.5)
            part.bias.data.normal_()
            part.get_buffer("running_mean").normal_()
            part.get_buffer("running_var").uniform_(0.5, 2)
    return giant, contract(giant), torch.randn(4, 4, *[9] * number)


@pytest.mark.parametrize(("block", "name"), PAIRS)
@pytest.mark.parametrize("start", ["random", "zero"])
def test_every_correct_merge_passes(block: str, name: str, start: str) -> None:
    assert failed(verify(*pair_of(block, name, start))) == []


@pytest.mark.parametrize(("block", "name"), PAIRS)
def test_every_merge_that_is_off_fails(block: str, name: str) -> None:
    giant, tiny, x = pair_of(block, name)
    for spoil in (
        lambda m: m[0].weight.view(-1)[-1:].mul_(1.001), lambda m: m[0].weight.copy_(m[0].weight.half()),
        lambda m: m[0].weight.copy_(m[0].weight.roll(1, 0)), lambda m: m[1].running_mean[-1:].add_(1e-3),
        lambda m: m[1].running_var[:1].mul_(1.001), lambda m: m[1].bias[:1].zero_(),
        lambda m: setattr(m[1], "eps", 1e-3),
    ):  # fmt: skip
        wrong = copy.deepcopy(tiny)
        with torch.no_grad():
            spoil(wrong)
        assert verify(giant, wrong, x).verdict is Verdict.FAIL


INNER = [(block, name) for block, name in PAIRS if block != "linear"]


@pytest.mark.parametrize(("block", "name"), INNER)
def test_a_merge_of_other_statistics_than_the_giant_s_fails(block: str, name: str) -> None:
    giant, _, x = pair_of(block, name)
    for spoil in (
        lambda norm: setattr(norm, "eps", 1e-3), lambda norm: nn.init.zeros_(norm.bias),
        lambda norm: norm.running_mean.zero_(),
    ):  # fmt: skip
        wrong = copy.deepcopy(giant)
        spoil(next(part for part in wrong[0].chain.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)))
        assert "stored numbers" in failed(verify(giant, contract(wrong), x))


@pytest.mark.parametrize("name", ["depthwise", "grouped"])
def test_a_leak_from_one_group_into_another_is_caught(name: str) -> None:
    layer = copy.deepcopy(LAYERS[name]).double()
    template = Template.of(layer)

    def leaky(x: Tensor) -> Tensor:
        answer: Tensor = layer(x)
        return torch.cat([answer[:, :1] + 1e-7 * answer[:, -1:], answer[:, 1:]], 1)

    with torch.no_grad():
        for block, limit in ((layer, 0.0), (leaky, 1e-9)):
            weight, bias = probing.kernel_of(block, template)
            error = probing.structure_error(block, template.build(weight, bias, weight), template)
            assert (error > limit) if limit else (error < 1e-12)


@pytest.mark.parametrize("name", ["3x3", "same", "conv1d"])
def test_padding_inside_a_block_is_caught(name: str) -> None:
    giant, tiny, x = pair_of("inverted_residual", name)
    chain = giant[0].chain
    chain.pad, chain.depthwise = nn.Identity(), nn.Sequential(chain.pad, chain.depthwise)
    assert "sites are one convolution each" in failed(verify(giant, tiny, x))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("block", BLOCKS)
def test_a_merge_in_another_type_is_judged_in_units_of_that_type(block: str, dtype: torch.dtype) -> None:
    giant, tiny, x = pair_of(block, "3x3")
    giant = giant.to(dtype)
    for part in giant.parameters():
        part.data.mul_(0.5)
    giant[0].chain.get_parameter("conv0.conv.weight" if block == "branches" else "project.weight").data[0] *= 1e-4
    tiny = contract(giant)
    assert failed(verify(giant, tiny, x)) == []
    assert failed(verify(giant, tiny, x.to(dtype))) == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_contracted_model_of_another_type_than_the_giant_s_fails(dtype: torch.dtype) -> None:
    giant, tiny, x = pair_of("basic", "3x3")
    assert "everything else untouched" in failed(verify(giant, tiny.to(dtype), x))


def named(edge: Equivalence, name: str) -> Check:
    return next(check for check in edge.checks if check.name == name)


def test_merged_weights_that_integers_hold_badly_are_reported_with_a_warning() -> None:
    giant, tiny, x = pair_of("basic", "3x3")
    calm = verify(giant, tiny, x)
    assert all("WARNING" not in named(calm, name).detail for name in ("channel range of weights", "weights in 8 bits"))
    giant[0].chain.get_parameter("project.weight").data[0] *= 1000
    wide = verify(giant, contract(giant), x)
    assert wide  # it is no fault of the merge
    assert named(wide, "channel range of weights").value > 50
    assert "WARNING: above 50" in named(wide, "channel range of weights").detail


def test_a_few_large_weights_among_many_small_ones_are_reported_with_a_warning() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(512, 8, 1, bias=False)
    with torch.no_grad():
        layer.weight.uniform_(-0.03, 0.03)
        layer.weight[:, 0] = 1
    model = nn.Sequential(layer, nn.BatchNorm2d(8))
    giant = expand(model, Plan(fingerprint(model), (Site("0", "1", block="basic", start="factorized"),))).eval()
    set_slope_(giant, 1.0)
    edge = verify(giant, contract(giant), torch.randn(2, 512, 4, 4))
    assert edge
    assert "WARNING: below 30 dB" in named(edge, "weights in 8 bits").detail


def test_inputs_that_carry_a_gradient_are_taken() -> None:
    giant, tiny, x = pair_of("basic", "3x3")
    assert verify(giant, tiny, x.requires_grad_())


class Heads(nn.Module):
    """A model with several answers."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> dict[str, Any]:
        y = self.body(x)
        return {"map": y, "rest": (y.mean((2, 3)), y.amax((1, 2, 3)))}


def test_a_model_of_several_answers_is_judged_on_all_of_them() -> None:
    giant, tiny, x = pair_of("basic", "3x3")
    assert verify(Heads(giant), Heads(tiny), x)
    tiny[1].bias.data += 1e-3
    assert not verify(Heads(giant), Heads(tiny), x)


class Called(nn.Module):
    """A model that names what it hands over, and calls its last layer in training mode only."""

    def __init__(self, skips: bool) -> None:
        super().__init__()
        self.first, self.norm, self.skips = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), skips
        self.last = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.first(input=x))
        return y if self.skips and not self.training else self.last(y)


def test_a_layer_that_is_called_by_name_is_a_block_that_is() -> None:
    model, x = Called(skips=False), torch.randn(4, 4, 6, 6)
    giant = calibrated(expand(model, propose(model, x, block="basic", every=1)), x)
    assert verify(giant, contract(giant), x)


def test_a_site_that_the_inputs_do_not_reach_is_not_checked_in_behaviour() -> None:
    model, x = Called(skips=True), torch.randn(4, 4, 6, 6)
    site = Site("last", None, block="basic")
    giant = calibrated(expand(model, Plan(fingerprint(model), (site,))), x)
    found, tiny = verify(giant, contract(giant), x), contract(giant)
    assert (found.verdict, failed(found)) == (Verdict.NOT_CHECKED, ["behaviour in float32"])
    assert "do not reach last" in found.failures()[0].detail
    tiny.get_parameter("last.weight").data[0] *= 1.001
    assert verify(giant, tiny, x).verdict is Verdict.FAIL


# faults in the contracted model


def swap(model: nn.Module) -> None:
    weight = model.state_dict()["conv.weight"]
    weight[[0, 1]] = weight[[1, 0]]


def through(dtype: torch.dtype) -> Spoil:
    return lambda model: model.state_dict()["conv.weight"].copy_(model.state_dict()["conv.weight"].to(dtype))


@pytest.mark.parametrize(
    ("spoil", "check"),
    [
        pytest.param(swap, "stored numbers", id="two channels swapped"),
        pytest.param(scale("conv.weight", 1 + 3e-7), "stored numbers", id="one weight off by 3e-7"),
        pytest.param(scale("norm.running_mean", 1 + 1e-6), "stored numbers", id="one mean off by 1e-6"),
        pytest.param(through(torch.float16), "stored numbers", id="rounded to fp16"),
        pytest.param(through(torch.bfloat16), "stored numbers", id="rounded to bf16"),
        pytest.param(set_("conv.weight", math.nan), "stored numbers", id="NaN weight"),
        pytest.param(set_("conv.weight", math.nan), "finite outputs", id="NaN answers"),
        pytest.param(set_("conv.weight", math.inf), "stored numbers", id="infinite weight"),
        pytest.param(scale("last.running_var", 1 + 1e-6), "everything else untouched", id="another BatchNorm"),
        pytest.param(scale("norm.weight", 1 + 1e-6), "everything else untouched", id="gamma of the site's BatchNorm"),
        pytest.param(set_("classifier.bias", math.nan), "everything else untouched", id="NaN elsewhere"),
        pytest.param(lambda m: setattr(m.norm, "eps", 1e-3), "algebra in float64", id="eps of the site's BatchNorm"),
        pytest.param(lambda m: setattr(m.last, "eps", 1e-3), "algebra in float64", id="eps of another BatchNorm"),
        pytest.param(lambda m: setattr(m, "act", nn.ReLU()), "algebra in float64", id="another activation"),
    ],
)
def test_a_fault_in_the_contracted_model_is_caught(giant: Any, x: Tensor, spoil: Spoil, check: str) -> None:
    giant.norm.weight.data.mul_(8)  # so that the ceiling of ReLU6 is reached
    tiny = contract(giant)
    spoil(tiny)
    found = verify(giant, tiny, x)
    assert check in failed(found)
    assert found.verdict is Verdict.FAIL


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda m: setattr(m.conv.chain.depthwise_norm, "eps", 1e-6), id="wrong eps"),
        pytest.param(lambda m: nn.init.zeros_(m.conv.chain.depthwise_norm.bias), id="second beta dropped"),
        pytest.param(lambda m: nn.init.zeros_(m.conv.chain.expand_norm.bias), id="first beta dropped"),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_a_fault_of_the_merge_is_caught(x: Tensor, spoil: Spoil, bias: bool) -> None:
    giant = giant_of(Net(bias), x)
    wrong = copy.deepcopy(giant)
    spoil(wrong)
    found = verify(giant, contract(wrong), x)
    assert failed(found)[0] == "stored numbers"
    assert "conv" in found.failures()[0].detail or "norm" in found.failures()[0].detail


def test_a_bias_in_the_wrong_norm_is_caught(x: Tensor) -> None:
    model = Net()
    plan = propose(model, x[:1])
    giant = expand(model, Plan(plan.fingerprint, (replace(plan.sites[0], norm="last"),)))
    giant = calibrated(giant, x)
    tiny = contract(giant)
    with torch.no_grad():
        assert (tiny(x) - giant(x)).abs().max() > 1e-4
    assert failed(verify(giant, tiny, x)) == ["algebra in float64"]


# faults in the giant


class Ceiling(SlopedActivation):
    """max(a x, x) with the ceiling of ReLU6 left in: not linear at slope 1."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.maximum(self.slope * x, x).clamp(max=6)


def ceiling(model: nn.Module) -> None:
    left_in = Ceiling(nn.ReLU6())
    left_in.slope.fill_(1.0)
    model.set_submodule("conv.chain.expand_act", left_in)


@pytest.mark.parametrize(
    ("spoil", "check", "place"),
    [
        pytest.param(set_("conv.chain.expand_act.slope", 0.999), "mergeable", "expand_act has slope 0.999", id="slope"),
        pytest.param(
            lambda m: m.set_submodule("conv.chain.expand_act", nn.ReLU6()), "mergeable", "is a ReLU6", id="ReLU6"
        ),
        pytest.param(
            lambda m: m.set_submodule("conv.chain.expand_norm", nn.BatchNorm2d(24, track_running_stats=False)),
            "mergeable",
            "expand_norm normalises with the statistics of the batch",
            id="no statistics",
        ),
        pytest.param(ceiling, "sites are affine", "conv", id="ceiling left in"),
        pytest.param(set_("conv.chain.expand.weight", math.nan), "sites are affine", "conv", id="NaN"),
        pytest.param(scale("conv.chain.project.weight", 1.01), "stored numbers", "worst at", id="trained on"),
    ],
)
def test_a_fault_in_the_giant_is_caught(giant: Any, x: Tensor, spoil: Spoil, check: str, place: str) -> None:
    tiny = contract(giant)
    spoil(giant)
    first = verify(giant, tiny, x).failures()[0]
    assert first.name == check
    assert place in first.detail


# wrong use


@pytest.mark.parametrize(
    "other",
    [
        samples.mobilenet_v2_tiny(),
        samples.mobilenet_v2_tiny(width_mult=0.5, num_classes=7),
        samples.mobilenet_v2_tiny(width_mult=0.5, tf_same=True, in_channels=3),
        nn.Linear(3, 3),
    ],
)
def test_another_architecture_is_refused(other: nn.Module) -> None:
    x = torch.randn(4, 1, 28, 28)
    giant = giant_of(samples.mobilenet_v2_tiny(width_mult=0.5), x)
    with pytest.raises(InputError, match="architecture"):
        verify(giant, other, x)


def test_a_site_of_another_stride_is_refused(giant: Any, x: Tensor) -> None:
    tiny = contract(giant)
    tiny.set_submodule("conv", nn.Conv2d(4, 8, 1, 2, bias=False))
    with pytest.raises(InputError, match="conv is Conv2d"):
        verify(giant, tiny, x)


def test_no_inputs_are_refused(giant: Any, x: Tensor) -> None:
    tiny = contract(giant)
    for inputs in (x[:0], {}, {"real": x[:0].numpy(), "noise": x.numpy()}):
        with pytest.raises(InputError, match="no inputs"):
            verify(giant, tiny, inputs)
        with pytest.raises(InputError, match="no inputs"):
            verify(tiny, tiny, inputs)


def test_inputs_that_do_not_fit_are_refused(giant: Any) -> None:
    tiny, x = contract(giant), torch.zeros(2, 3, 6, 6)
    for reference in (giant, tiny, of_module(tiny, (4, 6, 6))):
        with pytest.raises(InputError, match=r"3, 6, 6"):
            verify(reference, tiny, x)


def test_labels_that_do_not_fit_are_refused(giant: Any, x: Tensor) -> None:
    with pytest.raises(InputError, match="3 labels for 32"):
        verify(contract(giant), contract(giant), x, labels=np.zeros(3, np.int64))


# any other pair


def test_a_module_passes_against_its_own_runner(giant: Any, x: Tensor) -> None:
    tiny = contract(giant)
    given = {"real": x.numpy(), "noise": 3 * x.numpy()}
    found = verify(tiny, of_module(tiny, (4, 6, 6)), given, labels=np.zeros(32, np.int64))
    assert found
    assert {"float error, real", "float error, noise", "answers that differ", "accuracy loss"} <= {
        check.name for check in found.checks
    }


@pytest.mark.parametrize("error", [1e-2, math.nan])
def test_a_perturbed_module_fails_against_its_runner(giant: Any, x: Tensor, error: float) -> None:
    tiny: Any = contract(giant)
    other = copy.deepcopy(tiny)
    other.classifier.bias.data += error
    found = verify(tiny, of_module(other, (4, 6, 6)), x)
    assert not found
    assert failed(found) == ["finite outputs, real" if math.isnan(error) else "float error, real"]


def test_verifying_two_modules_keeps_a_frozen_norm_frozen(giant: Any, x: Tensor) -> None:
    tiny: Any = contract(giant).train()
    tiny.norm.eval()
    assert verify(tiny, tiny, x)
    assert (tiny.training, tiny.norm.training, tiny.last.training) == (True, False, True)


# figures

WANTED, FOUND = np.array([[3.0, 4.0]]), np.array([[3.0, 5.0]])


def judged(wanted: list[list[float]], found: list[list[float]], quantized: bool = False) -> list[Check]:
    real, answered = ({"real": {"output": np.array(y)}} for y in (wanted, found))
    return agreement(real, answered, quantized=quantized, limits=Limits())


def test_the_figures_are_what_the_hand_computes() -> None:
    assert relative_error(WANTED, FOUND) == pytest.approx(1 / math.sqrt(12.5))
    assert sqnr_db(WANTED, FOUND) == pytest.approx(10 * math.log10(25))


def test_no_noise_and_no_signal_have_figures_too() -> None:
    zero = np.zeros((1, 2))
    assert sqnr_db(WANTED, WANTED) == 300
    assert sqnr_db(zero, zero) == 300
    assert sqnr_db(zero, WANTED) == -300
    assert relative_error(zero, zero) == 0
    assert relative_error(zero, WANTED) > 1e20


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("quantized", [True, False])
def test_an_answer_that_is_not_finite_fails(value: float, quantized: bool) -> None:
    for wanted, found in ([[1.0, 2.0]], [[1.0, value]]), ([[value, 2.0]], [[value, 2.0]]):
        checks = judged(wanted, found, quantized)
        assert [(check.name, check.verdict) for check in checks] == [("finite outputs, real", Verdict.FAIL)]


@pytest.mark.parametrize("found", [[[1.0]], [[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0, 3.0]]])
def test_answers_of_another_shape_fail(found: list[list[float]]) -> None:
    assert [(c.name, c.verdict) for c in judged([[1.0, 2.0]], found)] == [("same shape", Verdict.FAIL)]


def test_no_answers_fail() -> None:
    assert [check.verdict for check in judged([], [])] == [Verdict.FAIL]


def test_a_quantized_candidate_is_judged_on_real_pictures_only() -> None:
    families = ({"real": WANTED, "noise": WANTED}, {"real": FOUND, "noise": -WANTED})
    bad = tuple({family: {"output": y} for family, y in side.items()} for side in families)
    checks = {check.name: check for check in agreement(*bad, quantized=True, limits=Limits(sqnr_db=13.9))}
    assert checks["SQNR, real"].verdict is Verdict.PASS
    assert checks["SQNR, noise"].limit is None
    assert not Equivalence("a", "b", "c", tuple(agreement(*bad, quantized=True, limits=Limits(sqnr_db=14.0))))


@pytest.mark.parametrize(("quantized", "verdict"), [(True, Verdict.FAIL), (False, Verdict.PASS)])
def test_the_accuracy_of_a_quantized_candidate_is_judged(quantized: bool, verdict: Verdict) -> None:
    loss = accuracy_loss(pictures=400, lost=20, quantized=quantized)
    assert loss.value == pytest.approx(5.0)
    assert loss.verdict is verdict


def test_a_loss_that_so_few_pictures_give_by_chance_is_no_failure() -> None:
    loss = accuracy_loss(pictures=500, lost=7, quantized=True)
    assert loss.value == pytest.approx(1.4)
    assert loss.verdict is Verdict.PASS
    assert "standard error 0.53" in loss.detail
    assert accuracy_loss(pictures=10_000, lost=140, quantized=True).verdict is Verdict.FAIL


def accuracy_loss(pictures: int, lost: int, quantized: bool) -> Check:
    labels = np.zeros(pictures, np.int64)
    wanted = np.tile([1.0, 0.0], (pictures, 1))
    found = wanted.copy()
    found[:lost] = [0.0, 1.0]
    sides = ({"real": {"output": y}} for y in (wanted, found))
    checks = agreement(*sides, quantized=quantized, limits=Limits(1e9, -300), labels=labels)
    named = {check.name: check for check in checks}
    assert named["answers that differ"].value == (pytest.approx(100 * lost / pictures) if quantized else lost)
    return named["accuracy loss"]


# verdicts


def test_only_a_pass_is_true() -> None:
    passed, open_, bad = reported("a", 1.0), not_checked("b", "no runtime"), at_most("c", 2.0, 1.0)

    def equivalence(*checks: Check) -> Equivalence:
        return Equivalence("r", "c", "k", checks)

    assert equivalence(passed)
    assert not equivalence()
    assert not equivalence(passed, open_)
    assert not equivalence(passed, open_, bad)
    assert equivalence().verdict is Verdict.FAIL
    assert equivalence(passed, open_).verdict is Verdict.NOT_CHECKED
    assert equivalence(passed, open_, bad).verdict is Verdict.FAIL
    assert equivalence(passed, open_, bad).failures() == [open_, bad]


def test_a_limit_is_kept_by_equality_and_never_by_nan() -> None:
    assert at_most("a", 1.0, 1.0).verdict is at_least("a", 1.0, 1.0).verdict is Verdict.PASS
    assert at_most("a", math.nan, 1.0).verdict is at_least("a", math.nan, 1.0).verdict is Verdict.FAIL


def test_the_record_holds_no_nan_and_no_infinity(tmp_path: Path) -> None:
    checks = (at_most("a", math.nan, math.inf), at_least("b", -math.inf, 1.0), not_checked("c", "why"))
    path = Equivalence("x.onnx", "y.tflite", "xnnpack", checks).write(tmp_path, "3")
    assert path.name == "3-x.onnx-to-y.tflite-in-xnnpack.json"
    text = path.read_text(encoding="utf-8")
    found = json.loads(text, parse_constant=pytest.fail)
    assert json.dumps(found, allow_nan=False)
    assert [check["value"] for check in found["checks"]] == [None, None, None]
    assert found["verdict"] == "FAIL"


def test_a_failed_verdict_has_a_record_too(giant: Any, x: Tensor) -> None:
    tiny: Any = contract(giant)
    tiny.conv.weight.data[0] = math.nan
    json.dumps(verify(giant, tiny, x).to_dict(), allow_nan=False)


# inputs and types


def test_the_families_are_pictures_noise_and_extremes() -> None:
    preprocessing = Preprocessing((3, 6, 7), (0.5,) * 3, (0.25,) * 3)
    real = np.zeros((5, 3, 6, 7), np.float32)
    shape = preprocessing.shape
    found, again = families(shape, preprocessing, real), families(shape, preprocessing, real)
    assert list(found) == ["real", "noise", "extreme"]
    assert all(x.shape[1:] == (3, 6, 7) and x.dtype == np.float32 for x in found.values())
    assert all(np.array_equal(found[name], again[name]) for name in found)
    assert list(families(shape, preprocessing)) == ["noise", "extreme"]
    assert not np.array_equal(families(shape, preprocessing, seed=1)["noise"], found["noise"])
    assert {float(v) for v in np.unique(found["extreme"])} == {-2.0, 0.0, 2.0}


def test_a_float_file_is_no_int8(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, save

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("x", "y")]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2, 2], [1.0, 2.0, 3.0, 4.0])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weight])
    path = tmp_path / "float.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    checks = {check.name: check for check in kernel_checks(read(path), "int8")}
    assert {name: check.verdict for name, check in checks.items()} == dict.fromkeys(checks, Verdict.FAIL)
    assert checks["float multiply-accumulates"].value == 1
    assert [check.verdict for check in kernel_checks(read(path), "fp32")] == [Verdict.PASS]
