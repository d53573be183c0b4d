"""Magnitude pruning: the smallest weights become 0 and stay 0; the architecture stays as it is."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from nbedge.errors import InputError
from nbedge.pruning.targets import refuse_giant, refuse_larger
from nbedge.tracing import WEIGHTED


def prune_weights(model: nn.Module, parameters: int) -> nn.Module:
    """Return a copy of `model` of whose numbers all but `parameters` are masked: the smallest weights of all layers.

    Global magnitude pruning (Han et al., NeurIPS 2015, arXiv 1506.02626), by `torch.nn.utils.prune`. Only weights of
    convolutions and linear layers are masked; biases and BatchNorms stay and are counted. The masks work while the copy
    is trained: a masked weight stays 0. Call `settle_` then, before anything else is done with it: torch cannot copy a
    module with masks. Runtimes without sparse kernels compute each 0 like any other number.

    Args:
        model: trained, since small weights are taken for unimportant ones.
        parameters: numbers that are left.

    Raises:
        InputError: the model has no more parameters than that, has as many outside of weights, or is a giant.
    """
    refuse_giant(model)
    total = sum(parameter.numel() for parameter in model.parameters())
    masked = copy.deepcopy(model)
    layers = _layers(masked)
    others = total - sum(_weight(layer).numel() for layer in layers)
    refuse_larger(total, parameters, "parameters")
    if parameters <= others:
        raise InputError(
            f"{others} parameters of the model are biases, BatchNorms and the like, which stay: {parameters} cannot be "
            "reached; ask for more"
        )
    pairs = [(layer, "weight") for layer in layers]
    prune.global_unstructured(pairs, pruning_method=prune.L1Unstructured, amount=total - parameters)
    return masked


def _layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers with a weight of their own; one that a parametrization computes is left alone."""
    return [m for m in model.modules() if isinstance(m, WEIGHTED) and m._parameters.get("weight") is not None]


def _weight(layer: nn.Module) -> Tensor:
    assert isinstance(layer.weight, Tensor)
    return layer.weight


def emptied(model: nn.Module) -> tuple[str, ...]:
    """Return the paths of the layers of a masked model that have no weight left: their answer is a constant."""
    masks = ((name.removesuffix(".weight_mask"), mask) for name, mask in model.named_buffers() if "weight_mask" in name)
    return tuple(name for name, mask in masks if not mask.any())


def settle_(model: nn.Module) -> None:
    """Make the masks of `prune_weights` permanent: masked weights become 0, and the masks are gone."""
    with torch.no_grad():
        for layer in model.modules():
            if "weight_mask" in layer._buffers:
                prune.remove(layer, "weight")  # type: ignore[no-untyped-call]
                _weight(layer).add_(0.0)  # -0, which a negative weight becomes, would be stored as other bytes than 0


def nonzero(model: nn.Module) -> int:
    """Return how many parameters of `model` are not 0."""
    return sum(int(torch.count_nonzero(parameter)) for parameter in model.parameters())
