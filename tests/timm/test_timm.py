"""timm's and torchvision's models, layers and wrappers, where both are installed."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import breadth
import nbedge
from nbedge.blocks import Expanded, expanded_blocks
from nbedge.checkpoint import Checkpoint
from nbedge.errors import InputError
from nbedge.reference import ModelReference
from nbedge.selection import Every, Named, Policy
from nbedge.survey import survey

timm = breadth.load_timm()

from timm.layers import BatchNormAct2d, Conv2dSame  # noqa: E402
from timm.layers.linear import Linear  # noqa: E402
from timm.utils import ModelEmaV3, reparameterize_model  # noqa: E402

pytestmark = pytest.mark.group("timm")

SIDE = 64
BATCHES = [breadth.pictures(8, SIDE, seed) for seed in range(2)]
X = breadth.pictures(2, SIDE, 2)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def giant_of(tiny: nn.Module, policy: Policy | None = None) -> nn.Module:
    breadth.disturb_(tiny)
    breadth.calibrate_(tiny, BATCHES)
    return breadth.straight_giant(tiny, nbedge.propose(tiny, X[:1], choose=policy or Every(2)), BATCHES)


def answers(model: nn.Module, x: Tensor = X) -> Tensor:
    with torch.inference_mode():
        found = model.eval()(x)
    assert isinstance(found, Tensor)
    return found


def assert_same_state(one: nn.Module, other: nn.Module) -> None:
    first, second = one.state_dict(), other.state_dict()
    assert list(first) == list(second)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("mobilenetv2_035", "blocks.*.conv_pw"),
        ("mobilenetv3_small_050", "*.se.conv_*"),
        ("tf_efficientnet_lite0", "blocks.[0-2].*"),
    ],
)
def test_timm_s_reparameterize_model_contracts_a_giant(name: str, pattern: str) -> None:
    giant = giant_of(timm.create_model(name), Named(pattern))
    wanted, found = nbedge.contract(giant), reparameterize_model(giant)
    assert expanded_blocks(giant), "the giant is left as it is"
    assert not expanded_blocks(found)
    assert_same_state(found, wanted)
    assert torch.equal(answers(found), answers(wanted))


def test_in_place_too() -> None:
    giant = giant_of(timm.create_model("mobilenetv2_035"))
    wanted = nbedge.contract(giant)
    assert reparameterize_model(giant, inplace=True) is giant
    assert_same_state(giant, wanted)


@pytest.mark.parametrize(
    ("name", "pattern"), [("mobilenetv3_small_050", "blocks.[01].*"), ("tf_efficientnet_lite0", "blocks.1.0.*")]
)
def test_a_merge_of_every_kind_of_layer_is_proven(name: str, pattern: str) -> None:
    giant = giant_of(timm.create_model(name), Named(pattern))
    tiny = nbedge.contract(giant)
    proof = nbedge.verify(giant, tiny, X)
    assert proof, proof
    timm.create_model(name).load_state_dict(tiny.state_dict(), strict=True)


def test_the_activation_inside_a_batchnorm_is_taken_over() -> None:
    tiny = nn.Sequential(
        nn.Conv2d(3, 8, 1, bias=False), BatchNormAct2d(8, act_layer=nn.SiLU), nn.Conv2d(8, 8, 3, groups=8, bias=False),
        BatchNormAct2d(8, apply_act=False),
    )  # fmt: skip
    first, second = survey(tiny, X).candidates
    assert (first.site.norm, first.site.activation, first.feeds_depthwise) == ("1", "silu", True)
    assert (second.site.norm, second.kind) == ("3", "depthwise")
    giant = giant_of(tiny, Named("*"))
    contracted = nbedge.contract(giant)
    assert type(contracted[1]) is BatchNormAct2d  # type: ignore[index]
    assert torch.allclose(answers(contracted), answers(giant), atol=1e-5)
    double = giant.double()
    assert breadth.difference(double, nbedge.contract(double), X.double()) <= 1e-12


@pytest.mark.parametrize("block", ["inverted_residual", "basic", "bottleneck", "linear", "branches"])
def test_a_layer_padded_like_tensorflow_s_is_merged_for_every_size(block: str) -> None:
    tiny = nn.Sequential(Conv2dSame(3, 6, 3, stride=2, bias=False), nn.BatchNorm2d(6), nn.ReLU())
    plan = nbedge.propose(tiny, X[:1], block=block, ratio=3)
    giant = breadth.straight_giant(tiny, plan, BATCHES).double()
    contracted = nbedge.contract(giant)
    assert type(contracted[0]) is Conv2dSame  # type: ignore[index]
    for size in ((64, 64), (63, 64), (31, 30), (7, 5), (1, 2)):
        x = torch.randn(2, 3, *size, dtype=torch.float64)
        assert breadth.difference(giant, contracted, x) <= 1e-12, size


def test_timm_s_linear_is_torch_s() -> None:
    tiny = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), Linear(3, 5))
    giant = giant_of(tiny, Named("*")).double()
    assert isinstance(giant.get_submodule("2"), Expanded)
    contracted = nbedge.contract(giant)
    assert type(contracted[2]) is Linear  # type: ignore[index]
    assert breadth.difference(giant, contracted, X.double()) <= 1e-12


def test_a_reference_names_a_model_of_timm() -> None:
    model = ModelReference("timm:mobilenetv2_035", {"num_classes": 3}).build()
    assert answers(model).shape == (2, 3)
    assert ModelReference("timm:mobilenetv2_035").trusted


@pytest.mark.parametrize(
    ("name", "arguments"), [("no_such_model", {}), ("mobilenetv2_035", {"num_klasses": 3})], ids=["name", "argument"]
)
def test_a_reference_that_timm_does_not_take_is_named(name: str, arguments: dict[str, int]) -> None:
    with pytest.raises(InputError, match=f"timm:{name}"):
        ModelReference(f"timm:{name}", arguments).build()


def test_a_checkpoint_of_a_giant_opens_again(tmp_path: Path) -> None:
    reference = ModelReference("timm:mobilenetv2_035", {"num_classes": 3})
    tiny = reference.build()
    plan = nbedge.propose(tiny, X[:1])
    giant = breadth.straight_giant(tiny, plan, BATCHES)
    about = nbedge.Preprocessing((3, SIDE, SIDE), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    path = tmp_path / "giant.safetensors"
    nbedge.save_checkpoint(path, giant, Checkpoint("giant", reference, about, ("a", "b", "c"), plan))
    assert_same_state(nbedge.load_checkpoint(path)[0], giant)


def test_timm_s_average_of_a_giant_is_unwrapped() -> None:
    giant = giant_of(timm.create_model("mobilenetv2_035"))
    average = ModelEmaV3(giant, decay=0.5)
    moved = copy.deepcopy(giant)
    breadth.disturb_(moved)
    average.update(moved)
    average.eval()
    tiny = nbedge.contract(average)
    assert_same_state(tiny, nbedge.contract(average.module))
    assert not torch.equal(answers(tiny), answers(nbedge.contract(giant)))


@pytest.mark.parametrize(("name", "sites"), [("mobilenet_v2", 8), ("resnet18", 2), ("shufflenet_v2_x0_5", 8)])
def test_a_model_of_torchvision_is_boosted_and_contracted(name: str, sites: int) -> None:
    from torchvision import models

    giant = giant_of(models.get_model(name, weights=None))
    assert len(expanded_blocks(giant)) == sites
    tiny = nbedge.contract(giant)
    fresh = models.get_model(name, weights=None)
    fresh.load_state_dict(tiny.state_dict(), strict=True)
    assert torch.equal(answers(fresh), answers(tiny))
    double = giant.double()
    assert breadth.difference(double, nbedge.contract(double), X.double()) <= breadth.LIMIT
