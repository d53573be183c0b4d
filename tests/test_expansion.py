import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from nbedge import samples
from nbedge.blocks import expanded_blocks
from nbedge.errors import PlanError
from nbedge.expansion import expand
from nbedge.plan import Plan, Site, fingerprint
from nbedge.proposal import propose


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
    assert [(name, block.norm) for name, block in blocks] == [(site.layer, site.norm) for site in plan.sites]


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
    assert block.replaced.stride == (stride, stride)
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
        (Site("features.0.0", "features.0.1"), "features.0.0 is no dense 1x1"),
        (Site("classifier.1", "features.0.1"), "classifier.1 is no dense 1x1"),
        (Site("features.2.conv.0.0", "features.0.1"), "no BatchNorm2d of 12 channels"),
        (Site("features.2.conv.0.0", "features.2.conv.0.2"), "no BatchNorm2d of 12 channels"),
    ],
)
def test_a_site_that_does_not_fit_is_refused(tiny: nn.Module, site: Site, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        expand(tiny, Plan(fingerprint(tiny), (site,)))


def test_the_ratio_is_each_site_s_own(tiny: nn.Module, plan: Plan) -> None:
    mixed = replace(plan, sites=(plan.sites[0], replace(plan.sites[1], ratio=1)))
    hidden = [block.chain.get_parameter("expand.weight").shape[0] for _, block in expanded_blocks(expand(tiny, mixed))]
    inputs = [block.replaced.in_channels for _, block in expanded_blocks(expand(tiny, mixed))]
    assert hidden == [3 * inputs[0], inputs[1]]
