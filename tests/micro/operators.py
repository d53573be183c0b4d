"""Random operators in integers, by strategies of hypothesis: shapes, strides, paddings, scales and zero points."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from tflite_files import Net, Op, Tensor

Draw = Callable[[st.SearchStrategy[Any]], Any]

sizes = st.integers(1, 9)
zeros = st.integers(-128, 127)
activations = st.sampled_from([0, 1, 2, 3])


def scales(low: float, high: float) -> st.SearchStrategy[float]:
    """Powers of two between exponents, and what lies between them."""
    return st.floats(low, high).map(lambda exponent: float(np.float32(2.0**exponent)))


def numbers(draw: Draw, shape: tuple[int, ...], low: int, high: int, dtype: str) -> NDArray[Any]:
    """An array of seeded random numbers: hypothesis chooses the seed, so that it shrinks shapes and not numbers."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return generator.integers(low, high, shape).astype(dtype)


def _activation(draw: Draw, shape: tuple[int, ...], low: float = -6, high: float = -1) -> Tensor:
    return Tensor(shape, scale=draw(scales(low, high)), zero=draw(zeros))


def _weights(draw: Draw, shape: tuple[int, ...], axis: int) -> Tensor:
    channels = shape[axis]
    by_channel = draw(st.booleans())
    # a dead channel has a scale of next to nothing
    factor = st.one_of(scales(-10, -3), st.just(1e-9))
    scale: Any = [draw(factor) for _ in range(channels)] if by_channel else draw(scales(-10, -3))
    return Tensor(shape, scale=scale, data=numbers(draw, shape, -127, 128, "int8"), axis=axis)


def _bias(draw: Draw, channels: int, entry: Tensor, weights: Tensor) -> Tensor:
    products = np.atleast_1d(np.asarray(entry.scale, np.float32) * np.asarray(weights.scale, np.float32))
    return Tensor((channels,), "int32", products.tolist(), data=numbers(draw, (channels,), -5000, 5000, "int32"))


def _reached(draw: Draw, size: int, stride: int, extent: int, valid: bool) -> int:
    return -(-(size - extent + 1) // stride) if valid else -(-size // stride)


def convolution(depthwise: bool) -> st.SearchStrategy[Net]:
    """CONV_2D or DEPTHWISE_CONV_2D."""

    @st.composite
    def made(draw: Draw) -> Net:
        shape = draw(st.tuples(sizes, sizes)), draw(sizes)
        (height, width), depth = shape
        kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
        strides = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
        dilations = draw(st.tuples(st.integers(1, 2), st.integers(1, 2))) if strides == (1, 1) else (1, 1)
        extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        valid = draw(st.booleans()) and extents[0] <= height and extents[1] <= width
        out = [_reached(draw, n, s, e, valid) for n, s, e in zip((height, width), strides, extents, strict=True)]
        multiplier = draw(st.sampled_from([1, 1, 1, 2, 3]))
        channels = depth * multiplier if depthwise else draw(sizes)
        entry = _activation(draw, (1, height, width, depth))
        weights = _weights(draw, (1, *kernel, channels) if depthwise else (channels, *kernel, depth), 3 * depthwise)
        options = {
            "padding": int(valid), "strideH": strides[0], "strideW": strides[1], "dilationHFactor": dilations[0],
            "dilationWFactor": dilations[1], "fusedActivationFunction": draw(activations),
        }  # fmt: skip
        if depthwise:
            options["depthMultiplier"] = multiplier
        kind, table = ("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions") if depthwise else ("CONV_2D", "Conv2DOptions")
        tensors = [entry, weights, _bias(draw, channels, entry, weights),
                   _activation(draw, (1, *out, channels), -5, 1)]  # fmt: skip
        return Net(tensors, [Op(kind, [0, 1, 2], [3], table, options, 3)])

    return made()


@st.composite
def padded_convolution(draw: Draw) -> Net:
    """PAD and CONV_2D or DEPTHWISE_CONV_2D: what PyTorch's padding becomes."""
    height, width, depth = draw(st.integers(2, 8)), draw(st.integers(2, 8)), draw(sizes)
    amounts = draw(st.lists(st.integers(0, 2), min_size=4, max_size=4))
    rows, columns = height + amounts[0] + amounts[1], width + amounts[2] + amounts[3]
    depthwise, stride = draw(st.booleans()), draw(st.integers(1, 2))
    entry = _activation(draw, (1, height, width, depth))
    middle = Tensor((1, rows, columns, depth), scale=entry.scale, zero=entry.zero)
    kernel = min(rows, 3), min(columns, 3)
    out = [-(-(n - k + 1) // stride) for n, k in zip((rows, columns), kernel, strict=True)]
    channels = depth if depthwise else draw(sizes)
    weights = _weights(draw, (1, *kernel, channels) if depthwise else (channels, *kernel, depth), 3 * depthwise)
    options = {"padding": 1, "strideH": stride, "strideW": stride, "dilationHFactor": 1, "dilationWFactor": 1}
    if depthwise:
        options["depthMultiplier"] = 1
    kind, table = ("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions") if depthwise else ("CONV_2D", "Conv2DOptions")
    pads = np.array([[0, 0], amounts[:2], amounts[2:], [0, 0]], np.int32)
    tensors = [entry, Tensor((4, 2), "int32", data=pads), middle, weights, _bias(draw, channels, entry, weights),
               _activation(draw, (1, *out, channels), -5, 1)]  # fmt: skip
    return Net(tensors, [Op("PAD", [0, 1], [2], "PadOptions"), Op(kind, [2, 3, 4], [5], table, options, 3)])


@st.composite
def fully_connected(draw: Draw) -> Net:
    """FULLY_CONNECTED."""
    channels, inputs = draw(st.integers(1, 17)), draw(st.integers(1, 33))
    entry = _activation(draw, (1, inputs))
    weights = _weights(draw, (channels, inputs), 0)
    tensors = [entry, weights, _bias(draw, channels, entry, weights), _activation(draw, (1, channels), -5, 1)]
    options = {"fusedActivationFunction": draw(activations)}
    return Net(tensors, [Op("FULLY_CONNECTED", [0, 1, 2], [3], "FullyConnectedOptions", options, 4)])


def pair(kind: str, table: str, own_scales: bool) -> st.SearchStrategy[Net]:
    """An operator of two inputs, the second of which is constant and may be smaller."""

    @st.composite
    def made(draw: Draw) -> Net:
        full = (1, draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(sizes))
        small = draw(st.sampled_from([full, (1, 1, 1, full[3]), (1, 1, 1, 1), (1, full[1], 1, full[3]), (full[3],)]))
        first = _activation(draw, full)
        other = _activation(draw, small) if own_scales else Tensor(small, scale=first.scale, zero=first.zero)
        constant = Tensor(small, "int8", other.scale, other.zero, numbers(draw, small, -128, 128, "int8"))
        result = _activation(draw, full, -6, 2) if own_scales else Tensor(full, scale=first.scale, zero=first.zero)
        options = {"fusedActivationFunction": draw(activations)} if own_scales else {}
        order = draw(st.sampled_from([[0, 1], [1, 0]]))
        return Net([first, constant, result], [Op(kind, order, [2], table, options, 2)])

    return made()


def pool(kind: str) -> st.SearchStrategy[Net]:
    """AVERAGE_POOL_2D or MAX_POOL_2D."""

    @st.composite
    def made(draw: Draw) -> Net:
        height, width, depth = draw(sizes), draw(sizes), draw(sizes)
        kernel = draw(st.integers(1, height)), draw(st.integers(1, width))
        strides = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
        valid = draw(st.booleans())
        out = [_reached(draw, n, s, k, valid) for n, s, k in zip((height, width), strides, kernel, strict=True)]
        entry = _activation(draw, (1, height, width, depth))
        options = {
            "padding": int(valid), "strideH": strides[0], "strideW": strides[1], "filterHeight": kernel[0],
            "filterWidth": kernel[1], "fusedActivationFunction": draw(activations),
        }  # fmt: skip
        result = Tensor((1, *out, depth), scale=entry.scale, zero=entry.zero)
        return Net([entry, result], [Op(kind, [0], [1], "Pool2DOptions", options, 2)])

    return made()


def reduction(kind: str) -> st.SearchStrategy[Net]:
    """MEAN or SUM."""

    @st.composite
    def made(draw: Draw) -> Net:
        full = (1, draw(st.integers(1, 12)), draw(st.integers(1, 12)), draw(sizes))
        axes = draw(st.sampled_from([[1, 2], [2, 1], [1], [2], [3], [2, 3], [1, 2, 3], [-1]]))
        places = {axis % 4 for axis in axes}
        keep = draw(st.booleans())
        out = tuple(1 if i in places else n for i, n in enumerate(full) if keep or i not in places)
        tensors = [_activation(draw, full), Tensor((len(axes),), "int32", data=np.array(axes, np.int32)),
                   _activation(draw, out, -6, 2)]  # fmt: skip
        return Net(tensors, [Op(kind, [0, 1], [2], "ReducerOptions", {"keepDims": keep}, 2)])

    return made()


def function(kind: str, result: str = "any") -> st.SearchStrategy[Net]:
    """A function of one byte, at all bytes; its result has any scale, that of the input, or that of a probability."""

    @st.composite
    def made(draw: Draw) -> Net:
        entry = _activation(draw, (1, 16, 16, 1), -8, 1)
        # TFLite's hard swish takes no result whose scale is less than a 128th of the input's
        factor = draw(scales(-6, 6))
        scale = float(np.asarray(entry.scale, np.float32) * np.float32(factor))
        any_scale = Tensor(entry.shape, scale=scale, zero=draw(zeros))
        ends = {"any": any_scale, "same": entry, "probability": Tensor(entry.shape, scale=1 / 256, zero=-128)}
        table = {"HARD_SWISH": "HardSwishOptions"}.get(kind, "")
        return Net([entry, ends[result]], [Op(kind, [0], [1], table)])

    return made()


@st.composite
def softmax(draw: Draw) -> Net:
    """SOFTMAX."""
    shape = (1, draw(st.integers(1, 20)))
    options = {"beta": draw(st.sampled_from([1.0, 0.5, 2.0]))}
    result = Tensor(shape, scale=1 / 256, zero=-128)
    return Net([_activation(draw, shape, -8, 2), result], [Op("SOFTMAX", [0], [1], "SoftmaxOptions", options, 2)])


@st.composite
def quantize(draw: Draw) -> Net:
    """QUANTIZE, from and to what it may."""
    kinds = draw(st.sampled_from([("float32", "int8"), ("int8", "int8"), ("uint8", "int8"), ("int8", "uint8")]))
    ends = [Tensor((1, 300), kind, draw(scales(-6, -1)), draw(st.integers(0, 255) if kind == "uint8" else zeros))
            for kind in kinds]  # fmt: skip
    return Net(ends, [Op("QUANTIZE", [0], [1])])


@st.composite
def dequantize(draw: Draw) -> Net:
    """DEQUANTIZE."""
    return Net([_activation(draw, (1, 300)), Tensor((1, 300), "float32")], [Op("DEQUANTIZE", [0], [1], version=2)])


@st.composite
def pad(draw: Draw) -> Net:
    """PAD, in all dimensions but the first."""
    shape = (1, *draw(st.tuples(*[st.integers(1, 5)] * 3)))
    amounts = np.array([[0, 0], *draw(st.lists(st.tuples(*[st.integers(0, 2)] * 2), min_size=3, max_size=3))], np.int32)
    entry = _activation(draw, shape)
    out = tuple(int(n + a + b) for n, (a, b) in zip(shape, amounts, strict=True))
    tensors = [entry, Tensor((4, 2), "int32", data=amounts), Tensor(out, scale=entry.scale, zero=entry.zero)]
    return Net(tensors, [Op("PAD", [0, 1], [2], "PadOptions", {}, 2)])


@st.composite
def concatenation(draw: Draw) -> Net:
    """CONCATENATION of an input and a constant."""
    axis = draw(st.integers(1, 3))
    shape = [1, *draw(st.tuples(*[st.integers(1, 4)] * 3))]
    second = [*shape[:axis], draw(st.integers(1, 5)), *shape[axis + 1 :]]
    out = [*shape[:axis], shape[axis] + second[axis], *shape[axis + 1 :]]
    entry = _activation(draw, tuple(shape))
    data = numbers(draw, tuple(second), -128, 128, "int8")
    tensors = [entry, Tensor(tuple(second), "int8", entry.scale, entry.zero, data),
               Tensor(tuple(out), scale=entry.scale, zero=entry.zero)]  # fmt: skip
    options = {"axis": axis - draw(st.sampled_from([0, 4]))}
    return Net(tensors, [Op("CONCATENATION", [0, 1], [2], "ConcatenationOptions", options, 2)])


@st.composite
def resize_nearest(draw: Draw) -> Net:
    """RESIZE_NEAREST_NEIGHBOR."""
    shape = (1, *draw(st.tuples(*[st.integers(1, 6)] * 2)), draw(st.integers(1, 3)))
    size = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    aligned, centred = draw(st.sampled_from([(False, False), (True, False), (False, True)]))
    entry = _activation(draw, shape)
    tensors = [entry, Tensor((2,), "int32", data=np.array(size, np.int32)),
               Tensor((1, *size, shape[3]), scale=entry.scale, zero=entry.zero)]  # fmt: skip
    options = {"alignCorners": aligned, "halfPixelCenters": centred}
    return Net(tensors, [Op("RESIZE_NEAREST_NEIGHBOR", [0, 1], [2], "ResizeNearestNeighborOptions", options, 3)])


@st.composite
def renaming(draw: Draw) -> Net:
    """RESHAPE between two operators that compute."""
    shape = (1, *draw(st.tuples(*[st.integers(1, 4)] * 3)))
    flat = (1, int(np.prod(shape)))
    entry = _activation(draw, shape)
    after = Tensor(shape, scale=draw(scales(-6, 1)), zero=draw(zeros))
    tensors = [entry, after, Tensor((2,), "int32", data=np.array(flat, np.int32)),
               Tensor(flat, scale=after.scale, zero=after.zero), Tensor(flat, scale=draw(scales(-6, 1)))]  # fmt: skip
    ops = [Op("RELU", [0], [1]), Op("RESHAPE", [1, 2], [3], "ReshapeOptions", {"newShape": list(flat)}),
           Op("RELU", [3], [4])]  # fmt: skip
    return Net(tensors, ops)


@st.composite
def transpose(draw: Draw) -> Net:
    """TRANSPOSE."""
    shape = (1, *draw(st.tuples(*[st.integers(1, 5)] * 3)))
    order = [0, *draw(st.permutations([1, 2, 3]))]
    entry = _activation(draw, shape)
    result = Tensor(tuple(shape[axis] for axis in order), scale=entry.scale, zero=entry.zero)
    tensors = [entry, Tensor((4,), "int32", data=np.array(order, np.int32)), result]
    return Net(tensors, [Op("TRANSPOSE", [0, 1], [2], "TransposeOptions", {}, 2)])


OPERATORS: dict[str, st.SearchStrategy[Net]] = {
    "ADD": pair("ADD", "AddOptions", own_scales=True), "AVERAGE_POOL_2D": pool("AVERAGE_POOL_2D"),
    "CONCATENATION": concatenation(), "CONV_2D": convolution(depthwise=False),
    "DEPTHWISE_CONV_2D": convolution(depthwise=True), "DEQUANTIZE": dequantize(), "FULLY_CONNECTED": fully_connected(),
    "HARD_SWISH": function("HARD_SWISH"), "LOGISTIC": function("LOGISTIC", "probability"),
    "MAXIMUM": pair("MAXIMUM", "MaximumMinimumOptions", own_scales=False), "MAX_POOL_2D": pool("MAX_POOL_2D"),
    "MEAN": reduction("MEAN"), "MINIMUM": pair("MINIMUM", "MaximumMinimumOptions", own_scales=False),
    "MUL": pair("MUL", "MulOptions", own_scales=True), "PAD": pad(), "PAD and convolution": padded_convolution(),
    "QUANTIZE": quantize(), "RELU": function("RELU"), "RELU6": function("RELU6", "same"), "RESHAPE": renaming(),
    "RESIZE_NEAREST_NEIGHBOR": resize_nearest(), "SOFTMAX": softmax(), "SUM": reduction("SUM"),
    "TRANSPOSE": transpose(),
}  # fmt: skip
