"""The wrappers that training puts around a model, and how to get the model out of them."""

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

_HOLDERS = (DistributedDataParallel, DataParallel, AveragedModel)
#: by name, so that a model that was not compiled does not wait a second for the compiler to load
_COMPILED = "torch._dynamo.eval_frame.OptimizedModule"
#: timm's averages, by name, so that timm need not be installed
_TIMM = ("timm.utils.model_ema.ModelEma", "timm.utils.model_ema.ModelEmaV2", "timm.utils.model_ema.ModelEmaV3")


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside the wrappers of DDP, of weight averaging (torch's, timm's) and of torch.compile."""
    while True:
        name = f"{type(model).__module__}.{type(model).__qualname__}"
        if name == _COMPILED:
            model = model.get_submodule("_orig_mod")
        elif isinstance(model, _HOLDERS):
            model = model.module
        elif name in _TIMM:
            model = model.get_submodule("ema" if name == _TIMM[0] else "module")
        else:
            return model
