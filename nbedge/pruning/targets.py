"""What cannot be pruned, or not to the size asked for, whichever way it is pruned."""

from torch import nn

from nbedge.blocks import expanded_blocks
from nbedge.errors import InputError


def refuse_giant(model: nn.Module) -> None:
    """Refuse a giant: its blocks are to become the layers that they stand for.

    Raises:
        InputError: it is one.
    """
    if expanded_blocks(model):
        raise InputError("the model is a giant, which is contracted and not pruned; prune an ordinary model")


def refuse_larger(found: int, wanted: int, unit: str) -> None:
    """Refuse to prune a model of `found` units to `wanted` of them, if that is no less.

    Raises:
        InputError: it is not.
    """
    if wanted >= found:
        raise InputError(
            f"the model has {found} {unit}, no more than the {wanted} that it is to be pruned to; ask for fewer, or "
            "prune a wider model"
        )
