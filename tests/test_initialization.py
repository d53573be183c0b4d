"""BatchNorms in front of activations start with a bias; all others, and all weights, stay."""

import pytest
import torch
from torch import nn

import nbedge
from nbedge.errors import InputError
from nbedge.initialization import has_shortcuts, raise_norms_
from nbedge.samples import mobilenet_v2_tiny


def biases(model: nn.Module) -> dict[str, float]:
    return {n: m.bias.mean().item() for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}


def test_norms_in_front_of_activations_are_raised_and_no_others() -> None:
    tiny, fresh = mobilenet_v2_tiny(10), mobilenet_v2_tiny(10)
    fresh.load_state_dict(tiny.state_dict())
    found = raise_norms_(tiny, torch.zeros(1, 1, 28, 28), 0.5)
    after = biases(tiny)
    assert {name for name, bias in after.items() if bias == 0.5} == set(found)
    # the projections of inverted residuals have no activation
    assert set(after.values()) == {0, 0.5}
    changed = {n for n, value in tiny.state_dict().items() if not value.equal(fresh.state_dict()[n])}
    assert changed == {f"{name}.bias" for name in found}


def test_the_norms_inside_of_a_giants_blocks_are_raised_too() -> None:
    x = torch.zeros(1, 1, 28, 28)
    tiny = mobilenet_v2_tiny(10)
    giant = nbedge.expand(tiny, nbedge.propose(tiny, x))
    more = set(raise_norms_(giant, x)) - set(raise_norms_(tiny, x))
    inside = {n for n, m in giant.named_modules() if ".chain." in n and isinstance(m, nn.BatchNorm2d)}
    assert more == inside != set()


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.BatchNorm1d(4), nn.BatchNorm1d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.last(torch.relu(self.first(x)))
        return result


def test_an_activation_may_be_a_function() -> None:
    assert raise_norms_(Functional(), torch.zeros(2, 4)) == ("first",)


def test_shortcuts_are_seen() -> None:
    x = torch.zeros(1, 1, 28, 28)
    assert has_shortcuts(mobilenet_v2_tiny(10), x)
    assert not has_shortcuts(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), x)


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(4, affine=False), nn.Identity()])
def test_a_network_without_such_norms_is_refused(norm: nn.Module) -> None:
    with pytest.raises(InputError, match="leave the norm bias at 0"):
        raise_norms_(nn.Sequential(norm, nn.ReLU()), torch.zeros(2, 4))
