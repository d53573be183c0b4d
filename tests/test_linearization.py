import pytest
import torch
from torch import nn

from nbedge.blocks import SlopedActivation
from nbedge.errors import InputError
from nbedge.linearization import PLT, set_slope_


def giant() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 2), SlopedActivation(nn.ReLU()), nn.Sequential(SlopedActivation(nn.ReLU6())))


def slopes(model: nn.Module) -> list[float]:
    return [m.slope.item() for m in model.modules() if isinstance(m, SlopedActivation)]


def test_the_slope_rises_from_0_to_exactly_1() -> None:
    plt = PLT(10, 110)
    assert [plt.slope(step) for step in (0, 10, 35, 60, 110, 111, 10**9)] == [0.0, 0.0, 0.25, 0.5, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(("start", "end"), [(0, 1), (0, 3), (7, 1000), (3, 10**7 + 3)])
def test_the_ramp_never_falls_and_ends_at_exactly_1(start: int, end: int) -> None:
    plt, steps = PLT(start, end), range(max(0, end - 300), end + 2)
    values = [plt.slope(step) for step in steps]
    assert values == sorted(values)
    assert plt.slope(end) == 1.0
    assert plt.slope(end - 1) < 1.0


@pytest.mark.parametrize(("start", "end"), [(5, 5), (6, 5), (-1, 5), (0, 0)])
def test_an_empty_or_backward_ramp_is_refused(start: int, end: int) -> None:
    with pytest.raises(InputError, match=f"from step {start} to step {end}"):
        PLT(start, end)


def test_apply_sets_every_slope() -> None:
    model, plt = giant(), PLT(0, 4)
    assert plt.apply(model, 1) == 0.25
    assert slopes(model) == [0.25, 0.25]
    plt.apply(model, 4)
    assert slopes(model) == [1.0, 1.0]


def test_the_state_survives_a_checkpoint() -> None:
    plt, again = PLT(3, 30), PLT(0, 1)
    plt.apply(giant(), 17)
    again.load_state_dict(plt.state_dict())
    assert again == plt
    assert again.step == 17


@pytest.mark.parametrize("value", [-0.1, 1.0001, float("nan")])
def test_a_slope_outside_0_to_1_is_refused(value: float) -> None:
    model = giant()
    with pytest.raises(InputError, match="outside"):
        set_slope_(model, value)
    assert slopes(model) == [0.0, 0.0]


def test_a_model_without_blocks_has_no_slope_to_set() -> None:
    with pytest.raises(InputError, match="no expanded block"):
        set_slope_(nn.Linear(1, 1), 1.0)


def test_the_slope_of_a_giant_in_float64_is_exact() -> None:
    model = giant().double()
    set_slope_(model, 1 / 3)
    assert slopes(model) == [1 / 3, 1 / 3]
    assert model[1].slope.dtype is torch.float64
