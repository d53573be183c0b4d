"""What a TFLite file computes with: operators, types, and how much of it is integer."""

from collections import Counter

from nbedge.artifact import SCHEMES
from nbedge.graph import Graph, Operator, macs
from nbedge.verification.equivalence import Check, at_least, at_most, reported

#: operators that change nothing but the type
CASTS = ("QUANTIZE", "DEQUANTIZE")
#: scheme's word for input and output -> types; uint8 are pixels of a picture
ENDS = {"int8": {"int8", "uint8"}, "int16": {"int16", "uint8"}, "fp32": {"float32", "uint8"}}


def type_checks(graph: Graph, scheme: str, exempt: int = 0) -> list[Check]:
    """Judge the types of a TFLite file against its scheme, but for so many exempt layers, and list its operators."""
    kinds = Counter(operator.kind for operator in graph.operators)
    dtypes = Counter(tensor.dtype for tensor in graph.tensors.values())
    found = [
        reported("operators", kinds.total(), "operators", listed(kinds)),
        reported("tensors", dtypes.total(), "tensors", listed(dtypes)),
    ]
    if not SCHEMES[scheme][1].startswith("int"):
        return found
    return [*found, *_integer(graph, scheme, exempt), _ends(graph, scheme)]


def listed(counts: Counter[str]) -> str:
    """Return how often each name was counted."""
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))


def _integer(graph: Graph, scheme: str, exempt: int) -> list[Check]:
    work = [operator for operator in graph.operators if operator.kind not in CASTS]
    floats = [operator for operator in work if is_float(graph, operator)]
    allowed = floats if len(floats) <= exempt else []
    inside = {name for operator in allowed for name in (*operator.inputs, *operator.outputs)}
    total, lost = (sum(macs(graph, operator) for operator in some) for some in (work, floats))
    ends = {*graph.inputs, *graph.outputs} if SCHEMES[scheme][2] == "fp32" else set()
    tensors = [name for name, tensor in graph.tensors.items() if tensor.is_float and name not in ends | inside]
    shown = f"; first {floats[0].kind} {floats[0].label}" if floats else ""
    if allowed:
        shares = [
            reported("exempt operators", len(allowed), "operators", f"of {len(work)}{shown}"),
            reported("integer multiply-accumulates", 100 * (1 - lost / max(1, total)), "%", f"of {total}"),
        ]
    else:
        shares = [
            at_least(
                "integer operators", 100 * (1 - len(floats) / max(1, len(work))), 100, "%", f"of {len(work)}{shown}"
            ),
            at_least("integer multiply-accumulates", 100 * (1 - lost / max(1, total)), 100, "%", f"of {total}"),
        ]
    return [
        *shares,
        at_most("float tensors", len(tensors), 0, "tensors",
                f"of {len(graph.tensors)} tensors" + (f"; first {tensors[0]}" if tensors else "")),
    ]  # fmt: skip


def is_float(graph: Graph, operator: Operator) -> bool:
    """Return whether an operator reads or gives floating-point numbers."""
    return any(graph.tensors[name].is_float for name in (*operator.inputs, *operator.outputs) if name in graph.tensors)


def _ends(graph: Graph, scheme: str) -> Check:
    return ends_check({graph.tensors[name].dtype for name in (*graph.inputs, *graph.outputs)}, scheme)


def ends_check(found: set[str], scheme: str) -> Check:
    """Judge the types of input and output against those that a scheme means."""
    strange = found - ENDS[SCHEMES[scheme][2]]
    return at_most("input and output", len(strange), 0, "types", ", ".join(sorted(found)))
