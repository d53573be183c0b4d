"""expand(): a copy of the tiny model with an `Expanded` block in place of each planned site."""

import copy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from nbedge.blocks import Expanded, Template, refusal, started
from nbedge.errors import PlanError
from nbedge.layers import Layer, channels, is_known, is_norm, uninitialized
from nbedge.plan import Plan, Site
from nbedge.tracing import registrations


def expand(model: nn.Module, plan: Plan, *, seed: int = 0) -> nn.Module:
    """Return the giant: a copy of `model` with new blocks at the plan's sites; train it with any loop.

    A giant can be expanded again, inside its blocks too.

    Args:
        model: the tiny model that the plan was made for; it is left as it is.
        plan: the sites.
        seed: of the new weights (Kaiming normal, fan out); torch's own random state is not touched.

    Raises:
        PlanError: the plan was made for another model, names a layer that the model lacks, or a block that cannot take
            that layer's place.
    """
    lazy = uninitialized(model)
    if lazy:
        raise PlanError(f"the model holds layers without shapes yet ({lazy[0]}); run it once on an input first")
    plan.check(model)
    giant = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):  # drawn on the CPU, so that a giant is the same on every device
        torch.default_generator.manual_seed(seed)
        for site in plan.sites:
            giant.set_submodule(site.layer, _block(giant, site))
    return giant


def _block(giant: nn.Module, site: Site) -> Expanded:
    layer, norm = _layer(giant, site), _norm(giant, site)
    why = refusal(layer, site, home=norm is not None or layer.bias is not None)
    if why:
        raise PlanError(f"site {site.layer}: {why}; change the site or take it out of the plan")
    device, dtype = layer.weight.device, layer.weight.dtype
    chain = started(copy.deepcopy(layer).to("cpu", torch.promote_types(dtype, torch.float32)), site, norm)
    return Expanded(site, Template.of(layer), chain.to(device, dtype), giant).train(layer.training)


def _layer(giant: nn.Module, site: Site) -> Layer:
    layer = _find(giant, site.layer)
    if not is_known(layer):
        raise PlanError(
            f"site {site.layer} is a {type(layer).__name__}, not a convolution or fully connected layer whose forward "
            "is known; take it out of the plan"
        )
    if registrations(giant, layer) != 1:
        raise PlanError(f"site {site.layer} is registered under several names of the model; take it out of the plan")
    return layer  # type: ignore[return-value]


def _norm(giant: nn.Module, site: Site) -> _BatchNorm | None:
    if site.norm is None:
        return None
    norm, outputs = _find(giant, site.norm), channels(_layer(giant, site))[1]
    if not is_norm(norm) or norm.num_features != outputs:
        raise PlanError(f"site {site.layer}: its norm {site.norm} is no BatchNorm of {outputs} channels")
    if norm.running_mean is None:
        raise PlanError(f"site {site.layer}: its norm {site.norm} keeps no running statistics")
    return norm  # type: ignore[return-value]


def _find(model: nn.Module, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError as error:
        raise PlanError(f"the plan names {path}, which the model lacks; propose a new plan") from error
