import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nbedge.contraction import contract
from nbedge.errors import ContractionError, InputError
from nbedge.expansion import expand
from nbedge.proposal import propose
from nbedge.slopes import (
    ACTIVATIONS,
    LearnedSlope,
    SlopedActivation,
    clamp_learned_,
    copy_slopes_,
    fix_slopes_,
    learn_slopes_,
    penalty,
    set_slope_,
    sloped_activations,
    slopes_of,
)

X = torch.cat([torch.linspace(-20, 20, 4001), torch.randn(1000, generator=torch.Generator().manual_seed(0))])
SLOPES = (0.0, 1e-3, 0.1, 0.25, 0.5, 0.75, 0.999, 1.0)


def at(slope: float, activation: nn.Module) -> SlopedActivation:
    module = SlopedActivation(activation)
    module.slope.fill_(slope)
    return module


def giant() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    return expand(model, propose(model, torch.zeros(1, 2, 4, 4), every=1, ratio=2)).eval()


@pytest.mark.parametrize("slope", SLOPES)
def test_with_relu_it_is_the_maximum_of_ax_and_x(slope: float) -> None:
    torch.testing.assert_close(at(slope, nn.ReLU())(X), torch.maximum(slope * X, X), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("slope", SLOPES)
def test_with_relu6_it_is_the_form_of_depthshrinker(slope: float) -> None:
    wanted = functional.leaky_relu(X, slope) + (slope - 1) * functional.relu(X - 6)
    torch.testing.assert_close(at(slope, nn.ReLU6())(X), wanted, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_at_0_it_is_the_activation_bit_for_bit(name: str) -> None:
    assert torch.equal(at(0.0, ACTIVATIONS[name]())(X), ACTIVATIONS[name]()(X))


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_at_1_it_is_the_identity_bit_for_bit(name: str, dtype: torch.dtype) -> None:
    x = X.to(dtype)
    assert torch.equal(at(1.0, ACTIVATIONS[name]())(x), x)


@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0])
def test_its_gradient_is_right(slope: float) -> None:
    x = torch.tensor([-3.0, -0.5, 0.7, 5.0, 6.5, 9.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(at(slope, nn.ReLU6()).double(), (x,))


def test_the_slope_is_saved_with_the_model_and_not_trained() -> None:
    module = at(0.5, nn.ReLU6())
    assert module.state_dict()["slope"].item() == 0.5
    assert not list(module.parameters())


def test_it_runs_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert at(0.5, nn.ReLU6())(X.bfloat16()).dtype is torch.bfloat16


def test_activations_are_found_by_path() -> None:
    names = [name for name, _ in sloped_activations(giant())]
    assert names == [f"{layer}.chain.{part}_act" for layer in (0, 3) for part in ("expand", "depthwise")]


@pytest.mark.parametrize("value", [-0.1, 1.0001, float("nan")])
def test_a_slope_outside_0_to_1_is_refused(value: float) -> None:
    model = giant()
    with pytest.raises(InputError, match="outside"):
        set_slope_(model, value)
    assert set(slopes_of(model).values()) == {0.0}


def test_the_slope_of_a_giant_in_float64_is_exact() -> None:
    model = giant().double()
    set_slope_(model, 1 / 3)
    assert set(slopes_of(model).values()) == {1 / 3}


def test_a_model_of_linear_blocks_has_no_slope_and_needs_none() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 1))
    linear = expand(model, propose(model, torch.zeros(1, 2, 4, 4), block="linear")).eval()
    set_slope_(linear, 0.0)
    assert slopes_of(linear) == {}
    assert type(contract(linear)[0]) is nn.Conv2d  # type: ignore[index]


# averages


def averaged(source: nn.Module) -> AveragedModel:
    """Return an average that has seen slope 0 ten times and slope 1 once."""
    rule = get_ema_multi_avg_fn(0.9)  # type: ignore[no-untyped-call]
    average = AveragedModel(source, multi_avg_fn=rule, use_buffers=True)
    for slope in [0.0] * 10 + [1.0]:
        set_slope_(source, slope)
        average.update_parameters(source)
    return average.eval()


def test_an_average_lags_and_takes_the_slopes_of_its_source() -> None:
    source = giant()
    average = averaged(source)
    assert max(slopes_of(average).values()) < 1
    with pytest.raises(ContractionError, match=r"0\.chain\.expand_act has slope"):
        contract(average)
    copy_slopes_(source, average)
    assert set(slopes_of(average).values()) == {1.0}
    contract(average)


def test_slopes_of_another_model_are_refused() -> None:
    with pytest.raises(InputError, match="0 slopes, its source 4"):
        copy_slopes_(giant(), nn.Linear(1, 1))


# learned slopes


def learned(model: nn.Module) -> list[nn.Parameter]:
    return [a.learned for _, a in sloped_activations(model) if isinstance(a, LearnedSlope)]


def test_a_learned_slope_starts_as_the_slope_that_it_replaces() -> None:
    model, x = giant(), torch.randn(2, 2, 4, 4)
    set_slope_(model, 0.25)
    before = model(x)
    learn_slopes_(model)
    assert torch.equal(model(x), before)
    assert len(learned(model)) == 4


@pytest.mark.parametrize("q", [-3.0, 0.0, 0.123456, 1.0, 7.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_at_the_deadline_it_is_exactly_1_whatever_was_learned(q: float, dtype: torch.dtype) -> None:
    model = giant().to(dtype)
    learn_slopes_(model)
    for parameter in learned(model):
        parameter.data.fill_(q)
    set_slope_(model, 1.0)
    assert set(slopes_of(model).values()) == {1.0}
    contract(model)


def test_before_the_deadline_a_learned_giant_is_not_contracted() -> None:
    model = giant()
    learn_slopes_(model)
    set_slope_(model, 0.999)
    with pytest.raises(ContractionError, match=r"expand_act has slope 0\.999"):
        contract(model)


def test_the_penalty_alone_takes_learned_slopes_from_0_to_1() -> None:
    model = giant()
    learn_slopes_(model)
    optimizer, values = torch.optim.SGD(learned(model), lr=0.5), []
    for _ in range(20):
        optimizer.zero_grad()
        loss = penalty(model)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        clamp_learned_(model)
        values.append(loss.item())
    assert values[0] == 1.0
    assert values == sorted(values, reverse=True)
    assert penalty(model).item() == 0.0
    assert {parameter.item() for parameter in learned(model)} == {1.0}


def test_a_slope_pushed_out_of_range_comes_back_and_has_a_gradient() -> None:
    model = giant()
    learn_slopes_(model)
    learned(model)[0].data.fill_(-5)
    clamp_learned_(model)
    penalty(model).backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None and parameter.grad < 0 for parameter in learned(model))


def test_the_loss_reaches_learned_slopes() -> None:
    model = giant()
    learn_slopes_(model.train())
    (model(torch.randn(2, 2, 4, 4)) ** 3).sum().backward()
    assert all(parameter.grad is not None and parameter.grad != 0 for parameter in learned(model))


def test_a_model_without_learned_slopes_has_no_penalty() -> None:
    assert penalty(giant()).item() == 0


def test_learning_twice_keeps_what_was_learned() -> None:
    model = giant()
    learn_slopes_(model)
    before = learned(model)
    learn_slopes_(model)
    assert [id(p) for p in learned(model)] == [id(p) for p in before]


def test_fixed_slopes_have_the_keys_of_the_plan_and_the_slope_in_force() -> None:
    model, x = giant().double(), torch.randn(2, 2, 4, 4, dtype=torch.float64)
    wanted = list(model.state_dict())
    learn_slopes_(model)
    assert list(model.state_dict()) != wanted
    for parameter in learned(model):
        parameter.data.fill_(0.3)
    set_slope_(model, 0.5)
    before = model(x)
    fix_slopes_(model)
    assert list(model.state_dict()) == wanted
    assert list(slopes_of(model).values()) == pytest.approx([0.65] * 4, abs=1e-15)
    assert torch.equal(model(x), before)


def test_an_average_of_learned_slopes_is_1_at_the_deadline_of_its_source() -> None:
    source = giant()
    learn_slopes_(source)
    average = averaged(source)
    copy_slopes_(source, average)
    assert set(slopes_of(average).values()) == {1.0}


# torch.compile


def test_a_new_slope_compiles_nothing_again() -> None:
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    model, counter, x = giant(), CompileCounter(), torch.randn(2, 2, 4, 4)
    compiled = torch.compile(model, backend=counter)
    compiled(x)
    first = counter.frame_count
    for slope in (0.0, 0.25, 0.5, 1.0):
        set_slope_(model, slope)
        torch.testing.assert_close(compiled(x), model(x))
    assert first > 0
    assert counter.frame_count == first


def test_a_copy_of_learned_slopes_is_its_own() -> None:
    model = giant()
    learn_slopes_(model)
    other = copy.deepcopy(model)
    set_slope_(other, 1.0)
    assert set(slopes_of(model).values()) == {0.0}
