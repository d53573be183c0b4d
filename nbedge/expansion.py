"""expand(): a copy of the tiny model with an `Expanded` block in place of each planned site."""

import copy

import torch
from torch import nn

from nbedge.blocks import ConvSpec, Expanded, inverted_residual
from nbedge.errors import PlanError
from nbedge.plan import Plan, Site


def expand(model: nn.Module, plan: Plan, *, seed: int = 0) -> nn.Module:
    """Return the giant: a copy of `model` with new blocks at the plan's sites; train it with any loop.

    Args:
        model: the tiny model that the plan was made for; it is left as it is.
        plan: the sites.
        seed: of the new weights (Kaiming normal, fan out); torch's own random state is not touched.

    Raises:
        PlanError: the plan was made for another model, or names a layer that the model lacks.
    """
    plan.check(model)
    giant = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):  # drawn on the CPU, so that a giant is the same on every device
        torch.default_generator.manual_seed(seed)
        for site in plan.sites:
            giant.set_submodule(site.layer, _block(giant, site))
    return giant


def _block(model: nn.Module, site: Site) -> Expanded:
    conv, norm = _find(model, site.layer), _find(model, site.norm)
    if not isinstance(conv, nn.Conv2d) or conv.kernel_size != (1, 1) or conv.groups != 1:
        raise PlanError(f"site {site.layer} is no dense 1x1 Conv2d ({conv}); take it out of the plan")
    if not isinstance(norm, nn.BatchNorm2d) or norm.num_features != conv.out_channels:
        raise PlanError(f"site {site.layer}: its norm {site.norm} is no BatchNorm2d of {conv.out_channels} channels")
    chain = inverted_residual(conv, site.ratio, site.activation, norm)
    for layer in chain:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    chain.to(conv.weight.device, conv.weight.dtype)
    return Expanded(ConvSpec.of(conv), site.norm, chain).train(conv.training)


def _find(model: nn.Module, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError as error:
        raise PlanError(f"the plan names {path}, which the model lacks; propose a new plan") from error
