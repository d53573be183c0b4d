"""What an ExecuTorch file computes with: what XNNPACK runs of it, and how much of that is integer."""

from collections import Counter

from nbedge.artifact import SCHEMES
from nbedge.graph import Graph, Operator, macs
from nbedge.verification.equivalence import Check, at_most, reported
from nbedge.verification.lint.types import CASTS, ends_check, is_float, listed

#: what is in the name of an operator of torch that multiplies and accumulates, where XNNPACK has not taken it
COMPUTING = ("conv", "linear", "addmm", "::mm", "bmm", "matmul")


def delegation_checks(graph: Graph, scheme: str) -> list[Check]:
    """Judge the types of an ExecuTorch file against its scheme, and list its operators.

    Of an integer scheme every multiply-accumulate must be an integer one, and XNNPACK's; other operators are listed:
    XNNPACK has no integer kernels for some, and ExecuTorch gives them floats.
    """
    kinds = Counter(operator.kind for operator in graph.operators)
    outside = Counter({kind: number for kind, number in kinds.items() if _outside(kind)})
    found = [
        reported("operators", kinds.total(), "operators", listed(kinds)),
        reported("operators outside XNNPACK", outside.total(), "operators", listed(outside)),
    ]
    return [*found, *_integer(graph), ends_check(_ends(graph), scheme)] if _is_integer(scheme) else found


def _is_integer(scheme: str) -> bool:
    return SCHEMES[scheme][1].startswith("int")


def _outside(kind: str) -> bool:
    return "::" in kind or kind.endswith("Backend")


def _ends(graph: Graph) -> set[str]:
    return {graph.tensors[name].dtype for name in (*graph.inputs, *graph.outputs)}


def _integer(graph: Graph) -> list[Check]:
    computing = [operator for operator in graph.operators if macs(graph, operator) or _computes_outside(operator)]
    floats = [operator for operator in computing if is_float(graph, operator)]
    left = Counter(o.kind for o in graph.operators if o.kind not in CASTS and o not in floats and is_float(graph, o))
    integers = len(computing) - len(floats)
    return [
        at_most("float multiply-accumulates", len(floats), 0, "operators", f"{integers} integer ones"),
        at_most("integer kernels missing", float(integers == 0), 0, "", f"{integers} integer multiply-accumulates"),
        reported("other operators in float", left.total(), "operators", listed(left)),
    ]


def _computes_outside(operator: Operator) -> bool:
    return _outside(operator.kind) and any(word in operator.kind for word in COMPUTING)
