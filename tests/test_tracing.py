import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from nbedge import samples
from nbedge.tracing import cost, evaluating, paths, registrations, trace


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.conv(x)).mean((2, 3))


class InPlace(nn.Module):
    """Reads the convolution's output before and after an activation changes it in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.before = nn.Conv2d(1, 2, 1), nn.Sigmoid()
        self.relu, self.after = nn.ReLU(inplace=True), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        self.before(y)
        self.relu(y)
        result: Tensor = self.after(y)
        return result


class Keyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(1, 2, 1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.relu(input=self.conv(x))
        return result


def readers(model: nn.Module, layer: nn.Module, x: Tensor) -> list[str]:
    record = trace(model, x)
    return [call.name for call in record.consumers(record.of(layer)[0].outputs[0])]


@pytest.mark.parametrize(
    ("layer", "shape", "macs", "parameters"),
    [
        (nn.Conv2d(3, 8, 3, stride=2, padding=1), (1, 3, 10, 10), 8 * 5 * 5 * 3 * 9, 8 * 27 + 8),
        (nn.Conv2d(6, 6, 3, groups=6, bias=False), (1, 6, 7, 7), 6 * 5 * 5 * 9, 54),
        (nn.Conv2d(4, 8, 1, groups=2, bias=False), (1, 4, 3, 3), 8 * 9 * 2, 16),
        (nn.Linear(12, 5), (1, 12), 60, 65),
        (nn.Conv1d(2, 3, 5), (1, 2, 9), 3 * 5 * 10, 33),
        (nn.BatchNorm2d(3), (1, 3, 4, 4), 0, 6),
    ],
)
def test_cost_of_a_layer_is_what_the_hand_counts(
    layer: nn.Module, shape: tuple[int, ...], macs: int, parameters: int
) -> None:
    found = cost(nn.Sequential(layer), torch.zeros(shape))
    assert (found.macs, found.parameters) == (macs, parameters)


def test_cost_is_for_one_input_of_the_batch() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    assert cost(model, torch.zeros(5, 3, 8, 8)) == cost(model, torch.zeros(1, 3, 8, 8))


def test_a_layer_called_twice_costs_twice() -> None:
    layer = nn.Linear(4, 4)
    assert cost(nn.Sequential(layer, layer), torch.zeros(1, 4)).macs == 32


def test_a_parametrized_layer_is_counted() -> None:
    plain = cost(nn.Sequential(nn.Conv2d(3, 4, 1)), torch.zeros(1, 3, 5, 5))
    normed = nn.Sequential(parametrizations.weight_norm(nn.Conv2d(3, 4, 1)))
    assert cost(normed, torch.zeros(1, 3, 5, 5)).macs == plain.macs


def test_a_trace_restores_each_mode_and_leaves_no_hook() -> None:
    model = samples.mobilenet_v2_tiny(width_mult=0.5).train()
    model.features[0].eval()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    trace(model, torch.randn(2, 1, 28, 28))
    assert [module.training for module in model.modules()] == modes
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_failed_trace_restores_too() -> None:
    model = samples.mobilenet_v2_tiny(width_mult=0.5).train()
    with pytest.raises(RuntimeError):
        trace(model, torch.zeros(1, 3, 28, 28))
    assert model.features[0].training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_evaluating_gives_a_frozen_module_its_mode_back() -> None:
    model = nn.Sequential(nn.BatchNorm2d(2).eval(), nn.Dropout()).train()
    model[0].eval()
    with evaluating(model):
        assert not model[1].training
    assert (model.training, model[0].training, model[1].training) == (True, False, True)


def test_a_functional_call_is_a_consumer() -> None:
    model = Functional()
    assert readers(model, model.conv, torch.zeros(1, 1, 2, 2)) == ["relu"]
    assert [call.module is None for call in trace(model, torch.zeros(1, 1, 2, 2)).calls] == [False, True, True]


def test_an_activation_in_place_keeps_the_order() -> None:
    model = InPlace()
    assert readers(model, model.conv, torch.zeros(1, 1, 2, 2)) == ["before", "relu"]
    assert readers(model, model.relu, torch.zeros(1, 1, 2, 2)) == ["after"]


def test_a_tensor_passed_by_name_is_seen() -> None:
    model = Keyword()
    assert readers(model, model.conv, torch.zeros(1, 1, 2, 2)) == ["relu"]


def test_the_model_s_output_is_known() -> None:
    model = Functional()
    record = trace(model, torch.zeros(1, 1, 2, 2))
    assert record.returned == frozenset(record.calls[-1].outputs)


def test_the_shape_of_what_a_layer_reads_is_known() -> None:
    model = Functional()
    (call,) = trace(model, torch.zeros(3, 1, 2, 5)).of(model.conv)
    assert (call.input_shape, call.shape) == ((3, 1, 2, 5), (3, 2, 2, 5))


def test_a_function_that_reads_a_weight_is_known() -> None:
    class Reads(Functional):
        def forward(self, x: Tensor) -> Tensor:
            return functional.conv2d(x, self.conv.weight)

    model = Reads()
    record = trace(model, torch.zeros(1, 1, 2, 2))
    assert record.readers == {id(model.conv.weight): "conv2d"}
    assert trace(Functional(), torch.zeros(1, 1, 2, 2)).readers == {}


def test_a_part_has_a_path_for_each_name_and_a_registration_for_each_parent() -> None:
    layer = nn.Linear(1, 1)
    inner = nn.Sequential(layer)
    model = nn.ModuleDict({"a": inner, "b": inner, "c": layer})
    assert paths(model, layer) == ["a.0", "b.0", "c"]
    assert registrations(model, layer) == 2
    assert registrations(model, model) == 0
