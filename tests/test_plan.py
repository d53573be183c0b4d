import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from nbedge import samples
from nbedge.errors import PlanError
from nbedge.plan import Plan, Refusal, Site, fingerprint
from nbedge.proposal import propose

PLAN = Plan(
    "f" * 64, (Site("a.0", "a.1"), Site("b.0", "b.1", "relu", ratio=3)), (Refusal("stem", "its kernel is 3x3"),)
)


def edited(**changes: Any) -> str:
    return json.dumps({**PLAN.to_dict(), **changes})


def site(**changes: Any) -> dict[str, Any]:
    return {**PLAN.to_dict()["sites"][0], **changes}


def test_a_plan_survives_json() -> None:
    assert Plan.from_json(PLAN.to_json()) == PLAN
    assert Plan.from_json(PLAN.to_json()).sites == PLAN.sites


def test_equality_ignores_what_was_refused() -> None:
    assert replace(PLAN, refused=()) == PLAN
    assert hash(replace(PLAN, refused=())) == hash(PLAN)
    assert replace(PLAN, sites=PLAN.sites[:1]) != PLAN


def test_equal_plans_have_equal_json() -> None:
    assert replace(PLAN, refused=()).to_json() == PLAN.to_json()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        pytest.param(edited(sites=[site(rato=6)]), "rato", id="unknown key"),
        pytest.param(edited(sites=[{"layer": "a.0"}]), "norm", id="missing key"),
        pytest.param(edited(sites=[site(ratio=0)]), "site a.0: ratio is 0", id="ratio of 0"),
        pytest.param(edited(sites=[site(ratio=-2.5)]), "site a.0: ratio is -2.5", id="negative ratio"),
        pytest.param(edited(sites=[site(ratio=float("inf"))]), "site a.0: ratio is inf", id="infinite ratio"),
        pytest.param(edited(sites=[site(ratio=float("nan"))]), "site a.0: ratio is nan", id="ratio that is no number"),
        pytest.param(edited(sites=[site(ratio=[6])]), r"site a.0: ratio is \[6\]", id="ratio is a list"),
        pytest.param(edited(sites=[site(ratio=1.5, block="branches")]), "come in whole numbers", id="branches"),
        pytest.param(edited(sites=[site(start="warm")]), "start is 'warm'; choose one of random", id="start"),
        pytest.param(edited(sites=[site(start=[])]), r"start is \[\]", id="start is a list"),
        pytest.param(edited(sites=[site(shortcut="no")]), "shortcut is 'no'; give true or false", id="shortcut"),
        pytest.param(edited(sites=[site(shortcut=True, start="zero")]), "a shortcut goes", id="shortcut at zero"),
        pytest.param(edited(sites=[site(layer=7)]), "site 7: layer is 7; give a module path", id="layer is a number"),
        pytest.param(edited(sites=[site(layer="")]), "layer is ''; give a module path", id="layer is empty"),
        pytest.param(edited(sites=[site(norm=0)]), "norm is 0; give a module path", id="norm is a number"),
        pytest.param(edited(sites=[site(norm="")]), "norm is ''; give a module path", id="norm is empty"),
        pytest.param(edited(sites=7), "no plan", id="sites are a number"),
        pytest.param(edited(sites="ab"), r"sites\[0\] is 'a'; write an object", id="sites are text"),
        pytest.param(edited(sites=[site(ratio=True)]), "site a.0: ratio is True", id="ratio is a truth value"),
        pytest.param(edited(sites=[site(ratio="6")]), "site a.0: ratio is '6'", id="ratio is text"),
        pytest.param(edited(sites=[site(block="ghost")]), "site a.0: block is 'ghost'", id="unknown block"),
        pytest.param(edited(sites=[site(activation="mish")]), "site a.0: activation is 'mish'", id="activation"),
        pytest.param(edited(sites=[site(), site(norm="b.1")]), "layer a.0 twice", id="duplicate layer"),
        pytest.param(edited(sites=[site(), site(layer="b.1")]), "norm a.1 twice", id="duplicate norm"),
        pytest.param(edited(sites=[]), "no sites", id="no sites"),
        pytest.param(edited(sites=[7]), r"sites\[0\] is 7; write an object", id="a site that is a number"),
        pytest.param(edited(schema_version=3), "schema_version 3, this nbedge reads 1, 2", id="of the future"),
        pytest.param(json.dumps({"schema_version": 1}), "fingerprint", id="no fingerprint"),
        pytest.param("[]", "no plan", id="a list"),
        pytest.param("{", "no JSON", id="cut short"),
        pytest.param("", "no JSON", id="empty"),
    ],
)
def test_a_badly_edited_plan_names_the_place(text: str, place: str) -> None:
    with pytest.raises(PlanError, match=place) as caught:
        Plan.from_json(text)
    assert "\n" not in str(caught.value)


def test_a_plan_of_schema_1_is_read() -> None:
    keys = {"layer": "a.0", "norm": "a.1", "activation": "relu6", "block": "inverted_residual", "ratio": 6}
    found = Plan.from_json(json.dumps({"schema_version": 1, "fingerprint": "f" * 64, "sites": [keys]}))
    assert found == Plan("f" * 64, (Site("a.0", "a.1"),))
    assert found.to_dict()["schema_version"] == 2


def test_a_plan_of_every_kind_of_site_survives_json() -> None:
    sites = (
        Site("a", None, "gelu", "basic", 1.5, "factorized"), Site("b", "c", block="branches", ratio=3, start="zero"),
        Site("d", "e", block="linear", ratio=0.25, shortcut=True),
    )  # fmt: skip
    assert Plan.from_json(Plan("f", sites).to_json()).sites == sites


def test_a_plan_is_refused_on_another_model() -> None:
    model = samples.mobilenet_v2_tiny(width_mult=0.5)
    plan = propose(model, torch.zeros(1, 1, 28, 28))
    plan.check(samples.mobilenet_v2_tiny(width_mult=0.5))
    with pytest.raises(PlanError, match="another model"):
        plan.check(samples.mobilenet_v2_tiny())


def test_a_fingerprint_depends_on_names_and_shapes_only() -> None:
    def block(inputs: int) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(inputs, 2))

    assert fingerprint(block(3)) == fingerprint(block(3))
    assert fingerprint(block(3)) != fingerprint(block(4))
    assert fingerprint(block(3)) != fingerprint(torch.nn.Linear(3, 2))
