"""Rounding of weights, up or down, as the layer's answers need it, and not each weight to its nearest step."""

import torch
from torch import Tensor, fx

from nbedge.quantization.folding import Layer, copied
from nbedge.quantization.grid import Grid
from nbedge.quantization.walk import treat_layers_

#: the paper's: stretch of the sigmoid, weight of the regularizer, its exponent from first to last, share without it
STRETCH, LAMBDA, EXPONENT, FREE = 1.2, 0.01, (20.0, 2.0), 0.2
#: steps of Adam a layer, its learning rate, and inputs a step
STEPS, RATE, BATCH = 400, 1e-2, 32
#: a weight this near to a step of the grid stays there: the largest of each channel must, for it sets the scale
NEAR = 1e-3


def rounded(module: fx.GraphModule, x: Tensor, grid: Grid, seed: int = 0) -> fx.GraphModule:
    """Return a folded network whose weights lie on the grid, so that any quantizer keeps them.

    Nagel et al., Up or Down? Adaptive Rounding for Post-Training Quantization, ICML 2020: each layer in turn learns
    which weights to round up, from what it gets in the file and what it should answer behind its activation.

    Args:
        module: a folded network; it is left as it is.
        x: (n, ...) inputs, of which the first 128 are used.
        grid: of the file.
        seed: of the order of inputs.
    """
    found, generator = copied(module), torch.Generator().manual_seed(seed)

    def choose(layer: Layer, given: Tensor, wanted: Tensor) -> None:
        with torch.enable_grad():
            layer.weight.copy_(_chosen(layer, given, layer.activated(wanted), grid, generator))

    treat_layers_(found, x, grid, choose)
    return found


def _chosen(layer: Layer, x: Tensor, wanted: Tensor, grid: Grid, generator: torch.Generator) -> Tensor:
    """Return the weight on the grid with which the layer's answers to x (n, ...) are nearest to `wanted`."""
    scales = grid.scales(layer.weight)
    steps = layer.weight.detach() / scales
    floor = torch.where((steps - steps.round()).abs() < NEAR, steps.round(), steps.floor())
    share = (steps - floor).clamp(0, 1)
    free = share > NEAR
    variable = _inverse(share.clamp(0.01, 0.99)).requires_grad_()
    optimizer = torch.optim.Adam([variable], RATE)
    size = max(float(wanted.square().mean()), 1e-12)  # the same weight of the regularizer for layers of any size
    for step in range(STEPS):
        some = torch.randint(len(x), (min(BATCH, len(x)),), generator=generator)
        up = torch.where(free, _stretched(variable), share)
        answer = layer.activated(layer(x[some], (floor + up) * scales, layer.bias))
        loss = (answer - wanted[some]).square().mean() / size * len(scales) + _regularizer(up[free], step)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    best = torch.where(free, (_stretched(variable) >= 0.5).float(), share.round())
    return torch.clamp(floor + best, -grid.weights, grid.weights).detach() * scales


def _stretched(variable: Tensor) -> Tensor:
    return torch.clamp(torch.sigmoid(variable) * STRETCH - (STRETCH - 1) / 2, 0, 1)


def _inverse(share: Tensor) -> Tensor:
    return torch.logit((share + (STRETCH - 1) / 2) / STRETCH)


def _regularizer(up: Tensor, step: int) -> Tensor:
    """Return what draws each choice to 0 or 1, in the end."""
    done = step / STEPS
    if done < FREE or not up.numel():
        return up.sum() * 0
    first, last = EXPONENT
    exponent = last + (first - last) * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * (done - FREE) / (1 - FREE))))
    return LAMBDA * (1 - (2 * up - 1).abs().pow(exponent)).sum()
