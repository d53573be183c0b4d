"""The wrappers that training puts around a model, and how to get the model out of them."""

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

_HOLDERS = (DistributedDataParallel, DataParallel, AveragedModel)
#: timm's averages, by name, so that timm need not be installed
_TIMM = ("timm.utils.model_ema.ModelEma", "timm.utils.model_ema.ModelEmaV2", "timm.utils.model_ema.ModelEmaV3")


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside the wrappers of DDP, of weight averaging (torch's, timm's) and of torch.compile."""
    while True:
        if isinstance(model, torch._dynamo.eval_frame.OptimizedModule):
            model = model._orig_mod
        elif isinstance(model, _HOLDERS):
            model = model.module
        elif f"{type(model).__module__}.{type(model).__qualname__}" in _TIMM:
            model = model.get_submodule("ema" if type(model).__qualname__ == "ModelEma" else "module")
        else:
            return model
