"""The running statistics of BatchNorm, measured anew on the weights as they are now."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nbedge.errors import InputError
from nbedge.tracing import evaluating


def reestimate_(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics of every BatchNorm of `model` by their plain mean over `batches`.

    During training they are an average that lags behind the weights, most of all while slopes rise; NetAug (ICLR 2022)
    re-estimates them before it evaluates. Only BatchNorms change; dropout stays off. The frozen ones inside squeezed
    blocks are left as they are: the merged weight was trained with them.

    Args:
        model: its mode is restored.
        batches: inputs (n, c, h, w), n above 1; a few thousand pictures in all.

    Raises:
        InputError: there is no batch.
    """
    with evaluating(model), torch.no_grad():
        model.train()
        norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
        model.eval()
        kept = [norm.momentum for norm in norms]
        for norm in norms:
            norm.train()
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean of all batches
        number = 0
        for x in batches:
            model(x)
            number += 1
        for norm, momentum in zip(norms, kept, strict=True):
            norm.momentum = momentum
    if not number:
        raise InputError("there are no inputs to measure BatchNorm statistics on; give at least one batch")
