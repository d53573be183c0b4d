"""When several layers are one: the cases of exact contraction, in float64, over the whole map with its border."""

from collections import OrderedDict
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nbedge import affine, samples
from nbedge.affine import AffineMap, Frame, map_of
from nbedge.errors import ContractionError
from nbedge.layers import Branches, Geometry, Padding
from nbedge.slopes import ACTIVATIONS, SlopedActivation

C, HIDDEN = 4, 8


def point(inputs: int = C, outputs: int = HIDDEN, stride: int = 1, groups: int = 1) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 1, stride, groups=groups)


def depthwise(size: int = 3, padding: int = 0, stride: int = 1, hidden: int = HIDDEN, bias: bool = True) -> nn.Module:
    return nn.Conv2d(hidden, hidden, size, stride, padding, groups=hidden, bias=bias)


def bn(features: int = HIDDEN, eps: float = 1e-3) -> nn.Module:
    return nn.BatchNorm2d(features, eps)


def act(slope: float = 1.0, activation: type[nn.Module] = nn.ReLU6) -> nn.Module:
    module = SlopedActivation(activation())
    module.slope.fill_(slope)
    return module


def pad(pixels: int, size: int = 3) -> nn.Module:
    return Padding(Geometry.of(nn.Conv2d(1, 1, size, padding=pixels)))


def chain(*steps: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict((str(index), step) for index, step in enumerate(steps)))


def ready(module: nn.Module, seed: int = 0) -> nn.Module:
    """Return the module in float64 and eval mode, its statistics drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.double().eval().modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_var is not None:
            for value, low, high in (
                (part.weight, 0.5, 1.5), (part.bias, -1, 1), (part.running_mean, -1, 1), (part.running_var, 0.2, 2),
            ):  # fmt: skip
                if value is not None:
                    value.data.uniform_(low, high, generator=generator)
        elif isinstance(part, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
            for parameter in part.parameters():
                parameter.data.normal_(generator=generator)
    return module


def merged(found: AffineMap, like: nn.Module) -> nn.Module:
    """Return the layer like `like` (its geometry and groups) that holds the map."""
    layer = like.double()
    weight, bias = found.for_layer()
    layer.weight = nn.Parameter(weight.detach())
    layer.bias = nn.Parameter(bias.detach())
    assert Geometry.of(layer) == found.geometry  # type: ignore[arg-type]
    return layer


def worst(found: Tensor, wanted: Tensor) -> float:
    assert found.shape == wanted.shape
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize(
    ("module", "like"),
    [
        pytest.param(
            chain(point(), bn(), depthwise(1), bn(), point(HIDDEN, C), bn(C)), nn.Conv2d(C, C, 1), id="1x1 dw1x1 1x1"
        ),
        pytest.param(
            Branches({"chain": chain(point(), bn(), depthwise(1), bn(), point(HIDDEN, C)), "skip": nn.Identity()}),
            nn.Conv2d(C, C, 1),
            id="with an identity beside",
        ),
        pytest.param(
            chain(point(), bn(), depthwise(1), bn(), point(HIDDEN, C, stride=2)), nn.Conv2d(C, C, 1, 2), id="stride 2"
        ),
        pytest.param(
            chain(pad(1), point(), bn(), depthwise(3), bn(), point(HIDDEN, C), bn(C)),
            nn.Conv2d(C, C, 3, padding=1),
            id="padded before the first 1x1",
        ),
        pytest.param(
            chain(depthwise(3, 1, hidden=C), bn(C), point(C, C), bn(C)),
            nn.Conv2d(C, C, 3, padding=1),
            id="padded first",
        ),
        pytest.param(
            chain(pad(2, 5), depthwise(5, hidden=C, bias=False), depthwise(1, hidden=C, bias=False)),
            nn.Conv2d(C, C, 5, padding=2, groups=1),
            id="depthwise twice",
        ),
        pytest.param(
            chain(nn.Conv2d(C, 5, (3, 1), (2, 1)), nn.Conv2d(5, 6, (1, 3), (1, 3))),
            nn.Conv2d(C, 6, 3, (2, 3)),
            id="3x1 and 1x3",
        ),
        pytest.param(
            chain(point(stride=2), bn(), nn.Conv2d(HIDDEN, C, 3)), nn.Conv2d(C, C, 3, 2, dilation=2), id="strided first"
        ),
        pytest.param(chain(point(), act(), point(HIDDEN, C), nn.Dropout(0.5)), nn.Conv2d(C, C, 1), id="ReLU6 at 1"),
        pytest.param(chain(bn(C), point(C, C)), nn.Conv2d(C, C, 1), id="BatchNorm first"),
    ],
)
def test_the_exact_cases_are_exact_up_to_the_border(module: nn.Module, like: nn.Module) -> None:
    x = torch.randn(3, C, 9, 10, dtype=torch.float64)
    module = ready(module)
    with torch.no_grad():
        found = map_of(module, Frame(1, 2))
        assert worst(merged(found, like)(x), module(x)) <= 1e-12


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_linear_at_slope_1(name: str) -> None:
    module, x = (
        ready(chain(point(), act(1.0, ACTIVATIONS[name]), point(HIDDEN, C))),
        30 * torch.randn(2, C, 5, 5).double(),
    )
    with torch.no_grad():
        assert worst(merged(map_of(module, Frame(1, 2)), nn.Conv2d(C, C, 1))(x), module(x)) <= 1e-12


@pytest.mark.parametrize(
    ("module", "words"),
    [
        pytest.param(chain(point(), bn(), depthwise(3, 1), bn(), point(HIDDEN, C)), "pads in the middle", id="border"),
        pytest.param(
            chain(depthwise(3, 1, hidden=C, bias=False), depthwise(3, 1, hidden=C, bias=False)),
            "pads in the middle",
            id="border without bias",
        ),
        pytest.param(chain(point(), pad(1), depthwise(3)), r"block\.1 is a Padding", id="pad in the middle"),
        pytest.param(chain(pad(1), depthwise(3, 1, hidden=C)), "pads twice", id="pads twice"),
        pytest.param(chain(pad(1), nn.Identity()), "pads for no convolution", id="pads nothing"),
        pytest.param(
            chain(depthwise(3, hidden=C), depthwise(3, hidden=C)), "second kernel larger than 1", id="two kernels"
        ),
        pytest.param(chain(point(), nn.ReLU6(), point(HIDDEN, C)), r"block\.1 is a ReLU6", id="the ceiling left in"),
        pytest.param(chain(point(), nn.LayerNorm(3)), r"block\.1 is a LayerNorm", id="LayerNorm"),
        pytest.param(chain(point(), nn.GroupNorm(2, HIDDEN)), r"block\.1 is a GroupNorm", id="GroupNorm"),
        pytest.param(chain(point(), nn.InstanceNorm2d(HIDDEN)), r"block\.1 is a InstanceNorm2d", id="InstanceNorm"),
        pytest.param(chain(point(), nn.MaxPool2d(2)), r"block\.1 is a MaxPool2d", id="max-pool"),
        pytest.param(chain(point(), nn.Sigmoid()), r"block\.1 is a Sigmoid", id="gate"),
        pytest.param(chain(nn.BatchNorm2d(C, track_running_stats=False)), "running statistics", id="of the batch"),
        pytest.param(chain(), "holds no convolution", id="nothing"),
        pytest.param(chain(nn.Identity(), nn.Dropout()), "holds no convolution", id="identities"),
        pytest.param(Branches({"a": nn.Identity(), "b": nn.Identity()}), "holds no convolution", id="no branch"),
        pytest.param(
            Branches({"a": nn.Conv2d(C, C, 3, padding=1), "b": nn.Conv2d(C, C, 3, 2, padding=1)}),
            r"block\.b slides over the input in another way",
            id="strides differ",
        ),
        pytest.param(
            Branches({"a": nn.Conv2d(C, C, 3, padding=1), "b": nn.Conv2d(C, C, 3, padding=1, padding_mode="reflect")}),
            "slides over the input in another way",
            id="paddings differ",
        ),
        pytest.param(
            Branches({"a": samples.Conv2dSame(C, C, 3), "b": point(C, C)}), "slides over the input", id="no centre"
        ),
    ],
)  # fmt: skip
def test_what_is_not_one_convolution_is_refused_by_name(module: nn.Module, words: str) -> None:
    with pytest.raises(ContractionError, match=words):
        map_of(ready(module), Frame(1, 2))


def test_a_dense_layer_before_a_depthwise_one_does_not_fit_its_groups() -> None:
    with pytest.raises(ContractionError, match=r"has 1 groups in a block of 4, whose channels it would mix"):
        map_of(ready(chain(point(C, C), depthwise(3, hidden=C))), Frame(C, 2))


def test_padding_in_the_middle_would_be_wrong_at_the_border_alone() -> None:
    x = torch.randn(2, C, 8, 8, dtype=torch.float64)
    with torch.no_grad():  # the same seed, and so the same numbers
        middle = ready(chain(point(), bn(), depthwise(3, 1), bn(), point(HIDDEN, C)))(x)
        front = ready(chain(pad(1), point(), bn(), depthwise(3), bn(), point(HIDDEN, C)))(x)
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    assert worst(middle[inner], front[inner]) <= 1e-12
    assert worst(middle, front) > 1e-3


@settings(max_examples=100, derandomize=True, deadline=None)
@given(
    number=st.integers(0, 3), kernels=st.sampled_from([(1, 1), (1, 3), (2, 1), (3, 1), (1, 2)]),
    strides=st.tuples(st.integers(1, 2), st.integers(1, 2)), dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.integers(0, 2), groups=st.tuples(st.sampled_from([1, 2, 6]), st.sampled_from([1, 2, 3, 6])),
    biases=st.tuples(st.booleans(), st.booleans()), norm=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_two_layers_compose(
    number: int, kernels: tuple[int, int], strides: tuple[int, int], dilations: tuple[int, int], padding: int,
    groups: tuple[int, int], biases: tuple[bool, bool], norm: bool, seed: int,
) -> None:  # fmt: skip
    kinds: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
    norms: dict[int, Any] = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
    channels, layers = (6, 12, 6), []
    for index in range(2):
        inputs, outputs = channels[index], channels[index + 1]
        if number == 0:
            layers.append(nn.Linear(inputs, outputs, biases[index]))
        else:
            layers.append(
                kinds[number](
                    inputs, outputs, kernels[index], strides[index], 0 if index else padding, dilations[index],
                    groups[index], biases[index],
                )
            )  # fmt: skip
    module = ready(chain(layers[0], norms[number](12) if norm else nn.Identity(), layers[1]), seed)
    x = torch.randn(2, 6, *[9] * number, dtype=torch.float64)
    found = map_of(module, Frame(1, number))
    weight, bias = found.for_layer()
    with torch.no_grad():
        if number == 0:
            answer = nn.functional.linear(x, weight, bias)
        else:
            run: Any = (None, nn.functional.conv1d, nn.functional.conv2d, nn.functional.conv3d)[number]
            geometry = found.geometry
            answer = run(x, weight, bias, geometry.stride, geometry.before(()), geometry.dilation)
        assert worst(answer, module(x)) <= 1e-12


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_map_is_expressed_in_the_groups_that_are_asked_for(groups: int) -> None:
    module, x = (
        ready(chain(point(C, HIDDEN, groups=4), depthwise(3), point(HIDDEN, C, groups=4))),
        torch.randn(2, C, 6, 6),
    )
    found = map_of(module, Frame(groups, 2))
    assert found.weight.shape == (groups, C // groups, C // groups, 9)
    with torch.no_grad():
        assert worst(merged(found, nn.Conv2d(C, C, 3, groups=groups))(x.double()), module(x.double())) <= 1e-12


@pytest.mark.parametrize("eps", [1e-3, 1e-5, 1e-6])
def test_eps_is_part_of_the_merge(eps: float) -> None:
    module, x = ready(chain(point(C, C), bn(C, eps))), torch.randn(2, C, 4, 4).double()
    module.get_submodule("1").get_buffer("running_var").fill_(1e-5)
    with torch.no_grad():
        found = map_of(module, Frame(1, 2))
        assert worst(merged(found, nn.Conv2d(C, C, 1))(x), module(x)) <= 1e-12
        module.get_submodule("1").eps = 1e-2  # type: ignore[assignment]
        assert worst(merged(found, nn.Conv2d(C, C, 1))(x), module(x)) > 1e-2


@pytest.mark.parametrize(
    ("layer", "tap"),
    [
        (nn.Conv2d(1, 1, 1), (0, 0)),
        (nn.Conv2d(1, 1, 3, padding=1), (1, 1)),
        (nn.Conv2d(1, 1, (3, 5), padding=(2, 4), dilation=2), (1, 2)),
        (nn.Conv2d(1, 1, (1, 4), padding="same"), (0, 1)),
        (nn.Conv2d(1, 1, 3), None),
        (nn.Conv2d(1, 1, 3, padding=2), None),
        (nn.Conv2d(1, 1, 3, padding=1, dilation=2), None),
        (samples.Conv2dSame(1, 1, 3), None),
        (nn.Linear(1, 1), ()),
    ],
)
def test_the_centre_of_a_kernel_reads_what_a_1x1_reads(layer: Any, tap: tuple[int, ...] | None) -> None:
    assert affine.centre(Geometry.of(layer)) == tap


def test_gradients_go_through_the_merge() -> None:
    module = ready(chain(point(), bn(), depthwise(1), point(HIDDEN, C)))
    weight, bias = map_of(module, Frame(1, 2)).for_layer()
    (weight.sum() + bias.sum()).backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in module.parameters())
