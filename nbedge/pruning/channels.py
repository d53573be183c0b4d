"""Structured pruning: whole channels go, those of the smallest weights first, and what is left is a smaller model."""

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nbedge.errors import InputError, needs
from nbedge.narrowing import narrowed, widths
from nbedge.pruning.targets import refuse_giant, refuse_larger
from nbedge.tracing import WEIGHTED, evaluating, trace
from nbedge.transfer import head_of

#: how the cut is spread over the layers: the same share of each, or wherever the smallest weights are
SPREADS = ("uniform", "global")
#: pieces that the way from the whole width to nothing is cut in; inside a piece the cut stops at a single layer
STEPS = 100
#: channels that kernels of most runtimes take at once; ONNX Runtime was twice as slow with odd numbers (measured)
MULTIPLE = 4


def prune_channels(
    model: nn.Module, example_input: Tensor, macs: int, *, spread: str = "uniform", multiple: int = MULTIPLE
) -> nn.Module:  # fmt: skip
    """Return a copy of `model` with fewer channels, which takes at most `macs` multiply-accumulates for one input.

    Channels that a sum, a depthwise convolution or a concatenation ties together go together: the groups, and their
    importance (a channel's sum of squared weights, averaged over the layers of the group, in units of the group's
    mean), are those of DepGraph (CVPR 2023, arXiv 2301.12900), by its authors' library torch-pruning. After every 1 %
    of the channels importances are measured anew.

    Args:
        model: convolutions, linear layers and BatchNorms may change; trained, since small weights are taken for
            unimportant ones. The layer that gives the answer keeps its outputs.
        example_input: (n, c, h, w), as the model takes it.
        macs: the most that the result may cost; it comes as near to it as `multiple` channels more or less allow.
        spread: "uniform" cuts the same share of every layer, "global" compares the channels of all layers.
        multiple: of which every width that is cut is one; a layer that cannot be cut so stays. 1 takes any width.

    Returns:
        An ordinary module with smaller layers; `nbedge.narrowing.widths(model, result)` says which.

    Raises:
        InputError: the model costs no more than `macs`, cannot get as small, is a giant, or cannot be pruned.
        MissingDependencyError: torch-pruning is not installed.
    """
    if spread not in SPREADS:
        raise InputError(f"spread is {spread!r}; choose from {', '.join(SPREADS)}")
    if multiple < 1:
        raise InputError(f"multiple is {multiple}; give 1 or more")
    refuse_giant(model)
    with needs("prune"):
        import torch_pruning
    cut = copy.deepcopy(model).eval()
    meter = _Meter.of(cut, example_input)
    refuse_larger(meter.macs(), macs, "multiply-accumulates")
    shape = _answer(cut, example_input).shape
    try:
        _cut_(_pruner(torch_pruning, cut, example_input, spread, multiple), meter, macs)
        same = _answer(cut, example_input).shape == shape
    except Exception as error:  # the library raises what it likes on what it cannot trace
        raise InputError(
            f"torch-pruning cannot trace or prune {type(model).__name__} ({type(error).__name__}: {error}); change the "
            "forward to layers and functions of torch on one tensor, or prune weights instead of channels"
        ) from error
    if not same:
        raise InputError(
            f"torch-pruning changes the shape of what {type(model).__name__} answers; prune weights instead of channels"
        )
    _refuse_unreached(meter.macs(), macs, multiple)
    return _rebuilt(model, cut, example_input)


def _refuse_unreached(reached: int, macs: int, multiple: int) -> None:
    if reached > macs:
        cure = f", or allow widths that are no multiples of {multiple}" if multiple > 1 else ""
        raise InputError(
            f"pruning ends at {reached} multiply-accumulates, above {macs}; ask for more or start from a narrower "
            f"model{cure}"
        )


def _answer(model: nn.Module, x: Tensor) -> Tensor:
    with evaluating(model), torch.no_grad():
        found = model(x)
    if not isinstance(found, Tensor):
        raise InputError(
            f"{type(model).__name__} answers with a {type(found).__name__}; only one tensor can be pruned for"
        )
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Meter:
    """Multiply-accumulates for one input, from weights alone: channels that go change the size of no picture.

    Attributes:
        positions: layer -> places at which its kernel is applied to one input.
    """

    positions: Mapping[nn.Module, int]

    @classmethod
    def of(cls, model: nn.Module, example_input: Tensor) -> "_Meter":
        positions: dict[nn.Module, int] = {}
        for call in trace(model, example_input).calls:
            if isinstance(call.module, WEIGHTED):
                places = torch.Size(call.shape).numel() // call.module.weight.shape[0] // len(example_input)
                positions[call.module] = positions.get(call.module, 0) + places
        return cls(positions)

    def macs(self) -> int:
        return sum(n * layer.weight.numel() for layer, n in self.positions.items() if isinstance(layer.weight, Tensor))


def _pruner(library: Any, model: nn.Module, example_input: Tensor, spread: str, multiple: int) -> Any:
    head = model.get_submodule(head_of(model, example_input))
    with warnings.catch_warnings(), torch.enable_grad():  # the library follows gradients to see what reads what
        warnings.simplefilter("ignore")
        return library.pruner.BasePruner(
            model, example_input, library.importance.GroupMagnitudeImportance(), global_pruning=spread == "global",
            pruning_ratio=1.0, iterative_steps=STEPS, ignored_layers=[head], round_to=multiple,
            # its own defaults are dicts that all pruners of a process share
            in_channel_groups={}, out_channel_groups={}, num_heads={},
        )  # fmt: skip


def _cut_(pruner: Any, meter: _Meter, macs: int) -> None:
    """Prune until the model costs at most `macs`, or nothing is left to prune."""
    for _ in range(STEPS):
        for group in pruner.step(interactive=True):
            group.prune()
            if meter.macs() <= macs:
                return


def _rebuilt(model: nn.Module, cut: nn.Module, example_input: Tensor) -> nn.Module:
    """Return the pruned model built as a checkpoint builds it: from the wide one and sizes."""
    result = narrowed(model, widths(model, cut))
    shapes = {name: tuple(value.shape) for name, value in result.state_dict().items()}
    for name, value in cut.state_dict().items():
        if shapes.get(name) != tuple(value.shape):
            raise InputError(
                f"pruning changes {name}, which belongs to no convolution, linear layer or BatchNorm, so that no "
                "checkpoint could hold the result; prune weights instead of channels"
            )
    result.load_state_dict(cut.state_dict())
    noise = torch.randn(example_input.shape, generator=torch.Generator().manual_seed(0)).to(example_input)
    wanted, found = _answer(cut, noise), _answer(result, noise)
    if not bool((wanted - found).abs().max() <= 1e-5 * wanted.abs().max()):
        raise InputError(
            f"{type(model).__name__} with smaller layers answers otherwise than torch-pruning made it: something in it "
            "besides its layers knows their sizes; prune weights instead of channels"
        )
    return result
