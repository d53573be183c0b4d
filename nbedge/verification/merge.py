"""Giant against contracted model: algebra in float64, the stored numbers, and the behaviour in float32.

The unit compared is the site, block and BatchNorm against layer and BatchNorm, both fed what the giant feeds it,
because a merged bias may sit in the BatchNorm. Bounds and constants: docs/how-it-works.md.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nbedge.layers import Layer
from nbedge.tracing import paths
from nbedge.verification import probing
from nbedge.verification.behaviour import answers, judged, observe, relative_error, unit_roundoff
from nbedge.verification.equivalence import Check, Equivalence, at_most
from nbedge.verification.ranges import weight_ranges
from nbedge.verification.sites import MergedSite, sites_of
from nbedge.wrappers import unwrapped

#: separates a wrong formula from rounding: float64 errors stay below 2e-11 even where float32 shows 6e-3 (measured)
ALGEBRA_LIMIT = 1e-9
DOUBLE = 2.0**-53


@dataclass(frozen=True, slots=True)
class _Probed:
    """What a site's block computes (float64): its weight, its bias, and the bounds |A3||a2||A1| of both."""

    weight: Tensor
    bias: Tensor
    weight_bound: Tensor
    bias_bound: Tensor


def verify_merge(giant: nn.Module, tiny: nn.Module, inputs: Tensor) -> Equivalence:
    """Judge whether `tiny` is what `giant` has become.

    Args:
        giant: with expanded blocks; judged in eval mode.
        tiny: the contracted model.
        inputs: (n, c, h, w), real ones after preprocessing.

    Raises:
        InputError: `tiny` is not of the architecture that `giant` contracts to.
    """
    giant, tiny = (copy.deepcopy(unwrapped(model)).cpu().eval() for model in (giant, tiny))
    # a new layer draws random weights before it gets its own: the caller's random state stays
    with torch.no_grad(), full_precision(), torch.random.fork_rng(devices=[]):
        sites = sites_of(giant, tiny)
        broken = [f"{s.name}: {', '.join(bad)}" for s in sites if (bad := probing.unmergeable(s.block.chain))]
        if broken:
            return _result([at_most("mergeable", len(broken), 0, "sites", "; ".join(broken))])
        probed = [_probe(site) for site in sites]
        checks = [
            _affine(sites),
            _structure(sites, probed),
            _algebra(giant, tiny, sites, probed, inputs),
            *_stored(sites, probed),
            _untouched(giant, tiny, sites),
            *judged(observe(giant, tiny, sites, inputs), sites),
            *weight_ranges(sites),
        ]
    return _result(checks)


def _result(checks: list[Check]) -> Equivalence:
    return Equivalence("giant", "contracted", "torch", tuple(checks))


@contextmanager
def full_precision() -> Iterator[None]:
    """Switch TF32, autocast and reduced-precision fast paths off inside the block."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def _probe(site: MergedSite) -> _Probed:
    weight, bias = probing.kernel_of(site.exact, site.block.replaced)
    weight_bound, bias_bound = probing.kernel_of(probing.absolute(site.block.chain), site.block.replaced)
    return _Probed(weight, bias, weight_bound, bias_bound)


def _affine(sites: list[MergedSite]) -> Check:
    errors = {s.name: probing.affinity_error(s.exact, s.block.replaced) for s in sites}
    worst = max(errors, key=errors.__getitem__)
    return at_most(
        "sites are affine", errors[worst], ALGEBRA_LIMIT, "relative", f"worst at {worst}, {len(sites)} sites"
    )


def _structure(sites: list[MergedSite], probed: list[_Probed]) -> Check:
    errors = {}
    for site, p in zip(sites, probed, strict=True):
        errors[site.name] = probing.structure_error(site.exact, _ideal(site, p), site.block.replaced)
    worst = max(errors, key=errors.__getitem__)
    detail = f"every border class and stride phase; worst at {worst}"
    return at_most("sites are one convolution each", errors[worst], ALGEBRA_LIMIT, "relative", detail)


def _ideal(site: MergedSite, p: _Probed) -> Layer:
    """Return the layer replaced, in float64, with the probed weight and bias, wherever its class would keep a bias."""
    layer = site.block.replaced.build(p.weight, None, p.weight)
    layer.bias = nn.Parameter(p.bias.clone(), requires_grad=False)
    return layer


def _algebra(
    giant: nn.Module, tiny: nn.Module, sites: list[MergedSite], probed: list[_Probed], inputs: Tensor
) -> Check:
    """Compare the giant in float64 with the tiny architecture that holds the probed maps, end to end."""
    exact = copy.deepcopy(tiny).double()
    for site, p in zip(sites, probed, strict=True):
        layer = _ideal(site, p)
        if site.giant_norm is not None:
            mean = site.giant_norm.get_buffer("running_mean").double()
            if site.layer.bias is None:  # the bias sits in the BatchNorm: it must be the one that reads this layer
                layer.bias, mean = None, mean - p.bias
            exact.get_submodule(site.norm_name).get_buffer("running_mean").copy_(mean)
        exact.set_submodule(site.name, layer)
    wanted = answers(copy.deepcopy(giant).double(), inputs.double())
    error = relative_error(answers(exact, inputs.double()), wanted)
    return at_most("algebra in float64", error, ALGEBRA_LIMIT, "max|Δ|/max|y|", f"{len(inputs)} inputs, end to end")


def _stored(sites: list[MergedSite], probed: list[_Probed]) -> Iterator[Check]:
    """Each stored number is the float64 one rounded once: |w - w64| <= u |w64| + 64 2^-53 |A3||a2||A1|."""
    excess: dict[str, float] = {}
    for site, p in zip(sites, probed, strict=True):
        excess |= _stored_of(site, p)
    worst = max(excess, key=excess.__getitem__)
    detail = f"{len(excess)} tensors, each number within its rounding; worst at {worst}"
    yield at_most("stored numbers", excess[worst], 1.0, "of the allowed rounding", detail)


def _stored_of(site: MergedSite, p: _Probed) -> dict[str, float]:
    rounding = unit_roundoff(site.layer.weight)
    excess = {f"{site.name}.weight": _excess(site.layer.weight, p.weight, p.weight_bound, rounding)}
    handed_over = site.layer.bias is None
    if site.layer.bias is not None:
        excess[f"{site.name}.bias"] = _excess(site.layer.bias, p.bias, p.bias_bound, rounding)
    if site.giant_norm is not None and site.tiny_norm is not None:
        mean = site.giant_norm.get_buffer("running_mean").double()
        wanted, bound = (mean - p.bias, mean.abs() + p.bias_bound) if handed_over else (mean, mean.abs())
        stored = site.tiny_norm.get_buffer("running_mean")
        excess[f"{site.norm_name}.running_mean"] = _excess(stored, wanted, bound, rounding)
    elif handed_over:  # neither can hold a bias: it must be nothing
        excess[f"{site.name}, a bias with no place"] = _excess(torch.zeros_like(p.bias), p.bias, p.bias_bound, 0.0)
    return excess


def _excess(stored: Tensor, exact: Tensor, bound: Tensor, rounding: float) -> float:
    smallest = max(rounding * torch.finfo(stored.dtype).tiny, torch.finfo(torch.float64).tiny)  # below, steps are equal
    allowed = rounding * exact.abs() + 64 * DOUBLE * bound + smallest
    worst = ((stored.double() - exact).abs() / allowed).max().item()
    return worst if worst == worst else float("inf")  # a NaN is no agreement


def _untouched(giant: nn.Module, tiny: nn.Module, sites: list[MergedSite]) -> Check:
    """Every tensor outside the merge is the giant's, bit for bit."""
    merged = {f"{path}.{key}" for s in sites for path in paths(tiny, s.layer) for key in ("weight", "bias")}
    merged |= {f"{path}.running_mean" for s in sites if s.tiny_norm for path in paths(tiny, s.tiny_norm)}
    before, after = giant.state_dict(), tiny.state_dict()
    names = after.keys() - merged
    differing = sorted(n for n in names if n not in before or not _same(before[n], after[n]))
    detail = f"{len(names)} tensors outside the merge" + (f"; first to differ: {differing[0]}" if differing else "")
    return at_most("everything else untouched", len(differing), 0, "tensors", detail)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)
