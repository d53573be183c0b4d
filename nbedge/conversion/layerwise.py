"""Layer by layer: how far an integer file is from the float file that it was quantized from."""

from collections.abc import Mapping
from dataclasses import dataclass

from nbedge.conversion.workshop import Exported, Workshop
from nbedge.graph import KINDS, Operator, read
from nbedge.localization import Layer, localize

#: inputs on which layers are compared; all their values are held in memory
INPUTS = 8
#: operators that kernels fuse into the layer before
ACTIVATIONS = ("Clip", "Relu", "RELU", "RELU6")


@dataclass(frozen=True, slots=True)
class LayerLoss:
    """Signal-to-noise ratio of one layer of an integer file, in dB, before the first remedy and after the last."""

    layer: str
    before_db: float
    after_db: float


def layers_before_and_after(
    work: Workshop, before: Exported, treated: Workshop, after: Exported
) -> tuple[LayerLoss, ...]:
    """Return what each layer with weights is worth in two files of one network, each against its own float file.

    Nothing where the values inside of such files cannot be read, or the layers do not stand for each other.
    """
    if before.artifact.path.suffix not in (".onnx", ".tflite"):
        return ()
    names = _modules(work, before)
    old, new = _layers(work, before), _layers(treated, after)
    if len(old) != len(new):
        return ()
    return tuple(
        LayerLoss(names.get(one.candidate, one.label), one.sqnr_db, other.sqnr_db)
        for one, other in zip(old, new, strict=True)
    )


def _modules(work: Workshop, exported: Exported) -> dict[str, str]:
    """Return value of a file -> path of the module that it stands for."""
    _, file = work.pair(exported)
    found = localize(work.subject(), file, work.asked.held[:INPUTS])
    return {layer.candidate: layer.reference for layer in found.layers}


def worst_layers(work: Workshop, exported: Exported, number: int) -> tuple[str, ...]:
    """Return the names of what the operators of the float file compute that lose most in the integer file.

    Each comes with the operators that it reads from: what is lost on the way between the two is lost by the grid there.
    Those at the ends of the graph stay as they are, for input and output have the scheme's type.
    """
    before, _ = work.pair(exported)
    worst = sorted(_values(work, exported), key=lambda layer: -layer.lost_db)[:number]
    assert before.path is not None
    graph = read(before.path)
    makers = {name: operator for operator in graph.operators for name in operator.outputs}
    exempt: dict[str, None] = {}
    for operator in (makers[layer.reference] for layer in worst if layer.reference in makers):
        own = _with_activation(operator, makers)
        sources = [makers[name] for member in own for name in member.inputs if name in makers]
        for member in (*own, *(part for source in sources for part in _with_activation(source, makers))):
            exempt.setdefault(member.outputs[0])
    ends = {o.outputs[0] for o in graph.operators if {*o.inputs, *o.outputs} & {*graph.inputs, *graph.outputs}}
    return tuple(name for name in exempt if name not in ends)


def _with_activation(operator: Operator, makers: Mapping[str, Operator]) -> list[Operator]:
    """Return an operator; if it is an activation, what it belongs to as well."""
    before = [makers[name] for name in operator.inputs[:1] if operator.kind in ACTIVATIONS and name in makers]
    return [operator, *before]


def _layers(work: Workshop, exported: Exported) -> list[Layer]:
    """Return the layers with weights."""
    return [layer for layer in _values(work, exported) if layer.kind in KINDS]


def _values(work: Workshop, exported: Exported) -> tuple[Layer, ...]:
    """Return every value of a file that the float file has too."""
    return localize(*work.pair(exported), work.asked.held[:INPUTS]).layers
