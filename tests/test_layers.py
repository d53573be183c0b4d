import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nbedge import layers, samples
from nbedge.errors import ContractionError
from nbedge.layers import TF_SAME, Branches, Geometry, Padding


class Convolution(nn.Conv2d):
    pass


class Norm(nn.BatchNorm2d):
    pass


@pytest.mark.parametrize(
    ("layer", "number"),
    [(nn.Linear(2, 2), 0), (nn.Conv1d(2, 2, 1), 1), (nn.Conv2d(2, 2, 1), 2), (nn.Conv3d(2, 2, 1), 3)],
)
def test_a_known_layer_has_dimensions(layer: nn.Module, number: int) -> None:
    assert layers.is_known(layer)
    assert layers.dims(layer) == number


@pytest.mark.parametrize(
    "layer",
    [
        pytest.param(Convolution(2, 2, 1), id="subclass"),
        pytest.param(nn.ConvTranspose2d(2, 2, 1), id="transposed"),
        pytest.param(nn.LazyConv2d(2, 1), id="lazy"),
        pytest.param(nn.ReLU(), id="activation"),
        pytest.param(samples.Conv2dSame(2, 2, 3, padding=1), id="padded twice"),
        pytest.param(samples.Conv2dSame(2, 2, 3, padding="same"), id="padded twice by name"),
    ],
)
def test_a_layer_whose_forward_may_do_anything_is_unknown(layer: nn.Module) -> None:
    assert not layers.is_known(layer)


@pytest.mark.parametrize(
    ("norm", "known"),
    [
        (nn.BatchNorm1d(2), True), (nn.BatchNorm2d(2), True), (nn.BatchNorm3d(2), True), (nn.SyncBatchNorm(2), True),
        (Norm(2), False), (nn.GroupNorm(1, 2), False), (nn.InstanceNorm2d(2), False), (None, False),
    ],
)  # fmt: skip
def test_a_norm_is_known_by_its_class(norm: nn.Module | None, known: bool) -> None:
    assert layers.is_norm(norm) is known


@pytest.mark.parametrize(
    ("layer", "padding"),
    [
        (nn.Conv1d(1, 1, 5, padding="valid"), ((0, 0),)),
        (nn.Conv1d(1, 1, 5, padding="same"), ((2, 2),)),
        (nn.Conv1d(1, 1, 4, padding="same"), ((1, 2),)),
        (nn.Conv2d(1, 1, (2, 3), padding="same", dilation=(3, 2)), ((1, 2), (2, 2))),
        (nn.Conv3d(1, 1, 3, padding=(0, 1, 2)), ((0, 0), (1, 1), (2, 2))),
        (samples.Conv2dSame(1, 1, 3), TF_SAME),
        (nn.Linear(1, 1), ()),
    ],
)
def test_the_padding_is_read_in_pixels(layer: Any, padding: object) -> None:
    assert Geometry.of(layer).padding == padding


def test_what_means_nothing_is_no_part_of_the_geometry() -> None:
    assert Geometry.of(nn.Conv2d(1, 1, 1, dilation=3, padding_mode="reflect")) == Geometry.of(nn.Conv2d(1, 1, 1))
    assert Geometry.of(nn.Conv2d(1, 1, 3, dilation=3)) != Geometry.of(nn.Conv2d(1, 1, 3))


MODES = ("zeros", "reflect", "replicate", "circular")
PADDINGS: list[Any] = [0, 1, 2, "same", "valid"]


@settings(max_examples=120, derandomize=True, deadline=None)
@given(
    number=st.integers(1, 3), kernel=st.integers(1, 4), stride=st.integers(1, 3), dilation=st.integers(1, 2),
    padding=st.sampled_from(PADDINGS), mode=st.sampled_from(MODES), size=st.integers(8, 10),
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_padding_apart_and_a_layer_without_are_the_layer(
    number: int, kernel: int, stride: int, dilation: int, padding: Any, mode: str, size: int
) -> None:
    kinds: list[Any] = [nn.Conv1d, nn.Conv2d, nn.Conv3d]
    stride = 1 if padding == "same" else stride
    layer = kinds[number - 1](2, 2, kernel, stride, padding, dilation, padding_mode=mode, dtype=torch.float64)
    bare = kinds[number - 1](2, 2, kernel, stride, 0, dilation, dtype=torch.float64)
    bare.load_state_dict(layer.state_dict())
    x = torch.randn(2, 2, *[size] * number, dtype=torch.float64)
    torch.testing.assert_close(bare(Padding(Geometry.of(layer))(x)), layer(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "size"), list(itertools.product((1, 2, 3, 5), (1, 2, 3), (1, 2), (7, 8)))
)
def test_the_padding_of_tensorflow_apart_is_the_layer(kernel: int, stride: int, dilation: int, size: int) -> None:
    layer = samples.Conv2dSame(2, 3, kernel, stride, dilation=dilation)
    bare = nn.Conv2d(2, 3, kernel, stride, dilation=dilation)
    bare.load_state_dict(layer.state_dict())
    x = torch.randn(1, 2, size, size + 2)
    found = bare(Padding(Geometry.of(layer))(x))
    assert torch.equal(found, layer(x))
    assert found.shape[2:] == (-(-size // stride), -(-(size + 2) // stride))


def test_branches_add_up() -> None:
    x = torch.randn(2, 3)
    assert torch.equal(Branches({"a": nn.Identity(), "b": nn.ReLU()})(x), x + x.relu())


@pytest.mark.parametrize("affine", [True, False])
def test_scale_and_shift_are_the_norm(affine: bool) -> None:
    norm = nn.BatchNorm2d(3, eps=1e-3, affine=affine).double().eval()
    for value in norm.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 2)
    x = torch.randn(4, 3, 2, 2, dtype=torch.float64)
    scale, shift = layers.scale_shift(norm)
    torch.testing.assert_close(x * scale[:, None, None] + shift[:, None, None], norm(x), rtol=1e-12, atol=1e-12)


def test_the_formula_is_that_of_batchnorm() -> None:
    norm = nn.BatchNorm2d(1, eps=0.25)
    for name, value in {"weight": 3.0, "bias": 5.0, "running_mean": 7.0, "running_var": 2.0}.items():
        norm.state_dict()[name].fill_(value)
    scale, shift = layers.scale_shift(norm)
    assert (scale.item(), shift.item()) == (2, 5 - 7 * 2)


def test_a_norm_without_statistics_has_no_formula() -> None:
    with pytest.raises(ContractionError, match="without running statistics"):
        layers.scale_shift(nn.BatchNorm2d(2, track_running_stats=False))


def test_a_normalized_value_is_that_of_eval_mode() -> None:
    norm, x = nn.BatchNorm2d(3), torch.randn(4, 3, 2, 2)
    norm.get_buffer("running_mean").fill_(2)
    wanted: Tensor = norm.eval()(x)
    assert torch.equal(layers.normalized(norm.train(), x), wanted)
    assert norm.running_mean is not None
    assert norm.running_mean.eq(2).all()
