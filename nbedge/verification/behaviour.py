"""How giant and contracted model behave in the type that they are stored in: each site against its own rounding."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nbedge.layers import Branches, is_known, is_norm, normalized
from nbedge.slopes import SlopedActivation
from nbedge.tracing import tensors
from nbedge.verification import probing
from nbedge.verification.equivalence import Check, Verdict, at_most, not_checked, reported
from nbedge.verification.sites import MergedSite

#: worst d / (u B) over 90 correct merges was 18 (measured); above this a site is called badly conditioned
WARN_FLOAT32 = 32.0
#: inputs of one pass: what enters the sites is kept meanwhile
AT_ONCE = 32


@dataclass(frozen=True, slots=True, eq=False)
class Behaviour:
    """What was seen on the inputs.

    Attributes:
        ratios: path of a site that they reach -> its worst difference, in units of u B.
        wanted: (n, numbers), answers of the giant.
        found: likewise of the contracted model.
        classes: whether these numbers are one of each class, of which the largest is the answer.
    """

    ratios: dict[str, float]
    wanted: Tensor
    found: Tensor
    classes: bool


def observe(giant: nn.Module, tiny: nn.Module, sites: list[MergedSite], inputs: Tensor) -> Behaviour:
    """Run both models on `inputs` (n, ...), and each site of both on what the giant feeds it."""
    ratios: dict[str, float] = {}
    wanted = []
    for some in torch.split(inputs, AT_ONCE):
        fed, answer = _captured(giant, sites, some)
        wanted.append(answer)
        for site in (site for site in sites if site.name in fed):
            ratios[site.name] = probing.worst([ratios.get(site.name, 0.0), _ratio(site, fed[site.name])])
    first = tensors(tiny(inputs[:1].to(next(tiny.parameters()).dtype)))
    classes = len(first) == 1 and first[0].ndim == 2
    return Behaviour(ratios, torch.cat(wanted), answers(tiny, inputs), classes)


def answers(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return all that the model answers to `inputs` in its own type, side by side: (n, numbers)."""
    dtype = next(model.parameters()).dtype
    each = (tensors(model(some.to(dtype))) for some in torch.split(inputs, AT_ONCE))
    return torch.cat([torch.cat([y.reshape(len(y), -1) for y in found], 1) for found in each])


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """Return max|found - wanted| / max|wanted|."""
    return probing.relative((found - wanted).abs().max().item(), wanted.abs().max().item())


def unit_roundoff(stored: Tensor) -> float:
    """Return u of a tensor's type: 2^-24 for float32."""
    return torch.finfo(stored.dtype).eps / 2


def judged(seen: Behaviour, sites: list[MergedSite]) -> Iterator[Check]:
    """Yield the checks; end to end without a verdict: through several non-linear layers no useful bound exists."""
    yield _of_sites(seen, sites)
    wanted, found = seen.wanted, seen.found
    finite = bool(found.isfinite().all() and wanted.isfinite().all())
    yield Check("finite outputs", Verdict.PASS if finite else Verdict.FAIL, float(not finite), 0, "", "")
    error, number = relative_error(found, wanted), len(found)
    yield reported(f"end to end in {_type(sites[0])}", error, "max|Δ|/max|y|", f"{number} inputs")
    if not seen.classes:
        return
    flips = (found.argmax(1) != wanted.argmax(1)).sum().item()
    yield reported("answers that differ", flips, "inputs", f"of {number}")


def _of_sites(seen: Behaviour, sites: list[MergedSite]) -> Check:
    """Compare each site as it is stored, in units of u B: the rounding that its own numbers make inevitable."""
    name = f"behaviour in {_type(sites[0])}"
    unreached = [site.name for site in sites if site.name not in seen.ratios]
    if unreached:
        return not_checked(name, f"the inputs do not reach {unreached[0]}")
    limits = {site.name: float(_accumulations(site)) for site in sites}
    worst = max(limits, key=lambda name: seen.ratios[name] / limits[name])
    ratio = seen.ratios[worst]
    detail = f"worst at {worst}" + ("; WARNING: above 32, badly conditioned" if ratio > WARN_FLOAT32 else "")
    return at_most(name, ratio, limits[worst], "u·B", detail)


def _type(site: MergedSite) -> str:
    return str(site.layer.weight.dtype).removeprefix("torch.")


def _ratio(site: MergedSite, x: Tensor) -> float:
    found = _behind(site.tiny_norm, site.layer(x.to(site.layer.weight.dtype)))
    difference = (found - _behind(site.giant_norm, site.block(x))).abs().double()
    bound = probing.absolute(site.block.chain)(x.abs().double())
    bound = bound if site.giant_norm is None else probing.absolute(site.giant_norm)(bound)
    rounding = unit_roundoff(site.layer.weight) * bound + torch.finfo(torch.float64).tiny
    return probing.worst([(difference / rounding).max().item()])


def _behind(norm: nn.Module | None, y: Tensor) -> Tensor:
    return y if norm is None else normalized(norm, y)


def _accumulations(site: MergedSite) -> int:
    """Return n of gamma(n): the additions and roundings behind one output of the block and one of the layer."""
    parts = [*site.block.chain.modules(), site.layer]
    layers = [part for part in parts if is_known(part)]
    norms = 2 + sum(is_norm(part) for part in parts)
    others = 4 * (norms + sum(isinstance(part, SlopedActivation | Branches) for part in parts) + 1)
    return sum(layer.get_parameter("weight")[0].numel() + 2 for layer in layers) + others


def _captured(giant: nn.Module, sites: list[MergedSite], inputs: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Return what each site is fed, by its path, and the answers."""
    fed: dict[str, Tensor] = {}
    handles = []
    for site in sites:

        def keep(_module: nn.Module, args: Any, kwargs: Any, name: str = site.name) -> None:
            fed[name] = tensors((args, kwargs))[0]

        handles.append(site.block.register_forward_pre_hook(keep, with_kwargs=True))
    found = answers(giant, inputs)
    for handle in handles:
        handle.remove()
    return fed, found
