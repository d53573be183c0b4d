"""Giant against contracted model: algebra in float64, the stored numbers, and the behaviour in float32.

The unit compared is the site, block and BatchNorm against layer and BatchNorm, both fed what the giant feeds it,
because a merged bias may sit in the BatchNorm. Bounds and constants: docs/how-it-works.md.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nbedge.blocks import Block, expanded_blocks
from nbedge.errors import InputError
from nbedge.layers import Branches, Layer, is_known, is_norm, normalized
from nbedge.slopes import SlopedActivation
from nbedge.tracing import paths, tensors
from nbedge.verification import probing
from nbedge.verification.equivalence import Check, Equivalence, Verdict, at_most, not_checked, reported
from nbedge.wrappers import unwrapped

#: separates a wrong formula from rounding: float64 errors stay below 2e-11 even where float32 shows 6e-3 (measured)
ALGEBRA_LIMIT = 1e-9
#: worst d / (u B) over 90 correct merges was 18 (measured); above this a site is called badly conditioned
WARN_FLOAT32 = 32.0
DOUBLE = 2.0**-53


@dataclass(frozen=True, slots=True)
class _Site:
    """One block with the BatchNorm behind it, and what stands there in the tiny model; modules as stored.

    Where no BatchNorm alone reads the block's answer, or the layer keeps its bias itself, the norms are None.
    """

    name: str
    block: Block
    giant_norm: nn.Module | None
    layer: Layer
    tiny_norm: nn.Module | None

    @property
    def norm_name(self) -> str:
        """Path of the BatchNorm in both models, relative to the giant that was expanded."""
        return self.name.removesuffix(self.block.site.layer) + (self.block.site.norm or "")


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
        sites = _sites(giant, tiny)
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
            _float32(giant, sites, inputs),
            *_end_to_end(giant, tiny, inputs),
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


def _sites(giant: nn.Module, tiny: nn.Module) -> list[_Site]:
    found = [_site(name, block, giant, tiny) for name, block in expanded_blocks(giant)]
    if not found:
        raise InputError("the reference has no expanded block; give the giant first and the contracted model second")
    wanted = _shapes_outside(giant, [site.block for site in found])
    given = _shapes_outside(tiny, [site.layer for site in found])
    differing = sorted(n for n in wanted.keys() | given.keys() if wanted.get(n) != given.get(n))
    if differing:
        raise InputError(
            f"the contracted model is of another architecture: {differing[0]} is {given.get(differing[0], 'missing')}, "
            f"in the giant {wanted.get(differing[0], 'missing')}"
        )
    return found


def _site(name: str, block: Block, giant: nn.Module, tiny: nn.Module) -> _Site:
    norm = name.removesuffix(block.site.layer) + block.site.norm if block.site.norm else None
    try:
        layer = tiny.get_submodule(name)
        norms = (giant.get_submodule(norm), tiny.get_submodule(norm)) if norm else (None, None)
    except AttributeError as error:
        raise InputError(f"the contracted model has no {name}: it is of another architecture ({error})") from error
    if not is_known(layer) or not all(is_norm(n) for n in norms if n is not None):
        raise InputError(f"the contracted model's {name} is a {type(layer).__name__}; was the giant contracted?")
    if not block.replaced.fits(layer):
        wanted = block.replaced.layer
        raise InputError(f"the contracted model's {name} is {layer}, not {wanted}: another architecture")
    return _Site(name, block, norms[0], layer, norms[1])  # type: ignore[arg-type]


def _shapes_outside(model: nn.Module, parts: Sequence[nn.Module]) -> dict[str, tuple[int, ...]]:
    inside = tuple(f"{path}." for part in parts for path in paths(model, part))
    return {name: tuple(v.shape) for name, v in model.state_dict().items() if not name.startswith(inside)}


def _double(block: Block) -> nn.Module:
    return copy.deepcopy(block.chain).double()


def _probe(site: _Site) -> _Probed:
    weight, bias = probing.kernel_of(_double(site.block), site.block.replaced)
    weight_bound, bias_bound = probing.kernel_of(probing.absolute(site.block.chain), site.block.replaced)
    return _Probed(weight, bias, weight_bound, bias_bound)


def _affine(sites: list[_Site]) -> Check:
    errors = {s.name: probing.affinity_error(_double(s.block), s.block.replaced) for s in sites}
    worst = max(errors, key=errors.__getitem__)
    return at_most(
        "sites are affine", errors[worst], ALGEBRA_LIMIT, "relative", f"worst at {worst}, {len(sites)} sites"
    )


def _structure(sites: list[_Site], probed: list[_Probed]) -> Check:
    errors = {}
    for site, p in zip(sites, probed, strict=True):
        errors[site.name] = probing.structure_error(_double(site.block), _ideal(site, p), site.block.replaced)
    worst = max(errors, key=errors.__getitem__)
    detail = f"every border class and stride phase; worst at {worst}"
    return at_most("sites are one convolution each", errors[worst], ALGEBRA_LIMIT, "relative", detail)


def _ideal(site: _Site, p: _Probed) -> Layer:
    """Return the layer replaced, in float64, with the probed weight and bias, wherever its class would keep a bias."""
    layer = site.block.replaced.build(p.weight, None, p.weight)
    layer.bias = nn.Parameter(p.bias.clone(), requires_grad=False)
    return layer


def _algebra(giant: nn.Module, tiny: nn.Module, sites: list[_Site], probed: list[_Probed], inputs: Tensor) -> Check:
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
    wanted = _answers(copy.deepcopy(giant).double(), inputs.double())
    error = _relative_error(_answers(exact, inputs.double()), wanted)
    return at_most("algebra in float64", error, ALGEBRA_LIMIT, "max|Δ|/max|y|", f"{len(inputs)} inputs, end to end")


def _answers(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return all that the model answers to `inputs` in its own type, side by side: (n, numbers)."""
    answers = tensors(model(inputs.to(next(model.parameters()).dtype)))
    return torch.cat([answer.reshape(len(inputs), -1) for answer in answers], 1)


def _relative_error(found: Tensor, wanted: Tensor) -> float:
    return probing.relative((found - wanted).abs().max().item(), wanted.abs().max().item())


def _stored(sites: list[_Site], probed: list[_Probed]) -> Iterator[Check]:
    """Each stored number is the float64 one rounded once: |w - w64| <= u |w64| + 64 2^-53 |A3||a2||A1|."""
    excess: dict[str, float] = {}
    for site, p in zip(sites, probed, strict=True):
        excess |= _stored_of(site, p)
    worst = max(excess, key=excess.__getitem__)
    detail = f"{len(excess)} tensors, each number within its rounding; worst at {worst}"
    yield at_most("stored numbers", excess[worst], 1.0, "of the allowed rounding", detail)


def _stored_of(site: _Site, p: _Probed) -> dict[str, float]:
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


def unit_roundoff(stored: Tensor) -> float:
    """Return u of a tensor's type: 2^-24 for float32."""
    return torch.finfo(stored.dtype).eps / 2


def _excess(stored: Tensor, exact: Tensor, bound: Tensor, rounding: float) -> float:
    smallest = max(rounding * torch.finfo(stored.dtype).tiny, torch.finfo(torch.float64).tiny)  # below, steps are equal
    allowed = rounding * exact.abs() + 64 * DOUBLE * bound + smallest
    worst = ((stored.double() - exact).abs() / allowed).max().item()
    return worst if worst == worst else float("inf")  # a NaN is no agreement


def _untouched(giant: nn.Module, tiny: nn.Module, sites: list[_Site]) -> Check:
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


def _float32(giant: nn.Module, sites: list[_Site], inputs: Tensor) -> Check:
    """Compare each site as it is stored, in units of u B: the rounding that its own numbers make inevitable."""
    fed = _captured(giant, sites, inputs)
    unreached = [site.name for site in sites if site.name not in fed]
    if unreached:
        return not_checked(f"behaviour in {_type(sites[0].layer)}", f"the inputs do not reach {unreached[0]}")
    ratios: dict[str, tuple[float, float]] = {}
    for site in sites:
        x = fed[site.name]
        found = _behind(site.tiny_norm, site.layer(x.to(site.layer.weight.dtype)))
        difference = (found - _behind(site.giant_norm, site.block(x))).abs().double()
        bound = probing.absolute(site.block.chain)(x.abs().double())
        bound = bound if site.giant_norm is None else probing.absolute(site.giant_norm)(bound)
        rounding = unit_roundoff(site.layer.weight) * bound + torch.finfo(torch.float64).tiny
        ratio = probing.worst([(difference / rounding).max().item()])
        ratios[site.name] = (ratio, float(_accumulations(site)))
    worst = max(ratios, key=lambda name: ratios[name][0] / ratios[name][1])
    ratio, limit = ratios[worst]
    detail = f"worst at {worst}" + ("; WARNING: above 32, badly conditioned" if ratio > WARN_FLOAT32 else "")
    return at_most(f"behaviour in {_type(sites[0].layer)}", ratio, limit, "u·B", detail)


def _behind(norm: nn.Module | None, y: Tensor) -> Tensor:
    return y if norm is None else normalized(norm, y)


def _accumulations(site: _Site) -> int:
    """Return n of gamma(n): the additions and roundings behind one output of the block and one of the layer."""
    parts = [*site.block.chain.modules(), site.layer]
    layers = [part for part in parts if is_known(part)]
    norms = 2 + sum(is_norm(part) for part in parts)
    others = 4 * (norms + sum(isinstance(part, SlopedActivation | Branches) for part in parts) + 1)
    return sum(layer.get_parameter("weight")[0].numel() + 2 for layer in layers) + others


def _captured(giant: nn.Module, sites: list[_Site], inputs: Tensor) -> dict[str, Tensor]:
    fed: dict[str, Tensor] = {}
    handles = []
    for site in sites:

        def keep(_module: nn.Module, args: Any, kwargs: Any, name: str = site.name) -> None:
            fed[name] = tensors((args, kwargs))[0]

        handles.append(site.block.register_forward_pre_hook(keep, with_kwargs=True))
    _answers(giant, inputs)
    for handle in handles:
        handle.remove()
    return fed


def _type(module: nn.Module) -> str:
    return str(next(module.parameters()).dtype).removeprefix("torch.")


def _end_to_end(giant: nn.Module, tiny: nn.Module, inputs: Tensor) -> Iterator[Check]:
    """Report, without judging: through several non-linear layers no useful bound exists, the sites are judged."""
    wanted, found = _answers(giant, inputs), _answers(tiny, inputs)
    finite = bool(found.isfinite().all() and wanted.isfinite().all())
    yield Check("finite outputs", Verdict.PASS if finite else Verdict.FAIL, float(not finite), 0, "", "")
    error = _relative_error(found, wanted)
    yield reported(f"end to end in {_type(tiny)}", error, "max|Δ|/max|y|", f"{len(inputs)} inputs")
    flips = (found.argmax(1) != wanted.argmax(1)).sum().item()
    yield reported("answers that differ", flips, "inputs", f"of {len(inputs)}")
