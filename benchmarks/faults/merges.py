"""Faults of a merge: what goes wrong when people fold blocks by hand. Each changes a correct pair, in place."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from faults.pairs import Pair, sites
from nbedge.layers import Padding
from nbedge.slopes import set_slope_, sloped_activations

STORED = "stored numbers"


@dataclass(frozen=True, slots=True)
class MergeFault:
    """One kind of mistake.

    Attributes:
        name: of the kind.
        check: beginning of the name of the check that must catch it.
        apply: changes the pair; `site` is the path of one of its sites.
        inserted: kinds of block (keys of `pairs.INSERTED`) that can have it.
        site: the site that it is made at.
        elsewhere: path of the layer that must be named, where it is not the site.
    """

    name: str
    check: str
    apply: Callable[[Pair, str], None]
    inserted: tuple[str, ...] = ("inverted_residual", "basic", "branches")
    site: str = "square"
    elsewhere: str = ""


def _layer(pair: Pair, site: str) -> Any:
    return pair.tiny.get_submodule(site)


def _norm(pair: Pair, site: str) -> Any:
    return pair.tiny.get_submodule(f"{site}_norm")


def _chain(pair: Pair, site: str) -> Any:
    return pair.giant.get_submodule(site).chain


def _weight(change: Callable[[Tensor], Tensor]) -> Callable[[Pair, str], None]:
    """Return the fault that gives the merged layer another weight."""

    def apply(pair: Pair, site: str) -> None:
        layer = _layer(pair, site)
        layer.weight.data = change(layer.weight.data.clone())

    return apply


def _one(weight: Tensor, value: Callable[[Tensor], Tensor]) -> Tensor:
    flat = weight.flatten()
    place = int(flat.abs().argmax())
    flat[place] = value(flat[place])
    return flat.reshape(weight.shape)


def _ulps(weight: Tensor) -> Tensor:
    return _one(weight, lambda w: w * (1 + 3 * torch.finfo(w.dtype).eps))


def _swapped(weight: Tensor, dimension: int) -> Tensor:
    order = torch.arange(weight.shape[dimension])
    order[:2] = order[:2].flip(0)
    return weight.index_select(dimension, order)


def _identity(sign: int) -> Callable[[Tensor], Tensor]:
    def change(weight: Tensor) -> Tensor:
        return weight + sign * torch.eye(len(weight)).reshape(weight.shape)

    return change


def _bias_dropped(pair: Pair, site: str) -> None:
    if _layer(pair, site).bias is not None:
        _layer(pair, site).bias.data.zero_()
    else:
        _norm(pair, site).running_mean.copy_(pair.giant.get_submodule(f"{site}_norm").get_buffer("running_mean"))


def _bias_changed(times: float) -> Callable[[Pair, str], None]:
    """Return the fault that writes the handed-over bias `times` times."""

    def apply(pair: Pair, site: str) -> None:
        before = pair.giant.get_submodule(f"{site}_norm").get_buffer("running_mean")
        mean = _norm(pair, site).running_mean
        mean.copy_(before + times * (mean - before))

    return apply


def _eps(pair: Pair, site: str) -> None:
    _norm(pair, site).eps = 1e-2


def _buffer(name: str, factor: float) -> Callable[[Pair, str], None]:
    def apply(pair: Pair, site: str) -> None:
        getattr(_norm(pair, site), name).data.mul_(factor)

    return apply


def _elsewhere(pair: Pair, _site: str) -> None:
    pair.tiny.get_submodule("stem_norm").get_parameter("bias").data[0] += 1e-6


def _slope(pair: Pair, _site: str) -> None:
    set_slope_(pair.giant, 0.999)


def _ceiling(pair: Pair, site: str) -> None:
    """Leave the ceiling of ReLU6 in, as a slope on the part below 0 alone does."""
    chain = _chain(pair, site)
    name, _ = sloped_activations(chain)[0]
    chain.set_submodule(name, nn.Hardtanh(-1e9, 6.0))


def _batch_statistics(pair: Pair, site: str) -> None:
    norm = next(module for module in _chain(pair, site).modules() if isinstance(module, _BatchNorm))
    norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None


class Dropping(nn.Dropout):
    """A dropout that drops in evaluation too."""

    def forward(self, input: Tensor) -> Tensor:
        """Return `input` with a tenth of it set to 0."""
        return nn.functional.dropout(input, 0.1, training=True)


def _dropout(pair: Pair, site: str) -> None:
    chain = _chain(pair, site)
    name, activation = sloped_activations(chain)[0]
    chain.set_submodule(name, nn.Sequential(activation, Dropping()))


def _late_padding(pair: Pair, site: str) -> None:
    """Pad behind the first BatchNorm instead of in front: its bias is not padded, so the border is wrong."""
    chain = _chain(pair, site)
    for name, module in list(chain.named_modules()):
        if isinstance(module, Padding):
            chain.set_submodule(name, nn.Identity())
    kernel = next(m for m in chain.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3))
    kernel.padding = (1, 1)


def _trained_on(pair: Pair, site: str) -> None:
    """Change the giant after the contraction."""
    next(_chain(pair, site).parameters()).data.mul_(1.001)


def _statistics_after(pair: Pair, site: str) -> None:
    norm = next(module for module in _chain(pair, site).modules() if isinstance(module, _BatchNorm))
    assert norm.running_mean is not None
    norm.running_mean.add_(0.01)


def _other_site(pair: Pair, site: str) -> None:
    layer = _layer(pair, site)
    layer.weight.data = torch.randn_like(layer.weight) * layer.weight.std()


def _norm_gone(pair: Pair, site: str) -> None:
    """Fold the BatchNorm behind into the layer, and leave it in place as well."""
    norm = _norm(pair, site)
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    layer = _layer(pair, site)
    layer.weight.data.mul_(scale.reshape(-1, *(1,) * (layer.weight.ndim - 1)))


def _branch_forgotten(pair: Pair, site: str) -> None:
    chain = _chain(pair, site)
    branch = next(child for name, child in chain.named_modules() if isinstance(child, _BatchNorm))
    assert branch.weight is not None
    branch.weight.data.zero_()


def _not_a_number(weight: Tensor) -> Tensor:
    return _one(weight, lambda w: w * float("nan"))


def _cast(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    return lambda weight: weight.to(dtype).float()


FAULTS = (
    MergeFault("wrong eps", "algebra in float64", _eps),
    MergeFault("dropped bias", STORED, _bias_dropped),
    MergeFault("bias written twice", STORED, _bias_changed(2.0)),
    MergeFault("bias with the wrong sign", STORED, _bias_changed(-1.0)),
    MergeFault("output channels swapped", STORED, _weight(lambda w: _swapped(w, 0))),
    MergeFault("input channels swapped", STORED, _weight(lambda w: _swapped(w, 1))),
    MergeFault("matrix transposed", STORED, _weight(lambda w: w.transpose(0, 1).contiguous())),
    MergeFault("kernel transposed", STORED, _weight(lambda w: w.transpose(2, 3).contiguous()), site="depthwise"),
    MergeFault("kernel mirrored", STORED, _weight(lambda w: w.flip(3)), site="stem"),
    MergeFault("kernel moved by one pixel", STORED, _weight(lambda w: w.roll(1, 3)), site="stem"),
    MergeFault("shortcut forgotten", STORED, _weight(_identity(-1)), ("shortcut",)),
    MergeFault("shortcut added twice", STORED, _weight(_identity(1)), ("shortcut",)),
    MergeFault("sign of a channel", STORED, _weight(lambda w: torch.cat([-w[:1], w[1:]]))),
    MergeFault("scale off by 1e-5", STORED, _weight(lambda w: w * (1 + 1e-5))),
    MergeFault("one weight off by 3 units in the last place", STORED, _weight(_ulps)),
    MergeFault("one weight set to 0", STORED, _weight(lambda w: _one(w, torch.zeros_like))),
    MergeFault("float16 weights", STORED, _weight(_cast(torch.float16))),
    MergeFault("bfloat16 weights", STORED, _weight(_cast(torch.bfloat16))),
    MergeFault("a weight that is no number", STORED, _weight(_not_a_number)),
    MergeFault("BatchNorm folded and left in place", STORED, _norm_gone),
    MergeFault("weights of another layer", STORED, _other_site),
    MergeFault("giant trained on after the contraction", STORED, _trained_on),
    MergeFault(
        "statistics re-estimated after the contraction", STORED, _statistics_after, ("inverted_residual", "basic")
    ),
    MergeFault("branch forgotten", STORED, _branch_forgotten, ("branches",)),
    MergeFault("gamma of the BatchNorm behind", "everything else untouched", _buffer("weight", 1.001)),
    MergeFault("beta of the BatchNorm behind", "everything else untouched", _buffer("bias", 0.0)),
    MergeFault("variance of the BatchNorm behind", "everything else untouched", _buffer("running_var", 1.001)),
    MergeFault("another layer changed", "everything else untouched", _elsewhere, elsewhere="stem_norm"),
    MergeFault("slope 0.999", "mergeable", _slope, ("inverted_residual", "basic")),
    MergeFault("ceiling of ReLU6 left in", "mergeable", _ceiling, ("inverted_residual", "basic")),
    MergeFault("statistics of the batch", "mergeable", _batch_statistics),
    MergeFault("active dropout", "sites are affine", _dropout, ("inverted_residual", "basic")),
    MergeFault("padding behind a bias", "sites are one convolution", _late_padding, ("inverted_residual",), "stem"),
)


def made(fault: MergeFault, pair: Pair) -> Pair:
    """Return `pair` with the fault in it."""
    assert fault.site in sites(pair.giant)
    with torch.no_grad():
        fault.apply(pair, fault.site)
    return pair
