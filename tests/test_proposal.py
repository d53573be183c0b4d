"""What is proposed for a whole model; which layer is a site is the matter of test_survey.py."""

from typing import Any

import pytest
import torch
from torch import nn

from nbedge import samples
from nbedge.blocks import expanded_blocks
from nbedge.errors import PlanError
from nbedge.expansion import expand
from nbedge.plan import Plan
from nbedge.proposal import extra_macs, propose
from nbedge.selection import Named
from nbedge.survey import Wish, survey
from nbedge.tracing import WEIGHTED, cost

X = torch.zeros(1, 1, 28, 28)


def tiny_plan(**options: Any) -> Plan:
    return propose(samples.mobilenet_v2_tiny(width_mult=0.5), X, **options)


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
    assert {r.layer: r.reason for r in plan.refused}["features.3.conv.0.0"] == "can be expanded (pointwise), not chosen"


def test_the_activation_is_the_model_s_own() -> None:
    assert {site.activation for site in tiny_plan().sites} == {"relu6"}


def test_the_model_is_left_as_it_is() -> None:
    model = samples.mobilenet_v2_tiny(width_mult=0.5).train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    propose(model, X)
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_block_start_and_shortcut_go_to_each_site() -> None:
    assert {(s.block, s.start) for s in tiny_plan(block="basic", start="zero").sites} == {("basic", "zero")}
    plan = tiny_plan(choose=Named("features.7.conv.2"), shortcut=False, block="linear")
    assert [(s.layer, s.block, s.shortcut) for s in plan.sites] == [("features.7.conv.2", "linear", False)]


def test_a_shortcut_is_offered_to_layers_that_keep_their_shape_only() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6))
    plan = propose(model, torch.zeros(1, 4, 5, 5), every=1, shortcut=True)
    assert [(s.layer, s.shortcut) for s in plan.sites] == [("0", True)]
    assert "a shortcut needs" in plan.refused[0].reason


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"block": "ghost"}, "block is 'ghost'"), ({"ratio": 0}, "ratio is 0"), ({"start": "warm"}, "start is 'warm'"),
        ({"start": "zero", "shortcut": True}, "a shortcut goes around a chain that starts random"),
        ({"block": "branches", "ratio": 1.5}, "branches come in whole numbers"),
        ({"block": "branches", "ratio": 2, "start": "factorized"}, "branches come in whole numbers and start random"),
    ],
)  # fmt: skip
def test_a_wish_that_no_block_fulfils_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(PlanError, match=words):
        tiny_plan(**options)


@pytest.mark.parametrize("block", ["inverted_residual", "basic", "bottleneck", "linear", "branches"])
@pytest.mark.parametrize("start", ["random", "zero"])
def test_the_extra_cost_of_a_block_is_what_the_giant_takes_more(block: str, start: str) -> None:
    model = samples.mobilenet_v2_tiny(width_mult=0.5)
    plan = propose(model, X, ratio=2, block=block, start=start, choose=Named("features.[234].*"))
    found = {c.site.layer: c for c in survey(model, X, Wish(block, 2, start)).candidates}
    giant = expand(model, plan)
    extra = sum(extra_macs(model, found[site.layer]) for site in plan.sites)
    assert cost(giant, X).macs == cost(model, X).macs + extra
    assert len(expanded_blocks(giant)) == len(plan.sites) > 5
