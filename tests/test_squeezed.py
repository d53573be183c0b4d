"""Blocks that run as the one layer they have become, while their factors are trained on."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nbedge import samples
from nbedge.blocks import Expanded, Squeezed, expanded_blocks, squeeze_, unsqueeze_
from nbedge.contraction import contract
from nbedge.errors import ContractionError
from nbedge.expansion import expand
from nbedge.plan import BLOCKS, Plan, Site, fingerprint
from nbedge.slopes import learn_slopes_, set_slope_
from nbedge.verification import verify

pytestmark = pytest.mark.group("algebra")

LAYERS: list[Any] = [
    nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 6, 3, 2, groups=2, bias=False), nn.Conv2d(4, 4, 3, groups=4),
    nn.Conv2d(4, 6, 1), nn.Conv2d(4, 4, 3, padding=2, padding_mode="circular", dilation=2),
    samples.Conv2dSame(4, 6, 3, 2), nn.Conv1d(4, 6, 3), nn.Conv3d(4, 4, 2),
]  # fmt: skip
NORMS: dict[int, Any] = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


def straight(layer: Any, block: str = "inverted_residual", **options: Any) -> nn.Module:
    """Return a giant in float64 at slope 1, its statistics drawn at random."""
    torch.manual_seed(0)
    model = nn.Sequential(layer, NORMS[layer.weight.ndim](len(layer.weight))).double()
    site = Site("0", "1", block=block, ratio=2, **options)
    giant = expand(model, Plan(fingerprint(model), (site,)))
    for norm in (m for m in giant.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)):
        norm.get_buffer("running_mean").normal_()
        norm.get_buffer("running_var").uniform_(0.5, 2)
    set_slope_(giant, 1.0)
    return giant.eval()


def inputs(layer: Any) -> Tensor:
    return torch.randn(2, 4, *[8] * (layer.weight.ndim - 2), dtype=torch.float64)


def gradients(giant: nn.Module, x: Tensor) -> dict[str, Tensor]:
    giant.zero_grad()
    giant(x).pow(3).sum().backward()
    return {name: p.grad.clone() for name, p in giant.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("block", BLOCKS)
def test_squeezed_it_gives_the_same_answers_and_gradients(layer: nn.Module, block: str) -> None:
    giant, x = straight(layer, block), inputs(layer)
    answers, wanted = giant(x), gradients(giant, x)
    squeeze_(giant)
    assert isinstance(giant[0], Squeezed)  # type: ignore[index]
    torch.testing.assert_close(giant(x), answers, rtol=1e-9, atol=1e-9)
    found = gradients(giant, x)
    assert found.keys() == wanted.keys() == {name for name, _ in giant.named_parameters()}
    for name, value in wanted.items():
        assert (found[name] - value).abs().max() <= 1e-9 * value.abs().max(), name


@pytest.mark.parametrize("block", ["basic", "linear"])
@pytest.mark.parametrize("start", ["random", "zero"])
def test_a_fully_connected_layer_is_squeezed(block: str, start: str) -> None:
    giant, x = straight(nn.Linear(4, 6), block, start=start), torch.randn(5, 4, dtype=torch.float64)
    answers, wanted = giant(x), gradients(giant, x)
    squeeze_(giant)
    torch.testing.assert_close(giant(x), answers, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradients(giant, x), wanted, rtol=1e-9, atol=1e-9)


def test_in_training_mode_the_inner_norms_stay_as_they_are_and_the_outer_one_learns() -> None:
    giant: Any = straight(LAYERS[0])
    squeeze_(giant)
    giant.train()
    before = copy.deepcopy(giant.state_dict())
    giant(inputs(LAYERS[0]))
    changed = {name for name, value in giant.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert giant[0].training
    assert not any(part.training for part in giant[0].chain.modules())


def test_an_optimizer_made_before_goes_on_with_the_same_parameters() -> None:
    giant, x = straight(LAYERS[0]).train(), inputs(LAYERS[0])
    optimizer = torch.optim.SGD(giant.parameters(), lr=1e-3)
    before = {name: (parameter, parameter.clone()) for name, parameter in giant.named_parameters()}
    keys = list(giant.state_dict())
    squeeze_(giant)
    giant(x).pow(3).sum().backward()
    optimizer.step()
    assert list(giant.state_dict()) == keys
    for name, parameter in giant.named_parameters():
        assert parameter is before[name][0]
        assert not torch.equal(parameter, before[name][1])


@pytest.mark.parametrize("copied", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_unsqueezed_it_is_a_chain_again(copied: bool, training: bool) -> None:
    giant: Any = straight(LAYERS[0]).train(training)
    wanted = giant.eval()(inputs(LAYERS[0]).fill_(1.5))
    giant.train(training)
    squeeze_(giant)
    giant = copy.deepcopy(giant) if copied else giant
    unsqueeze_(giant)
    assert type(giant[0]) is Expanded
    assert {part.training for part in giant.modules()} == {training}
    assert torch.equal(giant.eval()(inputs(LAYERS[0]).fill_(1.5)), wanted)


def test_a_copy_has_weights_of_its_own() -> None:
    giant: Any = straight(LAYERS[0])
    squeeze_(giant)
    other = copy.deepcopy(giant)
    before = giant(inputs(LAYERS[0]).fill_(1))
    with torch.no_grad():
        other[0].chain.project.weight.mul_(2)
    assert torch.equal(giant(inputs(LAYERS[0]).fill_(1)), before)
    assert not torch.equal(other(inputs(LAYERS[0]).fill_(1)), before)
    assert other[0].norm is other[1]


def test_squeezing_twice_and_unsqueezing_what_is_not_change_nothing() -> None:
    giant: Any = straight(LAYERS[0])
    plain = giant[0]
    unsqueeze_(giant)
    assert giant[0] is plain
    squeeze_(giant)
    squeezed = giant[0]
    squeeze_(giant)
    assert giant[0] is squeezed


def test_a_squeezed_giant_contracts_and_is_verified() -> None:
    giant, x = straight(LAYERS[0]), inputs(LAYERS[0])
    wanted = contract(giant).state_dict()
    squeeze_(giant)
    tiny = contract(giant)
    assert all(torch.equal(value, wanted[name]) for name, value in tiny.state_dict().items())
    assert verify(giant, tiny, x)


def test_a_giant_that_is_not_straight_is_left_as_it_is() -> None:
    giant: Any = straight(LAYERS[0]).train()
    set_slope_(giant, 0.999)
    with pytest.raises(ContractionError, match=r"0\.chain\.expand_act has slope 0\.999, not exactly 1"):
        squeeze_(giant)
    assert type(giant[0]) is Expanded
    assert all(part.training for part in giant.modules())


def test_learned_slopes_are_squeezed_at_their_deadline() -> None:
    giant, x = straight(LAYERS[0]), inputs(LAYERS[0])
    answers = giant(x)
    learn_slopes_(giant)
    squeeze_(giant)
    torch.testing.assert_close(giant(x), answers, rtol=1e-9, atol=1e-9)


def test_under_autocast_the_merge_is_in_full_precision_and_the_layer_is_not() -> None:
    giant, x = straight(LAYERS[0]).float(), inputs(LAYERS[0]).float()
    squeeze_(giant)
    wanted = giant(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = giant[0](x)  # type: ignore[index]
    assert found.dtype is torch.bfloat16
    layer: Any = contract(giant)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(layer(x), giant(x), rtol=0.05, atol=0.05)
    assert wanted.dtype is torch.float32


def test_it_is_compiled_once() -> None:
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    giant: Any
    giant, counter, x = straight(LAYERS[0]), CompileCounter(), inputs(LAYERS[0])
    squeeze_(giant)
    compiled: Any = torch.compile(giant, backend=counter)
    for _ in range(3):
        torch.testing.assert_close(compiled(x), giant(x))
        with torch.no_grad():
            giant[0].chain.project.weight.mul_(1.1)
    assert counter.frame_count > 0
    first = counter.frame_count
    compiled(x)
    assert counter.frame_count == first
    assert len(expanded_blocks(compiled)) == 1
