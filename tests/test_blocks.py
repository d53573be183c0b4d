"""Every kind of block in the place of every kind of layer: built, straightened, contracted, in float64."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nbedge import samples
from nbedge.blocks import Expanded, Template, expanded_blocks, hidden_channels, refusal, structure
from nbedge.contraction import contract
from nbedge.errors import NbedgeError
from nbedge.expansion import expand
from nbedge.layers import Geometry, Layer
from nbedge.plan import BLOCKS, Plan, Site, fingerprint
from nbedge.slopes import set_slope_

pytestmark = pytest.mark.group("algebra")

KINDS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS: dict[int, Any] = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def site(block: str, ratio: float = 2, **options: Any) -> Site:
    return Site("0", "1", block=block, ratio=ratio, **options)


def disturb_(model: nn.Module, seed: int) -> nn.Module:
    """Put the model into eval mode, its BatchNorms with random weights and statistics."""
    generator = torch.Generator().manual_seed(seed)
    for norm in (m for m in model.eval().modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)):
        draw = torch.rand(4, norm.num_features, generator=generator, dtype=torch.float64)
        norm.weight.data.copy_((0.5 + draw[0]) * (1 - 2 * (draw[1] < 0.5).double()))
        norm.bias.data.copy_(draw[1] - 0.5)
        norm.get_buffer("running_mean").copy_(draw[2] - 0.5)
        norm.get_buffer("running_var").copy_(0.1 + draw[3])
    return model


def contracts(layer: Any, norm: Any, wanted: Site, x: Tensor, seed: int = 0) -> None:
    """Assert that a random straight giant and its contracted model agree everywhere, and that nothing else changed."""
    torch.manual_seed(seed)
    model = nn.Sequential(layer, norm).double()
    giant = disturb_(expand(model, Plan(fingerprint(model), (wanted,)), seed=seed), seed)
    set_slope_(giant, 1.0)
    tiny = contract(giant)
    with torch.no_grad():
        found, answer = tiny(x), giant(x)
    assert found.shape == answer.shape == model(x).shape
    assert (found - answer).abs().max() <= 1e-9 * answer.abs().max()
    model.load_state_dict(tiny.state_dict(), strict=True)
    assert str(tiny) == str(model)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    block=st.sampled_from(BLOCKS), number=st.sampled_from([1, 2, 2, 3]), kernel=st.integers(1, 4),
    stride=st.integers(1, 3), padding=st.sampled_from([0, 1, 2, "same", "valid"]), dilation=st.integers(1, 2),
    groups=st.sampled_from([(4, 6, 1), (4, 4, 1), (4, 6, 2), (4, 4, 4), (3, 6, 3)]), bias=st.booleans(),
    mode=st.sampled_from(["zeros", "reflect", "circular", "replicate"]), eps=st.sampled_from([1e-3, 1e-5, 1e-6]),
    start=st.sampled_from(["random", "random", "zero"]), ratio=st.sampled_from([1, 2, 3]), seed=st.integers(0, 99),
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_every_block_contracts_to_every_convolution(
    block: str, number: int, kernel: int, stride: int, padding: Any, dilation: int, groups: tuple[int, int, int],
    bias: bool, mode: str, eps: float, start: str, ratio: int, seed: int,
) -> None:  # fmt: skip
    inputs, outputs, number_of_groups = groups
    layer = KINDS[number](
        inputs, outputs, kernel, 1 if padding == "same" else stride, padding, dilation, number_of_groups, bias, mode
    )
    x = torch.randn(2, inputs, *[8, 9, 8][:number], dtype=torch.float64)
    contracts(layer, NORMS[number](outputs, eps), site(block, ratio, start=start), x, seed)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(
    block=st.sampled_from(["basic", "linear"]), shape=st.tuples(st.integers(2, 6), st.integers(2, 6)),
    bias=st.booleans(), eps=st.sampled_from([1e-3, 1e-5, 1e-6]), ratio=st.sampled_from([0.3, 1, 2.5]),
    start=st.sampled_from(["random", "zero"]), seed=st.integers(0, 99),
)  # fmt: skip
def test_a_fully_connected_layer_contracts(
    block: str, shape: tuple[int, int], bias: bool, eps: float, ratio: float, start: str, seed: int
) -> None:
    x = torch.randn(5, shape[0], dtype=torch.float64)
    contracts(nn.Linear(*shape, bias), nn.BatchNorm1d(shape[1], eps), site(block, ratio, start=start), x, seed)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    block=st.sampled_from(BLOCKS), kernel=st.integers(1, 5), stride=st.integers(1, 3), dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2, 4]), size=st.integers(6, 9), start=st.sampled_from(["random", "zero"]),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_every_block_contracts_to_the_padding_of_tensorflow(
    block: str, kernel: int, stride: int, dilation: int, groups: int, size: int, start: str, seed: int
) -> None:
    layer = samples.Conv2dSame(4, 4, kernel, stride, dilation=dilation, groups=groups, bias=False)
    x = torch.randn(2, 4, size, size + 1, dtype=torch.float64)
    contracts(layer, nn.BatchNorm2d(4), site(block, start=start), x, seed)


@pytest.mark.parametrize("block", ["inverted_residual", "basic", "bottleneck", "linear"])
@pytest.mark.parametrize("groups", [1, 4])
def test_a_shortcut_becomes_part_of_the_kernel(block: str, groups: int) -> None:
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    contracts(nn.Conv2d(4, 4, 1, groups=groups), nn.BatchNorm2d(4), site(block, shortcut=True), x)


@pytest.mark.parametrize("activation", ["relu", "relu6", "hardswish", "silu", "gelu"])
def test_every_activation_contracts(activation: str) -> None:
    x = 10 * torch.randn(2, 4, 5, 5, dtype=torch.float64)
    contracts(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), site("inverted_residual", activation=activation), x)


# what is built


def chain(block: str, layer: Any, bias: bool = True, **options: Any) -> nn.Module:
    return structure(layer, site(block, **options), nn.BatchNorm2d(6, 1e-3, 0.2), bias)


LAYERS = [nn.Conv2d(4, 6, 3, 2, 1, 2, 2), nn.Conv2d(4, 6, 1, 2), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 8, 5)]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_a_block_has_the_shape_of_its_layer_and_at_most_one_kernel(block: str, layer: nn.Conv2d) -> None:
    found, x = chain(block, layer).eval(), torch.zeros(2, 4, 11, 11)
    assert found(x).shape == layer(x).shape
    ways = found.values() if isinstance(found, nn.ModuleDict) else [found]
    for way in ways:
        kernels = [m.kernel_size for m in way.modules() if isinstance(m, nn.Conv2d)]
        assert sum(kernel != (1, 1) for kernel in kernels) <= 1


@pytest.mark.parametrize("block", ["inverted_residual", "basic", "bottleneck", "branches"])
def test_inserted_norms_are_like_the_one_behind(block: str) -> None:
    norms = [m for m in chain(block, nn.Conv2d(4, 6, 3)).modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.2)}


def test_without_a_norm_behind_inserted_norms_are_torch_s_own() -> None:
    found = structure(nn.Conv2d(4, 6, 3), site("basic"), None, True)
    assert found.get_submodule("spatial_norm").eps == nn.BatchNorm2d(1).eps


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("block", ["inverted_residual", "basic", "bottleneck", "linear"])
def test_the_last_layer_alone_may_have_a_bias(block: str, bias: bool) -> None:
    layers = [m for m in chain(block, nn.Conv2d(4, 6, 3), bias).modules() if isinstance(m, nn.Conv2d)]
    assert [layer.bias is not None for layer in layers] == [False] * (len(layers) - 1) + [bias]


@pytest.mark.parametrize(
    ("layer", "ratio", "hidden"),
    [
        (nn.Conv2d(4, 6, 1), 6, 24), (nn.Conv2d(4, 6, 1), 0.3, 1), (nn.Conv2d(4, 6, 1), 0.01, 1),
        (nn.Conv2d(4, 4, 3, groups=4), 0.5, 4), (nn.Conv2d(4, 4, 3, groups=4), 3, 12),
        (nn.Conv2d(6, 6, 3, groups=2), 1.4, 8), (nn.Linear(5, 2), 2.5, 12),
    ],
)  # fmt: skip
def test_hidden_channels_follow_the_ratio_and_fill_each_group(layer: Layer, ratio: float, hidden: int) -> None:
    assert hidden_channels(layer, ratio) == hidden


@pytest.mark.parametrize(
    ("layer", "ways"),
    [
        (nn.Conv2d(4, 4, 3, padding=1), ["conv0", "conv1", "point", "skip"]),
        (nn.Conv2d(4, 4, 3, padding=1, stride=2), ["conv0", "conv1", "point"]),
        (nn.Conv2d(4, 6, 3, padding=1), ["conv0", "conv1", "point"]),
        (nn.Conv2d(4, 4, 3), ["conv0", "conv1"]),
        (nn.Conv2d(4, 4, 1), ["conv0", "conv1", "skip"]),
        (samples.Conv2dSame(4, 4, 3), ["conv0", "conv1"]),
    ],
)
def test_branches_are_those_that_the_layer_has_room_for(layer: Layer, ways: list[str]) -> None:
    assert list(structure(layer, site("branches"), None, False)._modules) == ways


@pytest.mark.parametrize(
    ("layer", "options", "home", "words"),
    [
        (nn.Conv2d(4, 4, 1, bias=False), {"block": "basic"}, False, "a merged bias has nowhere to go"),
        (nn.Linear(4, 4), {"block": "inverted_residual"}, True, "takes the blocks basic and linear"),
        (nn.Linear(4, 4), {"block": "branches"}, True, "takes the blocks basic and linear"),
        (nn.Conv2d(4, 4, 3), {"block": "basic", "shortcut": True}, True, "a shortcut needs"),
        (nn.Conv2d(4, 4, 1, 2), {"block": "basic", "shortcut": True}, True, "a shortcut needs"),
        (nn.Conv2d(4, 4, 1, padding=1), {"block": "basic", "shortcut": True}, True, "a shortcut needs"),
        (nn.Conv2d(4, 6, 1), {"block": "basic", "shortcut": True}, True, "a shortcut needs"),
        (nn.Conv2d(4, 4, 1, bias=False), {"block": "linear"}, False, None),
        (nn.Linear(4, 4), {"block": "basic"}, True, None),
        (nn.Conv2d(4, 4, 1), {"block": "basic", "shortcut": True}, True, None),
    ],
)
def test_what_a_block_cannot_replace_is_refused(
    layer: Layer, options: dict[str, Any], home: bool, words: str | None
) -> None:
    found = refusal(layer, site(**options), home)
    assert (found is None) if words is None else (found is not None and words in found)


# templates


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 5, 1),
        nn.Conv2d(4, 6, (3, 5), stride=(1, 2), padding=(1, 2), dilation=2, groups=2, bias=False),
        nn.Conv2d(2, 2, 3, padding="same", padding_mode="reflect"),
        nn.Conv1d(2, 2, 3), nn.Conv3d(2, 2, 3), nn.Linear(2, 3, bias=False), samples.Conv2dSame(2, 2, 3, 2),
    ],
    ids=str,
)  # fmt: skip
def test_a_layer_is_built_again_from_its_template(layer: Any) -> None:
    template = Template.of(layer)
    assert all(parameter.is_meta for parameter in template.layer.parameters())
    again = template.build(layer.weight.double(), layer.bias, layer.weight.double())
    assert str(again) == str(layer)
    assert torch.equal(again.weight, layer.weight.double())
    assert again.weight.dtype is torch.float64
    assert template.fits(again)


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(4, 6, 3, 2), nn.Conv2d(4, 6, 1), nn.Conv2d(4, 6, 3, bias=False), nn.Conv2d(4, 6, 3, groups=2),
        nn.Conv2d(4, 6, 3, padding=1), samples.Conv2dSame(4, 6, 3), nn.Conv3d(4, 6, 3), nn.Linear(4, 6),
    ],
    ids=str,
)  # fmt: skip
def test_another_layer_does_not_fit_a_template(other: nn.Module) -> None:
    assert not Template.of(nn.Conv2d(4, 6, 3)).fits(other)


def test_a_built_layer_keeps_what_the_layer_had() -> None:
    layer = nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    layer.weight.requires_grad_(False)
    built = Template.of(layer).build(layer.weight, layer.bias, layer.weight)
    assert (built.weight.requires_grad, built.bias is not None and built.bias.requires_grad) == (False, True)
    assert built.weight.is_contiguous(memory_format=torch.channels_last)


# found


def test_blocks_are_found_by_path_and_inner_ones_are_part_of_theirs() -> None:
    layer = nn.Conv2d(3, 5, 1)
    inner = Expanded(site("basic"), Template.of(layer), chain("basic", layer), nn.Module())
    outer = Expanded(site("basic"), Template.of(layer), nn.Sequential(inner), nn.Module())
    assert [name for name, _ in expanded_blocks(nn.Sequential(nn.ReLU(), outer, inner))] == ["1"]
    assert [name for name, _ in expanded_blocks(nn.ModuleDict({"a": inner, "b": nn.ModuleList([outer])}))] == [
        "a",
        "b.0",
    ]


def test_a_block_whose_chain_slides_otherwise_is_refused() -> None:
    layer = nn.Conv2d(4, 4, 1)
    block = Expanded(site("linear"), Template.of(layer), nn.Sequential(nn.Conv2d(4, 4, 3)), nn.Sequential(layer))
    with pytest.raises(NbedgeError, match="0 has become a convolution of Geometry"):
        block.affine("0")
    assert Geometry.of(layer) != Geometry.of(block.chain[0])  # type: ignore[index]
