import copy
import io
import itertools
from typing import Any

import pytest
import torch
from torch import nn

from nbedge import samples
from nbedge.blocks import expanded_blocks
from nbedge.errors import InputError
from nbedge.expansion import expand
from nbedge.linearization import (
    ORDERS,
    PLT,
    SHAPES,
    back_to_front,
    front_to_back,
    least_sensitive_first,
    sensitivities,
)
from nbedge.proposal import propose
from nbedge.slopes import learn_slopes_, set_slope_, slopes_of

ORDER = tuple(f"features.{i}.conv.0.0" for i in (4, 2, 6))


def giant() -> nn.Module:
    torch.manual_seed(0)
    model = samples.mobilenet_v2_tiny(width_mult=0.5)
    return expand(model, propose(model, torch.zeros(1, 1, 28, 28), ratio=2)).eval()


def slopes(model: nn.Module) -> set[float]:
    return set(slopes_of(model).values())


def by_block(model: nn.Module) -> dict[str, float]:
    """Return layer -> slope; all slopes of a block must be the same."""
    found = {}
    for _, block in expanded_blocks(model):
        (found[block.site.layer],) = slopes(block)
    return found


def test_the_slope_rises_from_0_to_exactly_1() -> None:
    plt = PLT(10, 110)
    assert [plt.slope(step) for step in (0, 10, 35, 60, 110, 111, 10**9)] == [0.0, 0.0, 0.25, 0.5, 1.0, 1.0, 1.0]


def test_the_cosine_rises_slowly_at_its_ends() -> None:
    plt = PLT(0, 100, "cosine")
    assert [plt.slope(step) for step in (0, 50, 100)] == [0.0, pytest.approx(0.5), 1.0]
    assert plt.slope(10) < 0.1
    assert plt.slope(90) > 0.9


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("start", "end"), [(0, 1), (0, 3), (7, 1000), (3, 10**7 + 3)])
def test_the_ramp_never_falls_and_ends_at_exactly_1(start: int, end: int, shape: str) -> None:
    plt, steps = PLT(start, end, shape), range(max(0, end - 300), end + 2)
    values = [plt.slope(step) for step in steps]
    assert values == sorted(values)
    assert plt.slope(start) == 0.0
    assert plt.slope(end) == 1.0
    assert plt.slope(end - 1) < 1.0


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("start", "end"), [(0, 1), (0, 7), (10, 110), (5, 1000)])
@pytest.mark.parametrize("places", [1, 2, 3, 7])
def test_the_ramps_of_the_blocks_fill_start_to_end(start: int, end: int, places: int, shape: str) -> None:
    plt = PLT(start, end, shape)
    ramps = [[plt.slope(step, place, places) for step in range(end + 3)] for place in range(places)]
    assert all(ramp == sorted(ramp) for ramp in ramps)
    assert all(ramp[start] == 0.0 and ramp[end] == 1.0 for ramp in ramps)
    for earlier, later in itertools.pairwise(ramps):
        assert all(a >= b for a, b in zip(earlier, later, strict=True))
    assert plt.slope(start + 1, 0, places) > 0.0
    assert plt.slope(end - 1, places - 1, places) < 1.0


def test_a_ramp_begins_halfway_through_the_one_before() -> None:
    plt = PLT(0, 80)
    assert [plt.slope(20, place, 3) for place in range(3)] == [0.5, 0.0, 0.0]
    assert [plt.slope(40, place, 3) for place in range(3)] == [1.0, 0.5, 0.0]
    assert [plt.slope(60, place, 3) for place in range(3)] == [1.0, 1.0, 0.5]


def test_slopes_may_fall_first() -> None:
    plt = PLT(10, 20, fall=4)
    assert [plt.slope(step) for step in (0, 1, 3, 4, 10, 15, 20)] == [1.0, 0.75, 0.25, 0.0, 0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((5, 5), "from step 5 to step 5"), ((6, 5), "from step 6 to step 5"), ((-1, 5), "from step -1 to step 5"),
        ((0, 0), "from step 0 to step 0"), ((3, 9, "linear", (), 4), "falls for 4 steps and rises from step 3"),
        ((3, 9, "linear", (), -1), "falls for -1 steps"), ((0, 9, "step"), "the shape of PLT is 'step'; choose one of"),
    ],
)  # fmt: skip
def test_an_empty_or_backward_ramp_is_refused(options: tuple[Any, ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        PLT(*options)


def test_apply_sets_every_slope() -> None:
    model, plt = giant(), PLT(0, 4)
    assert plt.apply(model, 1) == 0.25
    assert slopes(model) == {0.25}
    plt.apply(model, 4)
    assert slopes(model) == {1.0}


def test_apply_follows_the_order_and_returns_the_least_slope() -> None:
    model, plt = giant(), PLT(0, 80, order=ORDER)
    assert plt.apply(model, 40) == 0.0
    assert by_block(model) == dict(zip(ORDER, (1.0, 0.5, 0.0), strict=True))
    assert plt.apply(model, 79) == pytest.approx(39 / 40)
    assert plt.apply(model, 80) == 1.0
    assert slopes(model) == {1.0}


def test_a_copy_beside_the_giant_is_straightened_with_it() -> None:
    student = giant()
    both = nn.ModuleDict({"student": student, "average": copy.deepcopy(student)})
    PLT(0, 80, order=ORDER).apply(both, 60)
    assert by_block(both["student"]) == by_block(both["average"]) == dict(zip(ORDER, (1.0, 1.0, 0.5), strict=True))


@pytest.mark.parametrize("order", [ORDER[:2], (*ORDER, "features.9"), ("a", "b", "c")])
def test_an_order_of_other_blocks_is_refused(order: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="is in one of them only"):
        PLT(0, 4, order=order).apply(giant(), 1)


def test_a_model_without_blocks_has_no_slope_to_set() -> None:
    with pytest.raises(InputError, match="no expanded block"):
        PLT(0, 4).apply(nn.Linear(1, 1), 1)


def test_learned_slopes_meet_their_deadline() -> None:
    model = giant()
    learn_slopes_(model)
    for parameter in model.parameters():
        if not parameter.shape:
            parameter.data.fill_(7.0)
    PLT(0, 4).apply(model, 1)
    assert all(parameter <= 1 for parameter in model.parameters() if not parameter.shape)
    PLT(0, 4).apply(model, 4)
    assert slopes(model) == {1.0}


def test_the_state_survives_a_checkpoint() -> None:
    plt, again = PLT(3, 30, "cosine", ORDER, 2), PLT(0, 1)
    plt.apply(giant(), 17)
    again.load_state_dict(plt.state_dict())
    assert again == plt
    assert again.step == 17
    torch.save(plt.state_dict(), file := io.BytesIO())
    file.seek(0)
    assert torch.load(file, weights_only=True) == plt.state_dict()


def test_the_orders_are_those_of_the_plan() -> None:
    model = giant()
    assert front_to_back(model) == tuple(sorted(ORDER))
    assert back_to_front(model) == tuple(sorted(ORDER, reverse=True))
    assert [tuple(order(model)) for order in ORDERS.values()] == [(), front_to_back(model), back_to_front(model)]


def test_sensitivities_are_the_rise_of_the_loss_and_leave_the_slopes() -> None:
    model = giant()
    set_slope_(model, 0.25)
    weights = dict(zip(ORDER, (3.0, 1.0, 2.0), strict=True))

    def loss(changed: nn.Module) -> float:
        return 5 + sum(weights[name] * slope for name, slope in by_block(changed).items())

    found = sensitivities(model, loss)
    assert found == pytest.approx({name: 0.75 * weight for name, weight in weights.items()})
    assert slopes(model) == {0.25}
    assert least_sensitive_first(found) == (ORDER[1], ORDER[2], ORDER[0])


def test_slopes_are_restored_when_the_loss_cannot_be_computed() -> None:
    model = giant()

    def loss(changed: nn.Module) -> float:
        if slopes(changed) != {0.0}:
            raise KeyError
        return 0.0

    with pytest.raises(KeyError):
        sensitivities(model, loss)
    assert slopes(model) == {0.0}


def test_of_equally_sensitive_blocks_the_name_decides() -> None:
    assert least_sensitive_first({"b": 0.5, "a": 0.5, "c": -1.0}) == ("c", "a", "b")
