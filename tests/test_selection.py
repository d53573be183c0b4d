"""Which candidates each policy chooses, and what it refuses."""

from typing import Any

import pytest
import torch
from torch import nn

from nbedge import samples
from nbedge.errors import PlanError
from nbedge.expansion import expand
from nbedge.plan import Site
from nbedge.proposal import propose
from nbedge.selection import Budget, Every, Field, MacsShare, Named, Policy, parse, usual_candidates
from nbedge.survey import Candidate
from nbedge.tracing import cost

X = torch.zeros(1, 1, 28, 28)
FIRST = [f"features.{i}.conv.0.0" for i in (2, 3, 4, 5, 6, 7, 8)]


def candidate(name: str, macs: int = 1, kind: str = "pointwise", feeds_depthwise: bool = True) -> Candidate:
    return Candidate(Site(name, None), kind, macs, (1, 4, 8, 8), feeds_depthwise)


def field(*macs: int, total: int = 100, extra: int = 10) -> Field:
    found = [candidate(f"layer{index}", number) for index, number in enumerate(macs)]
    return Field(found, found, total, lambda _candidate: extra)


def names(policy: Policy, chosen_from: Field) -> list[str]:
    return [c.site.layer.removeprefix("layer") for c in policy.choose(chosen_from)]


@pytest.mark.parametrize(("step", "chosen"), [(1, "0 1 2 3 4"), (2, "0 2 4"), (3, "0 3"), (9, "0")])
def test_every_chooses_by_place(step: int, chosen: str) -> None:
    assert names(Every(step), field(1, 1, 1, 1, 1)) == chosen.split()


@pytest.mark.parametrize(("share", "chosen"), [(0.01, "1"), (0.4, "1"), (0.41, "1 3"), (0.7, "1 3"), (1.0, "0 1 2 3")])
def test_macs_chooses_the_costliest_up_to_a_share_in_the_order_in_which_they_run(share: float, chosen: str) -> None:
    assert names(MacsShare(share), field(10, 40, 5, 30)) == chosen.split()


@pytest.mark.parametrize(("times", "chosen"), [(1.5, "0 1 2 3 4"), (1.49, "0 2 4"), (1.2, "0 3"), (1.1, "0")])
def test_budget_chooses_the_densest_even_spread_that_fits(times: float, chosen: str) -> None:
    assert names(Budget(times), field(1, 1, 1, 1, 1)) == chosen.split()


def test_a_budget_too_small_for_one_site_says_what_one_takes() -> None:
    with pytest.raises(PlanError, match=r"1\.05 times .* too small for one site, which takes 1\.10; raise it"):
        Budget(1.05).choose(field(1, 1))


def test_named_chooses_by_pattern_or_lists_some() -> None:
    assert names(Named("layer[13]"), field(1, 1, 1, 1)) == ["1", "3"]
    with pytest.raises(PlanError, match=r"matches 'nothing\*'; there are for example layer0, layer1, layer2"):
        Named("nothing*").choose(field(1, 1, 1, 1))


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("all", Every(1)), ("every:3", Every(3)), ("name:a.*.b", Named("a.*.b")), ("name:a:b", Named("a:b")),
        ("macs:0.5", MacsShare(0.5)), ("macs:1", MacsShare(1.0)), ("budget:3", Budget(3.0)),
    ],
)  # fmt: skip
def test_a_policy_is_read_from_text(text: str, policy: Policy) -> None:
    assert parse(text) == policy


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no choice of sites; write every:N"), ("every", "names no choice"), ("every:", "names no choice"),
        ("ALL", "names no choice"), ("all:1", "names no choice"), ("some:3", "names no choice"),
        ("name:", "names no choice"), ("every:two", "holds no number"), ("every:2.5", "holds no number"),
        ("macs:half", "holds no number"), ("every:0", "every is 0; give 1"), ("every:-1", "every is -1"),
        ("macs:0", "share of MACs is 0.0"), ("macs:50", "share of MACs is 50.0"), ("macs:nan", "share of MACs is nan"),
        ("budget:1", "budget is 1.0 times"), ("budget:-2", "budget is -2.0"), ("budget:nan", "budget is nan"),
    ],
)  # fmt: skip
def test_bad_text_is_refused_in_one_sentence(text: str, words: str) -> None:
    with pytest.raises(PlanError, match=words) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_the_usual_candidates_are_those_of_the_method_else_pointwise_else_all() -> None:
    first, point, other = candidate("a"), candidate("b", feeds_depthwise=False), candidate("c", kind="spatial")
    assert usual_candidates([first, point, other]) == [first]
    assert usual_candidates([point, other]) == [point]
    assert usual_candidates([other]) == [other]


def test_one_inverted_residual_among_other_blocks_does_not_hide_them() -> None:
    first, point = candidate("first"), [candidate(f"point{i}", feeds_depthwise=False) for i in range(10)]
    assert usual_candidates([first, *point[:9]]) == [first]
    assert usual_candidates([first, *point]) == [first, *point]


def proposed(**options: Any) -> list[str]:
    return [site.layer for site in propose(samples.mobilenet_v2_tiny(width_mult=0.5), X, **options).sites]


def test_all_policies_run_on_a_real_model() -> None:
    assert proposed(choose=parse("all")) == proposed(every=1)
    assert proposed(choose=parse("name:features.*.conv.1.0")) == [f"features.{i}.conv.1.0" for i in range(2, 8)]
    assert "classifier.1" in proposed(choose=parse("name:*"))
    assert len(proposed(choose=parse("macs:0.3"))) < len(proposed(choose=parse("macs:0.9")))


@pytest.mark.parametrize(
    "options", [{}, {"start": "zero"}, {"block": "branches", "ratio": 2}, {"block": "basic"}], ids=str
)
@pytest.mark.parametrize("times", [1.6, 2.0, 5.0])
def test_a_budget_is_kept_by_the_giant(options: dict[str, Any], times: float) -> None:
    model = samples.mobilenet_v2_tiny(width_mult=0.5)
    plan = propose(model, X, choose=Budget(times), **options)
    assert cost(expand(model, plan), X).macs <= times * cost(model, X).macs


def test_a_model_without_a_candidate_is_refused() -> None:
    with pytest.raises(PlanError, match="no layer that can be expanded; nbedge inspect lists"):
        propose(nn.Sequential(nn.ConvTranspose2d(1, 1, 1)), X)
