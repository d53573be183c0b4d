"""contract(): replace each block by the one layer it has become, merged in float64, or refuse."""

import copy

from torch import nn

from nbedge.blocks import Block, expanded_blocks
from nbedge.errors import ContractionError
from nbedge.tracing import paths
from nbedge.wrappers import unwrapped


def contract(giant: nn.Module) -> nn.Module:
    """Return the tiny model that `giant` has become: same class, keys and shapes as before expansion.

    The merge is computed in float64 and rounded once. A layer with a bias of its own keeps the merged bias there;
    otherwise the bias b goes into the BatchNorm that follows (mean' = mean - b).

    Args:
        giant: in eval mode, every slope exactly 1; it is left as it is. A giant wrapped for training on several
            processes, for averaging or by torch.compile is unwrapped.

    Raises:
        ContractionError: the model has no expanded block, or a block is in a state that cannot be merged exactly;
            the message names the layer and the cure.
    """
    tiny = copy.deepcopy(unwrapped(giant))
    blocks = expanded_blocks(tiny)
    if not blocks:
        raise ContractionError("the model has no expanded block; contract() takes a giant made by nbedge.expand")
    wanted = _shapes(tiny, blocks)
    for name, block in blocks:
        tiny.set_submodule(name, block.fuse())
    found = {name: tuple(value.shape) for name, value in tiny.state_dict().items()}
    if found != wanted:  # the promise of the method: checked at every contraction, not assumed
        name = min(found.items() ^ wanted.items())[0]
        raise ContractionError(f"the contracted model's {name} is not the tiny model's; please report this")
    return tiny


def _shapes(giant: nn.Module, blocks: list[tuple[str, Block]]) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of everything in the tiny model's state: what no block holds, and what was replaced."""
    inside = tuple(f"{path}." for _, block in blocks for path in paths(giant, block))
    shapes = {n: tuple(v.shape) for n, v in giant.state_dict().items() if not n.startswith(inside)}
    for path, layer in ((path, block.replaced.layer) for _, block in blocks for path in paths(giant, block)):
        shapes |= {f"{path}.{key}": tuple(v.shape) for key, v in layer.state_dict().items()}
    return shapes
