import copy
import io
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nbedge import samples
from nbedge.blocks import expanded_blocks
from nbedge.contraction import contract
from nbedge.errors import PlanError
from nbedge.expansion import expand
from nbedge.layers import channels
from nbedge.plan import Plan, Site, fingerprint
from nbedge.proposal import propose
from nbedge.slopes import set_slope_


class Unit(nn.Module):
    def __init__(self, bias: bool, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 1, stride, bias=bias)
        self.norm, self.act = nn.BatchNorm2d(6), nn.ReLU()
        self.depthwise = nn.Conv2d(6, 6, 3, groups=6)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.depthwise(self.act(self.norm(self.conv(x))))
        return result


@pytest.fixture
def tiny() -> nn.Module:
    torch.manual_seed(0)
    return samples.mobilenet_v2_tiny(width_mult=0.5)


@pytest.fixture
def plan(tiny: nn.Module) -> Plan:
    return propose(tiny, torch.zeros(1, 1, 28, 28), ratio=3)


def same(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_equal_plans_and_seeds_build_equal_giants(tiny: nn.Module, plan: Plan) -> None:
    torch.manual_seed(1)
    one = expand(tiny, plan, seed=5)
    torch.manual_seed(2)
    assert same(one, expand(tiny, Plan.from_json(plan.to_json()), seed=5))


def test_another_seed_builds_another_giant(tiny: nn.Module, plan: Plan) -> None:
    assert not same(expand(tiny, plan, seed=0), expand(tiny, plan, seed=1))


def test_torch_s_own_random_state_is_not_touched(tiny: nn.Module, plan: Plan) -> None:
    before = torch.get_rng_state()
    expand(tiny, plan, seed=3)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_tiny_model_is_left_as_it_is(tiny: nn.Module, plan: Plan) -> None:
    before = copy.deepcopy(tiny)
    giant = expand(tiny, plan)
    with torch.no_grad():
        for parameter in giant.parameters():
            parameter.zero_()
    assert same(tiny, before)
    assert not expanded_blocks(tiny)


def test_the_blocks_stand_at_the_planned_sites(tiny: nn.Module, plan: Plan) -> None:
    blocks = expanded_blocks(expand(tiny, plan))
    assert [(name, block.site) for name, block in blocks] == [(site.layer, site) for site in plan.sites]


def test_all_other_weights_are_kept(tiny: nn.Module, plan: Plan) -> None:
    giant, replaced = expand(tiny, plan).state_dict(), {f"{site.layer}.weight" for site in plan.sites}
    assert all(torch.equal(value, giant[name]) for name, value in tiny.state_dict().items() if name not in replaced)
    assert not replaced & giant.keys()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_stride_and_bias_are_kept(bias: bool, stride: int) -> None:
    model, x = Unit(bias, stride), torch.randn(2, 4, 9, 9)
    giant = expand(model, propose(model, x, ratio=2))
    _, block = expanded_blocks(giant)[0]
    assert giant(x).shape == model(x).shape
    assert block.replaced.geometry.stride == (stride, stride)
    assert (block.chain.get_submodule("project").bias is not None) is bias


@pytest.mark.parametrize("ratio", [1, 6])
def test_the_hidden_channels_are_ratio_times_the_input(ratio: int) -> None:
    model = Unit(False, 1)
    giant = expand(model, propose(model, torch.zeros(1, 4, 9, 9), ratio=ratio))
    assert giant.get_parameter("conv.chain.expand.weight").shape == (4 * ratio, 4, 1, 1)


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_kept(tiny: nn.Module, plan: Plan, training: bool) -> None:
    assert {module.training for module in expand(tiny.train(training), plan).modules()} == {training}


def test_the_type_is_kept(tiny: nn.Module, plan: Plan) -> None:
    giant = expand(tiny.double(), plan)
    assert {value.dtype for value in giant.state_dict().values() if value.is_floating_point()} == {torch.float64}
    assert giant(torch.zeros(2, 1, 28, 28, dtype=torch.float64)).dtype is torch.float64


def test_a_plan_of_another_model_is_refused(plan: Plan) -> None:
    with pytest.raises(PlanError, match="another model"):
        expand(samples.mobilenet_v2_tiny(), plan)


@pytest.mark.parametrize(
    ("site", "words"),
    [
        (Site("features.99", "features.0.1"), "names features.99"),
        (Site("features.2.conv.0.0", "features.99"), "names features.99"),
        (Site("features.0", "features.0.1"), "features.0 is a ConvNormActivation, not a convolution"),
        (Site("features.0.2", None), "features.0.2 is a ReLU6, not a convolution"),
        (Site("classifier.1", None), "takes the blocks basic and linear, not inverted_residual"),
        (Site("features.2.conv.0.0", "features.0.1"), "no BatchNorm of 12 channels"),
        (Site("features.2.conv.0.0", "features.2.conv.0.2"), "no BatchNorm of 12 channels"),
        (Site("features.2.conv.0.0", None), "a merged bias has nowhere to go"),
        (Site("features.2.conv.0.0", "features.2.conv.0.1", shortcut=True), "a shortcut needs"),
        (
            Site("features.0.0", "features.0.1", ratio=0.5, start="factorized"),
            "features.0.0: at ratio 0.5 .* too narrow",
        ),
    ],
)
def test_a_site_that_does_not_fit_is_refused(tiny: nn.Module, site: Site, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        expand(tiny, Plan(fingerprint(tiny), (site,)))


def test_the_ratio_is_each_site_s_own(tiny: nn.Module, plan: Plan) -> None:
    mixed = replace(plan, sites=(plan.sites[0], replace(plan.sites[1], ratio=1)))
    hidden = [block.chain.get_parameter("expand.weight").shape[0] for _, block in expanded_blocks(expand(tiny, mixed))]
    inputs = [channels(block.replaced.layer)[0] for _, block in expanded_blocks(expand(tiny, mixed))]
    assert hidden == [3 * inputs[0], inputs[1]]


def test_a_norm_without_statistics_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))
    with pytest.raises(PlanError, match="site 0: its norm 1 keeps no running statistics"):
        expand(model, Plan(fingerprint(model), (Site("0", "1"),)))


def test_a_layer_under_two_names_is_refused() -> None:
    conv = nn.Conv2d(3, 3, 1)
    model = nn.ModuleDict({"a": conv, "b": conv})
    with pytest.raises(PlanError, match="site b is registered under several names"):
        expand(model, Plan(fingerprint(model), (Site("b", None, block="linear"),)))


class Nested(nn.Module):
    """Layers in a ModuleList, a ModuleDict and a Sequential of a class of its own; the list stands under two names."""

    class Steps(nn.Sequential):
        pass

    def __init__(self) -> None:
        super().__init__()
        self.listed = nn.ModuleList([nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)])
        self.named = nn.ModuleDict({"conv": nn.Conv2d(4, 4, 1, bias=False), "norm": nn.BatchNorm2d(4)})
        self.steps = Nested.Steps(nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3))
        self.again = self.listed

    def forward(self, x: Tensor) -> Tensor:
        for part in (*self.again, *self.named.values(), self.steps):
            x = part(x)
        return x


def straight(model: nn.Module, x: Tensor) -> nn.Module:
    giant = expand(model, propose(model, x, every=1, ratio=2)).train()
    giant(x)  # gives the BatchNorms statistics
    set_slope_(giant, 1.0)
    return giant.eval()


def test_sites_stand_in_lists_dicts_and_subclasses_and_under_two_names() -> None:
    model, x = Nested(), torch.randn(2, 2, 9, 9)
    plan = propose(model, x, every=1, choose=None, block="basic")
    assert [site.layer for site in plan.sites] == ["named.conv"]
    sites = tuple(
        replace(plan.sites[0], layer=a, norm=b) for a, b in (("listed.0", "listed.1"), ("steps.0", "steps.1"))
    )
    giant = expand(model, replace(plan, sites=(*plan.sites, *sites))).double().train()
    giant(x.double())
    set_slope_(giant.eval(), 1.0)
    tiny = contract(giant)
    assert list(tiny.state_dict()) == list(model.state_dict())
    torch.testing.assert_close(tiny(x.double()), giant(x.double()), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("pickled", [True, False])
def test_a_copied_or_pickled_giant_is_whole(tiny: nn.Module, pickled: bool) -> None:
    x = torch.randn(2, 1, 28, 28)
    giant: Any = straight(tiny, x)
    if pickled:
        torch.save(giant, file := io.BytesIO())
        file.seek(0)
        other: Any = torch.load(file, weights_only=False)
    else:
        other = copy.deepcopy(giant)
    assert torch.equal(other(x), giant(x))
    assert same(contract(other), contract(giant))
    _, block = expanded_blocks(other)[0]
    assert block.norm is other.get_submodule(block.site.norm or "")
    assert block.norm is not giant.get_submodule(block.site.norm or "")


def test_the_state_of_a_giant_goes_into_a_fresh_one(tiny: nn.Module, plan: Plan) -> None:
    x = torch.randn(2, 1, 28, 28)
    giant = expand(tiny, plan).train()
    giant(x)
    set_slope_(giant, 0.5)
    fresh = expand(samples.mobilenet_v2_tiny(width_mult=0.5), plan, seed=9)
    fresh.load_state_dict(giant.state_dict(), strict=True)
    assert torch.equal(fresh.eval()(x), giant.eval()(x))


def test_a_giant_of_a_giant_has_blocks_within_blocks(tiny: nn.Module, plan: Plan) -> None:
    giant = expand(tiny, plan)
    inner = Site("features.2.conv.0.0.chain.expand", "features.2.conv.0.0.chain.expand_norm", "relu6", ratio=2)
    fresh = Site("features.3.conv.0.0", "features.3.conv.0.1", "relu6")
    again = expand(giant, Plan(fingerprint(giant), (inner, fresh)))
    assert [name for name, _ in expanded_blocks(again)] == [f"features.{i}.conv.0.0" for i in (2, 3, 4, 6)]
    assert "features.2.conv.0.0.chain.expand.chain.project.weight" in again.state_dict()


def test_what_is_frozen_stays_frozen_and_the_new_weights_are_trained() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).requires_grad_(False)
    giant = straight(model, torch.randn(2, 3, 5, 5))
    trained = {name for name, p in giant.named_parameters() if p.requires_grad}
    assert trained == {name for name, _ in giant.named_parameters() if name.startswith("0.chain.")}
    assert not any(p.requires_grad for p in contract(giant).parameters())


@pytest.mark.parametrize("options", [{"momentum": None}, {"affine": False}, {"eps": 1e-3}], ids=str)
def test_norms_of_every_kind_are_taken(options: dict[str, Any]) -> None:
    model, x = (
        nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, **options)).double(),
        torch.randn(4, 3, 6, 6),
    )
    giant = straight(model, x.double())
    torch.testing.assert_close(contract(giant)(x.double()), giant(x.double()), rtol=1e-9, atol=1e-9)


def test_a_model_of_another_type_than_torch_s_default_is_expanded() -> None:
    model, x = Unit(bias=False, stride=1), torch.randn(2, 4, 9, 9)
    torch.set_default_dtype(torch.float64)
    try:
        giant = straight(model, x)
        assert {v.dtype for v in giant.state_dict().values() if v.is_floating_point()} == {torch.float32}
        assert giant(x).dtype is torch.float32
        assert contract(giant)(x).dtype is torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_weights_in_channels_last_are_taken() -> None:
    x = torch.randn(2, 4, 9, 9)
    model = Unit(bias=False, stride=1).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    giant = straight(model, x)
    torch.testing.assert_close(contract(giant)(x), giant(x), rtol=1e-4, atol=1e-4)


def test_a_model_in_eval_mode_is_expanded_and_trained() -> None:
    model, x = Unit(bias=False, stride=1).eval(), torch.randn(2, 4, 9, 9)
    giant = expand(model, propose(model, x))
    giant(x).square().sum().backward()
    assert all(p.grad is not None for p in giant.parameters())
    assert not any(part.training for part in giant.modules())
