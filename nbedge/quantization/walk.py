"""A pass through a folded network in which each value is computed twice: exactly, and as an integer file does."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_map

from nbedge.quantization.folding import Layer, layers_of
from nbedge.quantization.grid import Grid, extremes, on_grid

#: (layer, its inputs as the file has them, its exact outputs): changes the layer's numbers
Treat = Callable[[Layer, Tensor, Tensor], None]
#: inputs that are walked with, at most: every value computed from them that is still needed is in memory twice
INPUTS = 128


@dataclass(frozen=True, slots=True, eq=False)
class Both:
    """One value, exact and as an integer file computes it."""

    exact: Any
    rounded: Any


class _Walk(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, grid: Grid, treat: Treat) -> None:
        super().__init__(module)
        self._grid, self._treat = grid, treat
        self._layers: Mapping[fx.Node, Layer] = {layer.node: layer for layer in layers_of(module)}
        self._stored = on_grid(module)

    def run_node(self, n: fx.Node) -> Any:
        if n.op in ("get_attr", "output"):
            return super().run_node(n)
        if n.op == "placeholder":
            exact = rounded = super().run_node(n)
        else:
            given = self.fetch_args_kwargs_from_env(n)
            exact = self._call(n, tree_map(lambda v: v.exact if isinstance(v, Both) else v, given))
            rounded = self._rounded(n, tree_map(lambda v: v.rounded if isinstance(v, Both) else v, given), exact)
        return Both(exact, self._grid.activation(rounded, *extremes(exact)) if n in self._stored else rounded)

    def _rounded(self, node: fx.Node, given: Any, exact: Any) -> Any:
        if node not in self._layers:
            return self._call(node, given)
        layer, x = self._layers[node], given[0][0]
        self._treat(layer, x, exact)
        return layer(x, self._grid.weight(layer.weight), layer.bias)

    def _call(self, node: fx.Node, given: Any) -> Any:
        return getattr(self, node.op)(node.target, *given)


def treat_layers_(module: fx.GraphModule, x: Tensor, grid: Grid, treat: Treat) -> None:
    """Treat the layers of a folded network one after the other, each with what the ones before it have become.

    Args:
        module: the folded network, whose numbers change.
        x: (n, ...) inputs.
        grid: of the file; the range of each value is that of its exact numbers.
        treat: called with each layer, its inputs as the file has them, and what it computes exactly.
    """
    with torch.no_grad():
        _Walk(module, grid, treat).run(x[:INPUTS])
