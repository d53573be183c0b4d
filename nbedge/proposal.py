"""propose(): find the sites of a model by running it once, and choose which of them to expand."""

from torch import Tensor, nn

from nbedge.errors import PlanError
from nbedge.plan import Plan, Refusal, Site, fingerprint
from nbedge.tracing import WEIGHTED, Call, Trace, trace

_ACTIVATIONS: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.ReLU6: "relu6"}
#: modules that stand between a site and the layer it feeds without mixing channels
_TRANSPARENT = (nn.ReLU, nn.ReLU6, nn.Identity, nn.Dropout, nn.ZeroPad2d)


def propose(model: nn.Module, example_input: Tensor, *, ratio: int = 6, every: int = 2) -> Plan:
    """Choose the layers to expand: of the 1x1 convolutions that feed a depthwise one, every `every`-th.

    This is the choice of NetBooster (DAC 2023): the first pointwise layer of an inverted residual, spread evenly
    over the network. The sites are found by running the model once, not by names.

    Args:
        model: the tiny model; it is left as it is.
        example_input: (n, c, h, w), as the model takes it.
        ratio: hidden channels of the inserted block per input channel.
        every: 1 takes each site, 2 every second one, beginning with the first.

    Raises:
        PlanError: the model has no site, or `every` is below 1.
    """
    if every < 1:
        raise PlanError(f"every is {every}; give 1 for each site, 2 for every second one")
    sites, refused = survey(model, example_input, ratio)
    if not sites:
        raise PlanError(
            "the model has no layer that can be expanded: no 1x1 convolution with a BatchNorm of its own feeds a "
            "depthwise convolution; nbedge inspect lists each layer with the reason"
        )
    passed = tuple(Refusal(site.layer, f"a site, passed over by every={every}") for site in _others(sites, every))
    return Plan(fingerprint(model), sites[::every], refused + passed)


def _others(sites: tuple[Site, ...], every: int) -> list[Site]:
    return [site for index, site in enumerate(sites) if index % every]


def survey(model: nn.Module, example_input: Tensor, ratio: int = 6) -> tuple[tuple[Site, ...], tuple[Refusal, ...]]:
    """Return every site of `model` in the order it runs them, and every other weighted layer with its reason."""
    record = trace(model, example_input)
    names = {module: name for name, module in model.named_modules()}
    sites: list[Site] = []
    refused: list[Refusal] = []
    for layer, name in names.items():
        if isinstance(layer, WEIGHTED):
            found = _judge(layer, name, names, record, ratio)
            sites.append(found) if isinstance(found, Site) else refused.append(Refusal(name, found))
    order = {call.module: index for index, call in reversed(list(enumerate(record.calls)))}
    return tuple(sorted(sites, key=lambda s: order[model.get_submodule(s.layer)])), tuple(refused)


def _judge(layer: nn.Module, name: str, names: dict[nn.Module, str], record: Trace, ratio: int) -> Site | str:
    """Return the site that `layer` is, or why it is none."""
    calls = record.of(layer)
    unfit = _unfit(layer, calls)
    if unfit:
        return unfit
    norm_call = _only_consumer(calls[0], record)
    norm = norm_call.module if norm_call else None
    if norm_call is None or type(norm) is not nn.BatchNorm2d:
        return "its output does not go to one BatchNorm2d alone"
    if not norm.track_running_stats:
        return f"the BatchNorm {names[norm]} keeps no running statistics"
    if len(record.of(norm)) > 1:
        return f"the BatchNorm {names[norm]} is used more than once"
    following, activation = _next_layer(norm_call, record)
    if not (isinstance(following, nn.Conv2d) and following.groups == following.in_channels > 1):
        return "it feeds no depthwise convolution"
    return Site(name, names[norm], activation, ratio=ratio)


def _unfit(layer: nn.Module, calls: list[Call]) -> str | None:
    if not calls:
        return "the forward pass does not call it"
    if len(calls) > 1:
        return f"it is shared: the forward pass calls it {len(calls)} times"
    if "weight" not in layer._parameters:
        return "its weight is computed by a parametrization"
    if type(layer) is not nn.Conv2d:
        return f"it is a {type(layer).__name__}; only Conv2d is expanded so far"
    if layer.kernel_size != (1, 1):
        return f"its kernel is {layer.kernel_size[0]}x{layer.kernel_size[1]}; only 1x1 is expanded so far"
    if layer.groups != 1:
        return f"it has {layer.groups} groups; only dense 1x1 convolutions are expanded so far"
    if layer.padding not in ((0, 0), "valid", "same"):
        return "it pads its input, which a 1x1 chain with BatchNorm does not reproduce at the border"
    if layer._forward_hooks or layer._forward_pre_hooks:
        return "it carries forward hooks, which would be lost"
    return None


def _only_consumer(call: Call, record: Trace) -> Call | None:
    readers = record.consumers(call.outputs[0])
    return readers[0] if len(readers) == 1 and call.outputs[0] not in record.returned else None


def _next_layer(call: Call, record: Trace) -> tuple[nn.Module | None, str]:
    """Follow the only consumers of `call` over activations to the next layer; return it with the activation passed."""
    activation = "relu6"
    step = _only_consumer(call, record)
    while step is not None and isinstance(step.module, _TRANSPARENT):
        activation = _ACTIVATIONS.get(type(step.module), activation)
        step = _only_consumer(step, record)
    return (step.module if step else None), activation
