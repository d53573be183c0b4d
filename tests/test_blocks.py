import pytest
import torch
from torch import nn
from torch.nn import functional

from nbedge.blocks import ConvSpec, Expanded, SlopedActivation, expanded_blocks, inverted_residual, sloped_activations

X = torch.cat([torch.linspace(-20, 20, 4001), torch.randn(1000, generator=torch.Generator().manual_seed(0))])
SLOPES = (0.0, 1e-3, 0.1, 0.25, 0.5, 0.75, 0.999, 1.0)


def at(slope: float, activation: nn.Module) -> SlopedActivation:
    module = SlopedActivation(activation)
    module.slope.fill_(slope)
    return module


@pytest.mark.parametrize("slope", SLOPES)
def test_with_relu_it_is_the_maximum_of_ax_and_x(slope: float) -> None:
    torch.testing.assert_close(at(slope, nn.ReLU())(X), torch.maximum(slope * X, X), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("slope", SLOPES)
def test_with_relu6_it_is_the_form_of_depthshrinker(slope: float) -> None:
    wanted = functional.leaky_relu(X, slope) + (slope - 1) * functional.relu(X - 6)
    torch.testing.assert_close(at(slope, nn.ReLU6())(X), wanted, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6(), nn.Hardswish()])
def test_at_0_it_is_the_activation_bit_for_bit(activation: nn.Module) -> None:
    assert torch.equal(at(0.0, activation)(X), activation(X))


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6(), nn.Hardswish()])
def test_at_1_it_is_the_identity_bit_for_bit(activation: nn.Module) -> None:
    assert torch.equal(at(1.0, activation)(X), X)


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


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(3, 5, 1),
        nn.Conv2d(4, 6, (3, 5), stride=(1, 2), padding=(1, 2), dilation=2, groups=2, bias=False),
        nn.Conv2d(2, 2, 3, padding="same", padding_mode="reflect"),
    ],
)
def test_a_convolution_is_built_again_from_its_arguments(conv: nn.Conv2d) -> None:
    again = ConvSpec.of(conv).build(conv.weight.double())
    assert ConvSpec.of(again) == ConvSpec.of(conv)
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in conv.state_dict().items()}
    assert again.weight.dtype is torch.float64


def test_a_block_has_the_shape_of_the_layer_that_it_replaces() -> None:
    conv, norm = nn.Conv2d(3, 5, 1, stride=2), nn.BatchNorm2d(5, eps=1e-3, momentum=0.2)
    chain = inverted_residual(conv, 4, "relu6", norm)
    x = torch.zeros(2, 3, 9, 9)
    assert chain(x).shape == conv(x).shape
    assert all(m.kernel_size == (1, 1) for m in chain if isinstance(m, nn.Conv2d))
    assert {(m.num_features, m.eps, m.momentum) for m in chain if isinstance(m, nn.BatchNorm2d)} == {(12, 1e-3, 0.2)}


def test_blocks_and_activations_are_found_by_path() -> None:
    conv, norm = nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5)
    model = nn.Sequential(Expanded(ConvSpec.of(conv), "1", inverted_residual(conv, 2, "relu", norm)), norm)
    assert [name for name, _ in expanded_blocks(model)] == ["0"]
    assert [name for name, _ in sloped_activations(model)] == ["0.chain.expand_act", "0.chain.depthwise_act"]
