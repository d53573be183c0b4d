"""Resolver: the operators that a file needs of TFLite Micro, as its C++ sources call them."""

from nbedge.errors import ExportError
from nbedge.graph import Graph

#: operators whose method of MicroMutableOpResolver is not spelled like their parts
_SPELLED = {
    "BATCH_MATMUL": "BatchMatMul", "CUMSUM": "CumSum", "PADV2": "PadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTM",
}  # fmt: skip


def refuse_lacking(graph: Graph) -> None:
    """Refuse a file that TFLite Micro cannot run, by its operators and by where its weights lie.

    Raises:
        ExportError: it lacks an operator, or a weight lies outside the flatbuffer.
    """
    # these load torch, which naming the targets does not need
    from nbedge.verification.equivalence import Verdict
    from nbedge.verification.lint import lacking

    failed = [check for check in lacking(graph, "tflm") if check.verdict is Verdict.FAIL]
    if failed:
        told = "; ".join(f"{check.name}: {check.detail}" for check in failed)
        raise ExportError(f"TFLite Micro cannot run {graph.path} ({told}); see nbedge verify --target tflm")
    outside = [tensor.name for tensor in graph.constants() if not tensor.inline]
    if outside:
        raise ExportError(
            f"TFLite Micro cannot run {graph.path}: the weights {outside[0]} lie outside the flatbuffer, and it would "
            f"compute garbage; export the file again"
        )


def operators_of(graph: Graph) -> tuple[str, ...]:
    """Return the names of the operators that a file uses, each once, in the order in which they appear."""
    return tuple(dict.fromkeys(operator.kind for operator in graph.operators))


def method(operator: str) -> str:
    """Return the method of MicroMutableOpResolver that adds an operator.

    >>> method("DEPTHWISE_CONV_2D"), method("SPLIT_V"), method("CUMSUM")
    ('AddDepthwiseConv2D', 'AddSplitV', 'AddCumSum')
    """
    parts = (part if part[0].isdigit() else part.capitalize() for part in operator.split("_"))
    return f"Add{_SPELLED.get(operator) or ''.join(parts)}"
