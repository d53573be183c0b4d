from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from nbedge import samples
from nbedge.errors import PlanError
from nbedge.plan import Plan
from nbedge.proposal import propose, survey
from nbedge.tracing import WEIGHTED

X = torch.zeros(1, 4, 8, 8)


class Unit(nn.Module):
    """1x1 convolution, BatchNorm, ReLU, depthwise: one site."""

    def __init__(self, conv: nn.Module | None = None, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = conv or nn.Conv2d(4, 4, 1, bias=False)
        self.norm = norm or nn.BatchNorm2d(4)
        self.act = nn.ReLU()
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)

    def forward(self, x: Tensor) -> Any:
        return self.depthwise(self.act(self.norm(self.conv(x))))


class Shared(Unit):
    def forward(self, x: Tensor) -> Any:
        return super().forward(self.conv(x))


class ReadTwice(Unit):
    def forward(self, x: Tensor) -> Any:
        y = self.conv(x)
        return self.depthwise(self.act(self.norm(y))) + torch.sigmoid(y)


class ReadByName(Unit):
    def forward(self, x: Tensor) -> Any:
        y = self.conv(x)
        return self.depthwise(self.norm(y)) + self.act(input=y)


class Returned(Unit):
    def forward(self, x: Tensor) -> Any:
        y = self.conv(x)
        return self.depthwise(self.norm(y)), y


class NormReturned(Unit):
    def forward(self, x: Tensor) -> Any:
        y = self.norm(self.conv(x))
        return self.depthwise(y), y


class NormTwice(Unit):
    def forward(self, x: Tensor) -> Any:
        return self.depthwise(self.norm(self.norm(self.conv(x))))


class NeverCalled(Unit):
    def forward(self, x: Tensor) -> Any:
        return self.depthwise(self.norm(x))


class SubclassedNorm(nn.BatchNorm2d):
    pass


def hooked() -> nn.Module:
    conv = nn.Conv2d(4, 4, 1, bias=False)
    conv.register_forward_hook(lambda _module, _args, output: 2 * output)
    return conv


def reason(model: nn.Module) -> str:
    sites, refused = survey(model, X)
    assert "conv" not in [site.layer for site in sites]
    return {refusal.layer: refusal.reason for refusal in refused}["conv"]


def tiny_plan(**options: Any) -> Plan:
    return propose(samples.mobilenet_v2_tiny(width_mult=0.5), torch.zeros(1, 1, 28, 28), **options)


def test_the_sites_are_the_first_pointwise_layer_of_every_second_block() -> None:
    assert [site.layer for site in tiny_plan().sites] == [f"features.{i}.conv.0.0" for i in (2, 4, 6)]
    assert [site.norm for site in tiny_plan().sites] == [f"features.{i}.conv.0.1" for i in (2, 4, 6)]


@pytest.mark.parametrize(("every", "blocks"), [(1, (2, 3, 4, 5, 6, 7)), (2, (2, 4, 6)), (3, (2, 5)), (9, (2,))])
def test_every_chooses_how_many(every: int, blocks: tuple[int, ...]) -> None:
    assert [site.layer for site in tiny_plan(every=every).sites] == [f"features.{i}.conv.0.0" for i in blocks]


def test_the_ratio_goes_to_each_site() -> None:
    assert {site.ratio for site in tiny_plan(ratio=3).sites} == {3}


def test_every_below_one_is_refused() -> None:
    with pytest.raises(PlanError, match="every is 0"):
        tiny_plan(every=0)


def test_each_weighted_layer_is_a_site_or_refused_with_a_reason() -> None:
    model = samples.mobilenet_v2_tiny(width_mult=0.5)
    plan = tiny_plan()
    weighted = [name for name, module in model.named_modules() if isinstance(module, WEIGHTED)]
    assert sorted([s.layer for s in plan.sites] + [r.layer for r in plan.refused]) == sorted(weighted)
    assert all(refusal.reason for refusal in plan.refused)


def test_the_activation_is_the_model_s_own() -> None:
    assert propose(Unit(), X).sites[0].activation == "relu"
    assert {site.activation for site in tiny_plan().sites} == {"relu6"}


def test_the_model_is_left_as_it_is() -> None:
    model = Unit().train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    propose(model, X)
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("model", "words"),
    [
        pytest.param(Shared(), "shared: the forward pass calls it 2 times", id="shared"),
        pytest.param(NeverCalled(), "does not call it", id="never called"),
        pytest.param(ReadTwice(), "does not go to one BatchNorm2d alone", id="also used by a function"),
        pytest.param(ReadByName(), "does not go to one BatchNorm2d alone", id="also passed by name"),
        pytest.param(Returned(), "does not go to one BatchNorm2d alone", id="returned"),
        pytest.param(Unit(norm=nn.Identity()), "does not go to one BatchNorm2d alone", id="no norm"),
        pytest.param(Unit(norm=nn.GroupNorm(2, 4)), "does not go to one BatchNorm2d alone", id="another norm"),
        pytest.param(Unit(norm=SubclassedNorm(4)), "does not go to one BatchNorm2d alone", id="subclassed norm"),
        pytest.param(
            Unit(norm=nn.BatchNorm2d(4, track_running_stats=False)), "norm keeps no running statistics", id="no stats"
        ),
        pytest.param(NormTwice(), "norm is used more than once", id="norm used twice"),
        pytest.param(NormReturned(), "feeds no depthwise", id="norm returned"),
        pytest.param(
            Unit(parametrizations.weight_norm(nn.Conv2d(4, 4, 1))), "computed by a parametrization", id="weight norm"
        ),
        pytest.param(Unit(hooked()), "forward hooks", id="hook"),
        pytest.param(Unit(samples.Conv2dSame(4, 4, 1)), "it is a Conv2dSame", id="subclass"),
        pytest.param(Unit(nn.Conv2d(4, 4, 3, padding=1)), "its kernel is 3x3", id="kernel"),
        pytest.param(Unit(nn.Conv2d(4, 4, 1, groups=2)), "it has 2 groups", id="groups"),
        pytest.param(Unit(nn.Conv2d(4, 4, 1, padding=1)), "it pads its input", id="padding"),
    ],
)
def test_a_layer_that_cannot_be_expanded_is_refused_with_the_reason(model: nn.Module, words: str) -> None:
    assert words in reason(model)


def test_a_linear_layer_is_refused_by_its_kind() -> None:
    _, refused = survey(nn.Sequential(nn.Linear(4, 4)), torch.zeros(1, 4))
    assert "it is a Linear" in refused[0].reason


def test_a_model_without_a_site_is_refused() -> None:
    with pytest.raises(PlanError, match="no layer that can be expanded"):
        propose(nn.Sequential(nn.Conv2d(4, 4, 3)), X)


def test_the_sites_are_in_the_order_in_which_they_run() -> None:
    class Backward(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second, self.first = Unit(), Unit()

        def forward(self, x: Tensor) -> Any:
            return self.second(self.first(x))

    assert [site.layer for site in propose(Backward(), X, every=1).sites] == ["first.conv", "second.conv"]
