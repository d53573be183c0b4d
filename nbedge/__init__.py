"""Make a tiny CNN more accurate at no cost on the device, and prove every step to the file that the device runs.

Each public name is loaded when it is first used, so that `import nbedge` needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from nbedge.errors import NbedgeError, needs

if TYPE_CHECKING:
    from nbedge.artifact import Artifact
    from nbedge.benchmark import measure
    from nbedge.checkpoint import load_checkpoint, save_checkpoint
    from nbedge.contraction import contract
    from nbedge.conversion import export
    from nbedge.deployment import Deployment, deploy
    from nbedge.expansion import expand
    from nbedge.linearization import PLT
    from nbedge.plan import Plan, Site
    from nbedge.preprocessing import Preprocessing
    from nbedge.proposal import propose
    from nbedge.pruning import prune_channels, prune_weights
    from nbedge.training import train
    from nbedge.verification import Equivalence, Verdict, verify

__version__ = "0.1.0"

__all__ = [
    # the path
    "propose", "expand", "train", "contract", "verify", "export", "measure", "deploy",
    # the other way to a tiny model
    "prune_channels", "prune_weights",
    # files of weights
    "load_checkpoint", "save_checkpoint",
    # records
    "Plan", "Site", "PLT", "Preprocessing", "Artifact", "Equivalence", "Verdict", "Deployment",
    # errors
    "NbedgeError",
]  # fmt: skip

_HOMES = {
    "propose": "nbedge.proposal",
    "expand": "nbedge.expansion",
    "train": "nbedge.training",
    "contract": "nbedge.contraction",
    "verify": "nbedge.verification",
    "export": "nbedge.conversion",
    "measure": "nbedge.benchmark",
    "deploy": "nbedge.deployment",
    "prune_channels": "nbedge.pruning",
    "prune_weights": "nbedge.pruning",
    "load_checkpoint": "nbedge.checkpoint",
    "save_checkpoint": "nbedge.checkpoint",
    "Plan": "nbedge.plan",
    "Site": "nbedge.plan",
    "PLT": "nbedge.linearization",
    "Preprocessing": "nbedge.preprocessing",
    "Artifact": "nbedge.artifact",
    "Equivalence": "nbedge.verification",
    "Verdict": "nbedge.verification",
    "Deployment": "nbedge.deployment",
}


if not TYPE_CHECKING:  # a type checker sees the imports above, and so reports a name that is not there

    def __getattr__(name: str) -> object:
        """Load the public name `name` from its module."""
        if name not in _HOMES:
            raise AttributeError(f"module 'nbedge' has no attribute {name!r}")
        with needs("train"):
            value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted({*globals(), *__all__})
