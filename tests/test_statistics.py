import pytest
import torch
from torch import nn

from nbedge import samples
from nbedge.blocks import squeeze_
from nbedge.contraction import contract
from nbedge.errors import InputError
from nbedge.expansion import expand
from nbedge.proposal import propose
from nbedge.slopes import set_slope_
from nbedge.statistics import reestimate_


def test_the_statistics_are_the_plain_mean_of_the_batches() -> None:
    norm = nn.BatchNorm2d(2, momentum=0.3)
    batches = [torch.randn(5, 2, 3, 3) + shift for shift in (0.0, 1.0, 7.0)]
    reestimate_(norm, batches)
    torch.testing.assert_close(norm.running_mean, torch.stack([b.mean((0, 2, 3)) for b in batches]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([b.var((0, 2, 3)) for b in batches]).mean(0))
    assert norm.momentum == 0.3


def test_nothing_but_statistics_changes_and_the_mode_stays() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2).eval(), nn.Dropout(0.5)).train()
    model[1].eval()
    weights = {name: p.clone() for name, p in model.named_parameters()}
    reestimate_(model, [torch.randn(4, 1, 3, 3)])
    assert [m.training for m in model] == [True, False, True]
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())


def test_a_squeezed_block_keeps_the_statistics_that_its_weight_was_trained_with() -> None:
    torch.manual_seed(0)
    tiny, x = samples.mobilenet_v2_tiny(width_mult=0.5), torch.randn(8, 1, 28, 28)
    giant = expand(tiny, propose(tiny, x))
    set_slope_(giant, 1.0)
    squeeze_(giant.eval())
    before = {n: v.clone() for n, v in giant.state_dict().items()}
    reestimate_(giant, [x])
    changed = {n for n, v in giant.state_dict().items() if not torch.equal(v, before[n])}
    assert any(n.endswith("running_mean") for n in changed)
    assert not any(".chain." in n for n in changed)
    with torch.no_grad():
        torch.testing.assert_close(contract(giant)(x), giant(x), rtol=1e-4, atol=1e-5)


def test_no_batch_is_refused() -> None:
    with pytest.raises(InputError, match="no inputs to measure"):
        reestimate_(nn.BatchNorm2d(1), [])
