"""survey(): every layer of a model, as a site or with the reason why it is none, found by running the model once."""

from collections import Counter
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from nbedge.blocks import refusal
from nbedge.errors import PlanError
from nbedge.layers import Geometry, Layer, dims, is_known, is_norm, uninitialized
from nbedge.plan import Plan, Refusal, Site
from nbedge.tracing import WEIGHTED, Call, Trace, registrations, trace

#: classes and functions -> the activation that an inserted block takes over
ACTIVATION_OF = {
    "relu": "relu", "relu_": "relu", "relu6": "relu6", "hardtanh": "relu6", "hardtanh_": "relu6",
    "hardswish": "hardswish", "hardswishme": "hardswish", "silu": "silu", "silu_": "silu", "swish": "silu",
    "swishme": "silu", "gelu": "gelu", "gelutanh": "gelu",
}  # fmt: skip
#: what may stand between a site and the layer it feeds without mixing channels
_TRANSPARENT = {*ACTIVATION_OF, "identity", "dropout", "zeropad2d", "pad", "blurpool2d"}
#: layers that are looked at; those of the second kind are never known, and so refused by their class
_LAYERS = (*WEIGHTED, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Bilinear)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a site is wanted to be; a layer that cannot become it is refused.

    Attributes:
        block: kind of block, see `nbedge.plan.BLOCKS`; None chooses for each layer: the inverted residual, for a fully
            connected one the basic block.
        ratio: hidden channels per input channel.
        start: see `nbedge.plan.STARTS`.
        shortcut: an identity around the block.
    """

    block: str | None = None
    ratio: float = 6
    start: str = "random"
    shortcut: bool = False

    def site(self, layer: nn.Module, name: str, norm: str | None, activation: str) -> Site:
        """Return the site that `layer` would be."""
        block = self.block or ("basic" if isinstance(layer, nn.Linear) else "inverted_residual")
        ratio = int(self.ratio) if float(self.ratio).is_integer() else self.ratio  # 6.0 of a recipe is 6
        return Site(name, norm, activation, block, ratio, self.start, self.shortcut)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A layer that can be expanded.

    Attributes:
        site: what it would become.
        kind: pointwise, spatial, depthwise, grouped or linear.
        macs: multiply-accumulates of the layer for one input.
        input_shape: (n, c, *size) of what it reads.
        feeds_depthwise: it is the first layer of an inverted residual.
    """

    site: Site
    kind: str
    macs: int
    input_shape: tuple[int, ...]
    feeds_depthwise: bool


@dataclass(frozen=True, slots=True)
class Survey:
    """Every convolution and fully connected layer: `candidates` in the order in which they run, `refused` with reasons.

    `uninitialized` names the lazy layers, which have no shape yet: with one of them no plan can be made.
    """

    candidates: tuple[Candidate, ...]
    refused: tuple[Refusal, ...]
    uninitialized: tuple[str, ...] = ()


def survey(model: nn.Module, example_input: Tensor, wish: Wish | None = None) -> Survey:
    """Look at every layer of `model` in one forward pass on `example_input`; the model is left as it is."""
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, _LAYERS)]
    lazy = uninitialized(model)
    if lazy:  # a forward pass would give them their shapes, and a copy cannot be made
        return Survey((), tuple(Refusal(name, _LAZY) for name, _ in layers), lazy)
    look = _Look.at(model, example_input, wish or Wish())
    candidates, refused = [], []
    for name, layer in layers:
        found = look.judge(layer, name)
        candidates.append(found) if isinstance(found, Candidate) else refused.append(Refusal(name, found))
    return Survey(tuple(sorted(candidates, key=look.order)), tuple(refused))


def confirm(plan: Plan, model: nn.Module, example_input: Tensor) -> None:
    """Run `model` once, and refuse a plan written by hand whose layers and BatchNorms do not belong together.

    Raises:
        PlanError: a layer cannot be expanded, or another module than the plan's norm reads its output.
    """
    look = _Look.at(model, example_input, Wish())
    for site in plan.sites:
        wish = Wish(site.block, site.ratio, site.start, site.shortcut)
        found = replace(look, wish=wish).judge(model.get_submodule(site.layer), site.layer)
        if isinstance(found, str):
            raise PlanError(f"site {site.layer}: {found}; take it out of the plan")
        if site.norm not in (None, found.site.norm):
            reader = found.site.norm or "no BatchNorm alone"
            raise PlanError(
                f"site {site.layer}: its output is not read by {site.norm}, but by {reader}; correct the plan's norm"
            )


_LAZY = "the model holds lazy layers, which have no weights yet; run it once on an input before proposing"


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """One forward pass, and what is asked of it again and again."""

    model: nn.Module
    record: Trace
    names: dict[nn.Module, str]
    owners: Counter[int]
    usual: str
    wish: Wish

    @classmethod
    def at(cls, model: nn.Module, example_input: Tensor, wish: Wish) -> "_Look":
        record = trace(model, example_input)
        names = {module: name for name, module in model.named_modules()}
        owners = Counter(id(p) for module in names for p in module.parameters(recurse=False))
        seen = Counter(ACTIVATION_OF[word] for call in record.calls if (word := word_of(call)) in ACTIVATION_OF)
        return cls(model, record, names, owners, seen.most_common(1)[0][0] if seen else "relu", wish)

    def order(self, candidate: Candidate) -> int:
        """Return when the layer runs."""
        return next(i for i, c in enumerate(self.record.calls) if c.module and c.name == candidate.site.layer)

    def judge(self, layer: nn.Module, name: str) -> Candidate | str:
        """Return the candidate that `layer` is, or why it is none."""
        calls = self.record.of(layer)
        why = _unfit(layer) or self._unfit_place(layer) or self._unfit_use(layer, calls)
        if why:
            return why
        assert isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
        norm_call = self._norm_call(layer, calls[0])
        norm = None if norm_call is None else self.names[norm_call.module]  # type: ignore[index]
        following, activation = self._next_layer(norm_call or calls[0])
        site = self.wish.site(layer, name, norm, activation)
        why = _unfit_input(site, layer, calls[0]) or refusal(layer, site, norm is not None or layer.bias is not None)
        if why:
            return why
        return Candidate(site, _kind(layer), _macs(layer, calls[0]), calls[0].input_shape, _is_depthwise(following))

    def _unfit_place(self, layer: nn.Module) -> str | None:
        number = registrations(self.model, layer)
        if number == 0:
            return "it is the whole model; wrap it in nn.Sequential"
        return f"it is registered under {number} names" if number > 1 else None

    def _unfit_use(self, layer: nn.Module, calls: list[Call]) -> str | None:
        own = dict(layer.named_parameters(recurse=False))
        reader = next((self.record.readers[id(p)] for p in own.values() if id(p) in self.record.readers), None)
        if not calls:
            read = f"; a function ({reader}) reads its weights" if reader else ""
            return f"the forward pass does not call it{read}"
        if len(calls) > 1:
            return f"it is shared: the forward pass calls it {len(calls)} times"
        if reader:
            return f"a function ({reader}) reads its weights too"
        tied = [name for name, p in own.items() if self.owners[id(p)] > 1]
        return f"its {tied[0]} is shared with another module" if tied else None

    def _norm_call(self, layer: Layer, call: Call) -> Call | None:
        """Return the BatchNorm with running statistics that alone reads the output of `call`, and is used once."""
        step = self._only_consumer(call)
        norm = step.module if step else None
        if step is None or norm is None or not is_norm(norm) or norm.running_mean is None:
            return None
        by_channel = len(call.shape) == dims(layer) + 2  # else dimension 1 holds no channels
        return step if by_channel and len(self.record.of(norm)) == 1 else None

    def _only_consumer(self, call: Call) -> Call | None:
        readers = self.record.consumers(call.outputs[0])
        return readers[0] if len(readers) == 1 and call.outputs[0] not in self.record.returned else None

    def _next_layer(self, call: Call) -> tuple[nn.Module | None, str]:
        """Follow the only consumers over activations to the next layer; return it and the activation passed."""
        activation = _inner_activation(call.module) or self.usual
        step = self._only_consumer(call)
        while step is not None and word_of(step) in _TRANSPARENT:
            activation = ACTIVATION_OF.get(word_of(step), activation)
            step = self._only_consumer(step)
        return (step.module if step else None), activation


def word_of(call: Call) -> str:
    """Return what a call is looked up by: the class of its module in small letters, or the function's name."""
    return type(call.module).__name__.lower() if call.module is not None else call.name


def _inner_activation(norm: nn.Module | None) -> str | None:
    """Return the activation inside a BatchNorm that has one."""
    inside = dict(norm.named_children()).get("act") if norm is not None and is_norm(norm) else None
    return ACTIVATION_OF.get(type(inside).__name__.lower())


def _unfit(layer: nn.Module) -> str | None:
    """Return what a layer itself has against being expanded."""
    if "weight" not in layer._parameters:
        return "its weight is computed by a parametrization, such as weight norm"
    if not is_known(layer):
        return f"it is a {type(layer).__name__}, whose forward may do anything"
    weight = layer.get_parameter("weight")
    if type(weight.data) is not Tensor or not weight.is_floating_point():
        return f"its weight is a {type(weight.data).__name__} of {weight.dtype}: quantized, or of a kind of its own"
    if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks:
        return "it carries hooks, which would be lost"
    return None


def _unfit_input(site: Site, layer: Layer, call: Call) -> str | None:
    rank = len(call.input_shape)
    if isinstance(layer, nn.Linear) and rank != 2 and site.block != "linear":
        return f"its input has {rank} dimensions, and a BatchNorm in between needs 2; the block 'linear' has none"
    if not isinstance(layer, nn.Linear) and rank != dims(layer) + 2:
        return "it is called on inputs without a batch dimension"
    return None


def _kind(layer: Layer) -> str:
    if isinstance(layer, nn.Linear):
        return "linear"
    if _is_depthwise(layer):
        return "depthwise"
    if layer.groups > 1:
        return "grouped"
    return "pointwise" if Geometry.of(layer).is_pointwise else "spatial"


def _is_depthwise(layer: nn.Module | None) -> bool:
    return isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) and layer.groups == layer.in_channels > 1


def _macs(layer: Layer, call: Call) -> int:
    return torch.Size(call.shape).numel() * layer.weight[0].numel() // call.shape[0]
