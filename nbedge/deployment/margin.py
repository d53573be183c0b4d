"""Margin: what TFLite Micro may take of its arena on a microcontroller beyond what it takes here."""

from collections.abc import Callable, Mapping

from nbedge.device.cores import Core
from nbedge.graph import Graph, Operator

#: bytes for another revision of TFLite Micro and for pointers of 4 bytes: on six int8 networks, MLPerf Tiny's among
#: them, a 32-bit build of another revision took from 884 bytes less to 636 bytes more than the interpreter here
#: (measured)
REVISION = 2048
#: cores whose vectors CMSIS-NN uses
HELIUM = ("cortex-m55",)
#: channels that CMSIS-NN's depthwise convolution takes at once there
_BLOCK = 124
#: what every size is a multiple of
ALIGNMENT = 16


def scratch_of(graph: Graph, core: Core) -> tuple[int, ...]:
    """Return the bytes that CMSIS-NN's int8 kernels may borrow in each layer of a file; those here borrow none.

    They follow the library's functions ..._get_buffer_size: copies of the inputs of 2 (with vectors 4) places.
    """
    rules = _VECTORS if core.name in HELIUM else _SCALAR
    return tuple(
        aligned(rules[operator.kind](graph, operator)) if operator.kind in rules and _is_int8(graph, operator) else 0
        for operator in graph.operators
    )


def aligned(size: int) -> int:
    """Return a size, rounded up."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def _is_int8(graph: Graph, operator: Operator) -> bool:
    name = operator.inputs[0] if operator.inputs else ""
    return name in graph.tensors and graph.tensors[name].dtype == "int8"


def _shape(graph: Graph, operator: Operator, place: int) -> tuple[int, ...]:
    return graph.tensors[operator.inputs[place]].shape


def _columns(graph: Graph, operator: Operator) -> int:
    """Return how many numbers of the input one output of a convolution sees."""
    _, height, width, depth = _shape(graph, operator, 1)
    return height * width * depth


_Rules = Mapping[str, Callable[[Graph, Operator], int]]
_SCALAR: _Rules = {
    # two columns of int16
    "CONV_2D": lambda graph, operator: 4 * (-(-_columns(graph, operator) // 4) * 4),
    "DEPTHWISE_CONV_2D": lambda graph, operator: 2 * _columns(graph, operator),
    "AVERAGE_POOL_2D": lambda graph, operator: 4 * _shape(graph, operator, 0)[-1],
}
_VECTORS: _Rules = {
    # four columns of int8
    "CONV_2D": lambda graph, operator: 4 * (-(-_columns(graph, operator) // 16) * 16),
    "DEPTHWISE_CONV_2D": lambda graph, operator: (
        4 * _BLOCK * _columns(graph, operator) // _shape(graph, operator, 1)[3]
    ),
    "FULLY_CONNECTED": lambda graph, operator: 4 * _shape(graph, operator, 1)[0],
}
