"""What a file's weights are stored as."""

from nbedge.graph.records import Graph

#: types of whole weights -> name; biases and shapes are int32 and int64
_KINDS = {"float32": "fp32", "float64": "fp32", "float16": "fp16", "bfloat16": "fp16",
          "int4": "int8", "uint4": "int8", "int8": "int8", "uint8": "int8"}  # fmt: skip


def weights_type(graph: Graph) -> str:
    """Return "int8", "fp16" or "fp32": what most of a file's weights are stored as."""
    numbers = dict.fromkeys(("fp32", "fp16", "int8"), 0)
    for tensor in graph.tensors.values():
        if tensor.data is not None and tensor.dtype in _KINDS:
            numbers[_KINDS[tensor.dtype]] += tensor.size
    return max(numbers, key=numbers.__getitem__)
