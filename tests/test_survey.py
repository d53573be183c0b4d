"""Which layers are sites, and the reason for each that is none."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize, prune

from nbedge import samples
from nbedge.errors import PlanError
from nbedge.expansion import expand
from nbedge.proposal import propose
from nbedge.survey import Candidate, Wish, survey
from nbedge.tracing import WEIGHTED

X = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
Forward = Callable[[Any, Tensor], Any]


class Unit(nn.Module):
    """1x1 convolution, BatchNorm, ReLU, depthwise: one site; the forward can be another."""

    def __init__(
        self, conv: nn.Module | None = None, norm: nn.Module | None = None, forward: Forward | None = None
    ) -> None:
        super().__init__()
        self.conv = conv or nn.Conv2d(4, 4, 1, bias=False)
        self.norm = norm or nn.BatchNorm2d(4)
        self.act = nn.ReLU()
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.run = forward or (lambda unit, x: unit.depthwise(unit.act(unit.norm(unit.conv(x)))))

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


class Subclass(nn.Conv2d):
    pass


class ActiveNorm(nn.BatchNorm2d):
    """A BatchNorm with an activation inside, of a class that nobody knows."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.relu(super().forward(input))


class Half(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 2


def look(model: nn.Module, x: Tensor = X, **wish: Any) -> tuple[dict[str, Candidate], dict[str, str]]:
    """Return the candidates and the reasons of the refused, by layer; each weighted layer is in one of the two."""
    found = survey(model, x, Wish(**wish))
    candidates = {c.site.layer: c for c in found.candidates}
    refused = {r.layer: r.reason for r in found.refused}
    assert not candidates.keys() & refused.keys()
    return candidates, refused


def hooked() -> nn.Module:
    conv = nn.Conv2d(4, 4, 1, bias=False)
    conv.register_forward_hook(lambda _module, _args, output: 2 * output)
    return conv


def legacy_weight_norm() -> nn.Module:
    with pytest.warns(FutureWarning, match="weight_norm"):
        normed: nn.Module = torch.nn.utils.weight_norm(nn.Conv2d(4, 4, 1))
    return normed


def pruned() -> nn.Module:
    conv: nn.Module = prune.l1_unstructured(nn.Conv2d(4, 4, 1), "weight", 0.5)  # type: ignore[no-untyped-call]
    return conv


def parametrized_bias() -> nn.Module:
    conv = nn.Conv2d(4, 4, 1)
    parametrize.register_parametrization(conv, "bias", Half())
    return conv


class Wrapped(Tensor):
    """A tensor of a class of its own, as those of quantized weights are."""


def wrapped_weight() -> nn.Module:
    conv = nn.Conv2d(4, 4, 1)
    conv.weight = nn.Parameter(conv.weight.detach().as_subclass(Wrapped), requires_grad=False)
    return conv


def qat_conv() -> nn.Module:
    quantization = pytest.importorskip("torch.ao.quantization")
    qat = pytest.importorskip("torch.ao.nn.qat")
    config = quantization.get_default_qat_qconfig("x86")
    conv: nn.Module = qat.Conv2d(4, 4, 1, qconfig=config)
    return conv


@pytest.mark.parametrize(
    ("model", "words"),
    [
        pytest.param(
            lambda: Unit(forward=lambda u, x: u.depthwise(u.norm(u.conv(u.conv(x))))),
            "shared: the forward pass calls it 2 times",
            id="shared",
        ),
        pytest.param(lambda: Unit(forward=lambda u, x: u.depthwise(u.norm(x))), "does not call it", id="never called"),
        pytest.param(
            lambda: Unit(forward=lambda u, x: u.depthwise(functional.conv2d(x, u.conv.weight))),
            r"does not call it; a function (conv2d) reads its weights",
            id="called as a function",
        ),
        pytest.param(
            lambda: Unit(forward=lambda u, x: u.depthwise(u.norm(u.conv(x))) * u.conv.weight.norm()),
            "a function (norm) reads its weights too",
            id="weight read too",
        ),
        pytest.param(
            lambda: Unit(nn.Conv2d(4, 4, 1), forward=lambda u, x: u.depthwise(u.norm(u.conv(x))) + u.conv.bias.sum()),
            "a function (sum) reads its weights too",
            id="bias read too",
        ),
        pytest.param(lambda: Unit(hooked()), "hooks", id="hook"),
        pytest.param(
            lambda: Unit(parametrizations.weight_norm(nn.Conv2d(4, 4, 1))), "by a parametrization", id="weight norm"
        ),
        pytest.param(lambda: Unit(legacy_weight_norm()), "computed by a parametrization", id="legacy weight norm"),
        pytest.param(lambda: Unit(parametrized_bias()), "it is a Parametrized", id="parametrized bias"),
        pytest.param(
            lambda: Unit(pruned()), "computed by", id="pruned"
        ),
        pytest.param(lambda: Unit(Subclass(4, 4, 1)), "it is a Subclass, whose forward may do anything", id="subclass"),
        pytest.param(lambda: Unit(nn.ConvTranspose2d(4, 4, 1)), "it is a ConvTranspose2d", id="transposed"),
        pytest.param(lambda: Unit(wrapped_weight()), "quantized, or of a kind of its own", id="weight of a subclass"),
        pytest.param(lambda: Unit(qat_conv()), "it is a Conv2d, whose forward may do anything", id="QAT"),
        pytest.param(lambda: Unit(samples.Conv2dSame(4, 4, 1, padding=1)), "it is a Conv2dSame", id="pads twice"),
        pytest.param(lambda: Unit(norm=nn.Identity()), "a merged bias has nowhere to go", id="no norm"),
        pytest.param(lambda: Unit(norm=nn.GroupNorm(2, 4)), "a merged bias has nowhere to go", id="another norm"),
        pytest.param(lambda: Unit(norm=ActiveNorm(4)), "a merged bias has nowhere to go", id="unknown norm with act"),
        pytest.param(
            lambda: Unit(norm=nn.BatchNorm2d(4, track_running_stats=False)), "nowhere to go", id="no statistics"
        ),
        pytest.param(
            lambda: Unit(forward=lambda u, x: (y := u.conv(x), u.depthwise(u.norm(y)) + torch.sigmoid(y))[1]),
            "bias has nowhere to go",
            id="two readers",
        ),
        pytest.param(
            lambda: Unit(forward=lambda u, x: (y := u.conv(x), u.depthwise(u.norm(y)) + u.act(input=y))[1]),
            "bias has nowhere to go",
            id="read by name",
        ),
        pytest.param(
            lambda: Unit(forward=lambda u, x: (y := u.conv(x), u.depthwise(u.norm(y)))), "nowhere to go", id="returned"
        ),
        pytest.param(
            lambda: Unit(forward=lambda u, x: u.depthwise(u.norm(u.norm(u.conv(x))))), "nowhere to go", id="norm twice"
        ),
        pytest.param(
            lambda: Unit(forward=lambda u, x: u.depthwise(u.norm(u.conv(x[0])[None]))),
            "bias has nowhere to go|without a batch dimension",
            id="unbatched",
        ),
    ],
)  # fmt: skip
def test_a_layer_that_cannot_be_expanded_is_refused_with_the_reason(model: Callable[[], nn.Module], words: str) -> None:
    candidates, refused = look(model())
    assert "conv" not in candidates
    assert any(word in refused["conv"] for word in words.split("|"))


def test_a_layer_with_a_bias_needs_no_norm() -> None:
    for norm in (nn.Identity(), ActiveNorm(4), nn.GroupNorm(2, 4)):
        site = look(Unit(nn.Conv2d(4, 4, 1), norm))[0]["conv"].site
        assert site.norm is None


def test_the_block_linear_needs_neither() -> None:
    assert look(Unit(norm=nn.Identity()), block="linear")[0]["conv"].site.norm is None


def test_a_norm_that_is_returned_is_still_the_home_of_the_bias() -> None:
    model = Unit(forward=lambda u, x: (y := u.norm(u.conv(x)), u.depthwise(y)))
    candidate = look(model)[0]["conv"]
    assert candidate.site.norm == "norm"
    assert not candidate.feeds_depthwise


@pytest.mark.parametrize("tied", ["weight", "bias"])
def test_tied_weights_are_refused(tied: str) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    setattr(model[2], tied, getattr(model[0], tied))
    candidates, refused = look(model)
    assert not candidates
    assert refused == dict.fromkeys(("0", "2"), f"its {tied} is shared with another module")


def test_a_layer_under_two_names_is_refused() -> None:
    model = Unit()
    model.again = model.conv
    assert look(model)[1]["conv"] == "it is registered under 2 names"


def test_a_layer_whose_parent_has_two_names_is_a_site() -> None:
    model = nn.ModuleDict({"a": Unit()})
    model["b"] = model["a"]
    model.forward = model["b"].forward
    assert "a.conv" in look(model)[0]


def test_a_model_that_is_one_layer_is_refused_with_the_cure() -> None:
    assert look(nn.Conv2d(4, 4, 1))[1] == {"": "it is the whole model; wrap it in nn.Sequential"}


@pytest.mark.parametrize("between", [functional.relu, torch.relu, functional.relu6, functional.hardswish, Tensor.relu_])
def test_a_functional_activation_is_seen(between: Callable[[Tensor], Tensor]) -> None:
    model = Unit(forward=lambda u, x: u.depthwise(between(u.norm(u.conv(x)))))
    candidate = look(model)[0]["conv"]
    assert candidate.feeds_depthwise
    assert candidate.site.activation == between.__name__.rstrip("_")


@pytest.mark.parametrize(
    ("act", "name"), [(nn.SiLU(), "silu"), (nn.GELU(), "gelu"), (nn.Hardtanh(0, 6), "relu6"), (nn.Sigmoid(), "relu")]
)
def test_the_activation_is_the_model_s_own_where_it_is_known(act: nn.Module, name: str) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), act, nn.Conv2d(4, 4, 3, groups=4))
    assert look(model)[0]["0"].site.activation == name


@pytest.mark.parametrize(
    ("layer", "kind", "macs"),
    [
        (nn.Conv2d(4, 6, 1), "pointwise", 24 * 64), (nn.Conv2d(4, 6, 3), "spatial", 216 * 36),
        (nn.Conv2d(4, 4, 3, groups=4), "depthwise", 36 * 36), (nn.Conv2d(4, 6, 1, groups=2), "grouped", 12 * 64),
        (samples.Conv2dSame(4, 6, 3, 2), "spatial", 216 * 16),
    ],
)  # fmt: skip
def test_each_candidate_has_its_kind_and_cost(layer: nn.Module, kind: str, macs: int) -> None:
    candidate = look(nn.Sequential(layer, nn.BatchNorm2d(len(layer.weight))))[0]["0"]  # type: ignore[arg-type]
    assert (candidate.kind, candidate.macs, candidate.input_shape) == (kind, macs, (2, 4, 8, 8))


@pytest.mark.parametrize(("kind", "number"), [(nn.Conv1d, 1), (nn.Conv2d, 2), (nn.Conv3d, 3)])
def test_an_unbatched_input_is_refused(kind: Any, number: int) -> None:
    model, x = nn.Sequential(kind(4, 4, 1)), torch.randn(4, *[5] * number)
    assert look(model, x)[1]["0"] == "it is called on inputs without a batch dimension"
    assert "0" in look(model, x[None])[0]


def test_a_fully_connected_layer_takes_the_basic_block() -> None:
    candidates, _ = look(nn.Sequential(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6)), torch.randn(3, 4))
    assert (candidates["0"].site.block, candidates["0"].site.norm, candidates["0"].kind) == ("basic", "1", "linear")


@pytest.mark.parametrize(("features", "length"), [(5, 5), (16, 5)])
def test_behind_a_fully_connected_layer_on_sequences_no_norm_is_its_own(features: int, length: int) -> None:
    model, x = nn.Sequential(nn.Linear(8, features), nn.BatchNorm1d(length)), torch.randn(2, length, 8)
    assert "its input has 3 dimensions" in look(model, x)[1]["0"]
    assert look(model, x, block="linear")[0]["0"].site.norm is None
    expand(model, propose(model, x, block="linear"))(x)


def test_a_lazy_model_is_left_without_shapes_and_refused_with_the_cure() -> None:
    plan = propose(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, affine=False), nn.Conv2d(4, 4, 1)), X)
    model = nn.Sequential(nn.LazyConv2d(4, 1), nn.LazyBatchNorm2d(affine=False), nn.Conv2d(4, 4, 1))
    found = survey(model, X)
    assert (found.uninitialized, found.candidates) == (("0", "1"), ())
    assert [r.layer for r in found.refused] == ["0", "2"]
    assert all("run it once" in refusal.reason for refusal in found.refused)
    with pytest.raises(PlanError, match=r"layers without shapes yet \(0\); run it once on an input first"):
        expand(model, plan)
    with pytest.raises(PlanError, match=r"layers without shapes yet \(0\); run it once on an input first"):
        propose(model, X)
    assert type(model[0]) is nn.LazyConv2d
    model(X)
    assert propose(model, X).sites == plan.sites
    expand(model, plan)


def test_the_model_is_left_as_it_is() -> None:
    model = Unit().train()
    state = copy.deepcopy(model.state_dict())
    survey(model, X)
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_each_weighted_layer_is_a_candidate_or_refused() -> None:
    model = samples.mobilenet_v2_tiny(width_mult=0.5)
    candidates, refused = look(model, torch.zeros(1, 1, 28, 28))
    weighted = {name for name, module in model.named_modules() if isinstance(module, WEIGHTED)}
    assert candidates.keys() | refused.keys() == weighted
    assert all(refused.values())


def test_candidates_come_in_the_order_in_which_they_run() -> None:
    class Backward(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second, self.first = Unit(), Unit()

        def forward(self, x: Tensor) -> Any:
            return self.second(self.first(x))

    assert [n for n in look(Backward())[0] if n.endswith("conv")] == ["first.conv", "second.conv"]


def test_a_giant_is_surveyed_too() -> None:
    model = Unit()
    giant = expand(model, propose(model, X))
    candidates, refused = look(giant)
    assert candidates.keys() == {"conv.chain.expand", "conv.chain.depthwise", "conv.chain.project", "depthwise"}
    assert refused == {}
    assert candidates["conv.chain.expand"].site.norm == "conv.chain.expand_norm"
    assert candidates["conv.chain.project"].site.norm == "norm"
