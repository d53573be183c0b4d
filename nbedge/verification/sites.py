"""MergedSite: a block of the giant, and what stands in its place in the contracted model."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from nbedge.blocks import Block, expanded_blocks
from nbedge.errors import InputError
from nbedge.layers import Layer, is_known, is_norm
from nbedge.tracing import paths


@dataclass(frozen=True, slots=True)
class MergedSite:
    """One block with the BatchNorm behind it, and what stands there in the tiny model; modules as stored.

    `exact` is the block in float64. Where no BatchNorm alone reads the block's answer, or the layer keeps its bias
    itself, the norms are None.
    """

    name: str
    block: Block
    exact: nn.Module
    giant_norm: nn.Module | None
    layer: Layer
    tiny_norm: nn.Module | None

    @property
    def norm_name(self) -> str:
        """Path of the BatchNorm in both models, relative to the giant that was expanded."""
        return self.name.removesuffix(self.block.site.layer) + (self.block.site.norm or "")


def sites_of(giant: nn.Module, tiny: nn.Module) -> list[MergedSite]:
    """Return the sites of `giant` with what stands there in `tiny`.

    Raises:
        InputError: there are none, or `tiny` is of another architecture than `giant` contracts to.
    """
    found = [_at(name, block, giant, tiny) for name, block in expanded_blocks(giant)]
    if not found:
        raise InputError("the reference has no expanded block; give the giant first and the contracted model second")
    wanted = _shapes_outside(giant, [site.block for site in found])
    given = _shapes_outside(tiny, [site.layer for site in found])
    differing = sorted(n for n in wanted.keys() | given.keys() if wanted.get(n) != given.get(n))
    if differing:
        raise InputError(
            f"the contracted model is of another architecture: {differing[0]} is {given.get(differing[0], 'missing')}, "
            f"in the giant {wanted.get(differing[0], 'missing')}"
        )
    return found


def _at(name: str, block: Block, giant: nn.Module, tiny: nn.Module) -> MergedSite:
    norm = name.removesuffix(block.site.layer) + block.site.norm if block.site.norm else None
    try:
        layer = tiny.get_submodule(name)
        norms = (giant.get_submodule(norm), tiny.get_submodule(norm)) if norm else (None, None)
    except AttributeError as error:
        raise InputError(f"the contracted model has no {name}: it is of another architecture ({error})") from error
    if not is_known(layer) or not all(is_norm(n) for n in norms if n is not None):
        raise InputError(f"the contracted model's {name} is a {type(layer).__name__}; was the giant contracted?")
    if not block.replaced.fits(layer):
        wanted = block.replaced.layer
        raise InputError(f"the contracted model's {name} is {layer}, not {wanted}: another architecture")
    return MergedSite(name, block, copy.deepcopy(block.chain).double(), norms[0], layer, norms[1])  # type: ignore[arg-type]


def _shapes_outside(model: nn.Module, parts: Sequence[nn.Module]) -> dict[str, tuple[int, ...]]:
    inside = tuple(f"{path}." for part in parts for path in paths(model, part))
    return {name: tuple(v.shape) for name, v in model.state_dict().items() if not name.startswith(inside)}
