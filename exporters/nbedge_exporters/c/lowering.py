"""Lowering: each operator of a TFLite file as a layer, or a reason why it cannot be one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge.errors import ExportError
from nbedge.graph import Graph, Operator, Tensor
from nbedge_exporters.c import arithmetic as fixed
from nbedge_exporters.c.filters import BLOCK, Filters, filters_of
from nbedge_exporters.c.layer import At, Call, Constants, Layer, Program, Scratch, initialiser

#: bytes of an element
BYTES = {"int8": 1, "uint8": 1, "float32": 4}


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """An operator with its tensors.

    Attributes:
        operator: of the file.
        inputs: tensors; None for one that is left out.
        output: what it makes.
        margins: rows above and columns at the left that a PAD before it has added, which it now adds itself.
    """

    operator: Operator
    inputs: tuple[Tensor | None, ...]
    output: Tensor
    margins: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.operator.kind} ({self.output.name})"

    @property
    def options(self) -> Mapping[str, Any]:
        """Of the operator."""
        return self.operator.options

    def entry(self, index: int = 0) -> Tensor:
        """Return an input.

        Raises:
            ExportError: it is left out.
        """
        tensor = self.inputs[index] if index < len(self.inputs) else None
        if tensor is None:
            raise ExportError(f"{self.name} lacks its input {index}; export the file again")
        return tensor

    def constant(self, index: int) -> NDArray[Any]:
        """Return the numbers of an input that is constant.

        Raises:
            ExportError: it is computed.
        """
        data = self.entry(index).data
        if data is None:
            raise ExportError(f"{self.name}: its input {index} is computed; it must be constant")
        return data

    def refuse_unless(self, *, ok: bool, what: str) -> None:
        """Refuse the operator.

        Raises:
            ExportError: not `ok`; `what` says what cannot be computed.
        """
        if not ok:
            raise ExportError(f"{self.name}: {what}; the C exporter computes no such operator")

    def refuse_other_types(self, *tensors: Tensor) -> None:
        """Refuse an operator that does not compute with int8.

        Raises:
            ExportError: a tensor has another type, or no scale.
        """
        for tensor in tensors or (self.entry(), self.output):
            fits = tensor.dtype == "int8" and len(tensor.scales) >= 1
            self.refuse_unless(
                ok=fits, what=f"{tensor.name} is {tensor.dtype}, not quantized int8 as in a file of --quant int8"
            )


def _limits(site: Site) -> tuple[int, int]:
    kind = int(site.options.get("fusedActivationFunction", 0))
    site.refuse_unless(ok=kind in (0, 1, 2, 3), what=f"its fused activation is number {kind} of the schema")
    return fixed.activation_limits(kind, float(site.output.scales[0]), int(site.output.zero_points[0]))


def _clamp(site: Site) -> tuple[Call, ...]:
    """Return the call that keeps a result within the limits of an activation, where saturation does not."""
    low, high = _limits(site)
    if (low, high) == (fixed.LOW, fixed.HIGH):
        return ()
    arguments = (At(site.output.name), str(site.output.size), str(low), str(high))
    return (Call("clamp", arguments),)


def _margins(site: Site, filter_: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int]:
    """Return the rows above and the columns at the left of the input that a window may begin in."""
    if site.margins is not None:
        return site.margins
    if int(site.options["padding"]):
        return 0, 0
    sizes = zip(site.entry().shape[1:3], site.output.shape[1:3], filter_, dilation, _strides(site), strict=True)
    above, left = (max((out - 1) * stride + (k - 1) * d + 1 - size, 0) // 2 for size, out, k, d, stride in sizes)
    return above, left


def _strides(site: Site) -> tuple[int, int]:
    return int(site.options["strideH"]), int(site.options["strideW"])


def _window(site: Site, filters: Filters, filter_: tuple[int, int]) -> list[object]:
    """Return the values of the kernels' `nbedge_conv`."""
    dilation = int(site.options["dilationHFactor"]), int(site.options["dilationWFactor"])
    margins = _margins(site, filter_, dilation)
    zero = int(site.entry().zero_points[0])
    sizes = (*site.entry().shape[1:], *site.output.shape[1:3], *filter_, *_strides(site), *dilation, *margins)
    return [filters.fields(), *sizes, zero, int(_copied(site, filter_, dilation, margins))]


def _copied(site: Site, filter_: tuple[int, int], dilation: tuple[int, int], margins: tuple[int, int]) -> bool:
    """Return whether rows of a filter are dilated or reach outside of the input."""
    ends = (
        (out - 1) * stride + (k - 1) * d - margin
        for out, stride, k, d, margin in zip(
            site.output.shape[1:3], _strides(site), filter_, dilation, margins, strict=True
        )
    )
    reach = any(end >= size for end, size in zip(ends, site.entry().shape[1:3], strict=True))
    return dilation[1] > 1 or any(margins) or reach


def _conv(site: Site) -> Layer:
    weights, data = site.entry(1), site.constant(1)
    site.refuse_other_types(site.entry(), weights, site.output)
    channels, height, width, depth = data.shape
    site.refuse_unless(ok=depth == site.entry().shape[3], what="its channels come in groups")
    by_channel = np.asarray(data, np.int8).reshape(channels, -1)
    filters = filters_of(site.entry(), weights, _bias(site), site.output, by_channel, site.name)
    window = _window(site, filters, (height, width))
    row = -(-width * depth // BLOCK) * BLOCK
    copies = 2 * row if window[-1] else 0
    arguments = ("&{own}", At(site.entry().name), At(site.output.name), Scratch())
    return Layer(
        "CONV_2D", (site.entry().name,), site.output.name, (Call("conv_2d", arguments), *_clamp(site)),
        filters.arrays(2, filters.packed(2, width * depth)), ("nbedge_conv", initialiser(window)),
        scratch=2 * 2 * height * row + copies, macs=site.output.size * by_channel.shape[1],
    )  # fmt: skip


def _depthwise(site: Site) -> Layer:
    weights, data = site.entry(1), site.constant(1)
    site.refuse_other_types(site.entry(), weights, site.output)
    _, height, width, channels = data.shape
    by_channel = np.ascontiguousarray(np.asarray(data, np.int8).reshape(-1, channels).T)
    filters = filters_of(site.entry(), weights, _bias(site), site.output, by_channel, site.name)
    window = _window(site, filters, (height, width))
    arguments = ("&{own}", At(site.entry().name), At(site.output.name), Scratch())
    dilation = int(site.options["dilationHFactor"]), int(site.options["dilationWFactor"])
    rows, pitch = (
        (out - 1) * stride + (k - 1) * d + 1
        for out, stride, k, d in zip(site.output.shape[1:3], _strides(site), (height, width), dilation, strict=True)
    )
    alone = channels == site.entry().shape[3]
    return Layer(
        "DEPTHWISE_CONV_2D", (site.entry().name,), site.output.name,
        (Call("depthwise_conv_2d", arguments), *_clamp(site)),
        filters.arrays(1, filters.weights.ravel()), ("nbedge_conv", initialiser(window)),
        scratch=2 * (height * -(-width // 2) * 2 + rows * pitch + 3), shares=site.entry().name if alone else "",
        macs=site.output.size * by_channel.shape[1],
    )  # fmt: skip


def _bias(site: Site) -> Tensor | None:
    if len(site.inputs) < 3 or site.inputs[2] is None:
        return None
    site.refuse_unless(ok=site.entry(2).dtype == "int32", what=f"its bias is {site.entry(2).dtype}, not int32")
    site.constant(2)
    return site.entry(2)


def _dense(site: Site) -> Layer:
    weights = site.entry(1)
    site.refuse_other_types(site.entry(), weights, site.output)
    by_channel = np.asarray(site.constant(1), np.int8)
    inputs = by_channel.shape[1]
    filters = filters_of(site.entry(), weights, _bias(site), site.output, by_channel, site.name)
    biases, multipliers, shifts = filters.grouped(4)
    alike = filters.alike
    if alike:
        multipliers, shifts = np.repeat(multipliers[:1, :1], 4, 1), np.repeat(shifts[:1, :1], 4, 1)
    fields = [
        "{own}_weights", "{own}_biases", "{own}_multipliers", "{own}_shifts", len(filters.bias), filters.zero,
        int(filters.fast), inputs, site.entry().size // inputs, 0 if alike else 4,
    ]  # fmt: skip
    arguments = ("&{own}", At(site.entry().name), At(site.output.name))
    return Layer(
        "FULLY_CONNECTED", (site.entry().name,), site.output.name, (Call("fully_connected", arguments), *_clamp(site)),
        (Constants("weights", filters.packed(4, inputs)), Constants("biases", biases),
         Constants("multipliers", multipliers), Constants("shifts", shifts)),
        ("nbedge_dense", initialiser(fields)), macs=site.output.size * inputs,
    )  # fmt: skip


def _pool(kernel: str) -> Callable[[Site], Layer]:
    def lower(site: Site) -> Layer:
        site.refuse_other_types()
        filter_ = int(site.options["filterHeight"]), int(site.options["filterWidth"])
        fields = [
            *site.entry().shape[1:], *site.output.shape[1:3], *filter_, *_strides(site),
            *_margins(site, filter_, (1, 1)),
        ]  # fmt: skip
        arguments = ("&{own}", At(site.entry().name), At(site.output.name))
        return Layer(
            site.operator.kind, (site.entry().name,), site.output.name, (Call(kernel, arguments), *_clamp(site)),
            record=("nbedge_pool", initialiser(fields)),
        )  # fmt: skip

    return lower


def _reduce(site: Site) -> Layer:
    """Lower a MEAN or a SUM over dimensions that lie side by side."""
    site.refuse_other_types()
    shape = site.entry().shape
    axes = sorted({int(axis) % len(shape) for axis in site.constant(1).ravel()})
    site.refuse_unless(ok=axes == list(range(axes[0], axes[-1] + 1)), what=f"its dimensions {axes} lie apart")
    outer, reduced, inner = (int(np.prod(part)) for part in np.split(shape, (axes[0], axes[-1] + 1)))
    multiplier, shift = fixed.quantized_multiplier(
        float(np.float64(site.entry().scales[0]) / np.float64(site.output.scales[0]))
    )
    if site.operator.kind == "MEAN":
        multiplier, shift = _divided(multiplier, shift, reduced)
    zero = int(site.entry().zero_points[0]) * reduced
    fields = [outer, reduced, inner, zero, multiplier, shift, int(site.output.zero_points[0])]
    arguments = ("&{own}", At(site.entry().name), At(site.output.name))
    return Layer(
        site.operator.kind, (site.entry().name,), site.output.name, (Call("reduce", arguments),),
        record=("nbedge_reduction", initialiser(fields)),
    )  # fmt: skip


def _divided(multiplier: int, shift: int, count: int) -> tuple[int, int]:
    """Return the multiplier and shift of a mean from those of a sum, as TFLite's reference kernel divides them."""
    more = min(count.bit_length() - 1, 32, 31 + shift)
    return (multiplier << more) // count, shift - more


def _pairs(site: Site) -> list[object]:
    """Return the values of the kernels' `nbedge_pairs`."""
    shape = tuple(site.output.shape)
    operands = [site.entry(i).shape for i in (0, 1)]
    flat = site.output.size if all(operand == shape for operand in operands) else 0
    steps = []
    for operand in operands:
        padded = (1,) * (4 - len(operand)) + tuple(operand)
        strides = [int(np.prod(padded[i + 1 :])) for i in range(4)]
        steps.append(tuple(0 if size == 1 else stride for size, stride in zip(padded, strides, strict=True)))
    return [flat, (1,) * (4 - len(shape)) + shape, tuple(steps)]


def _pair(site: Site, kernel: str, record: tuple[str, list[object]]) -> Layer:
    entries = [site.entry(i) for i in (0, 1)]
    site.refuse_unless(ok=len(site.output.shape) <= 4, what="it has more than four dimensions")
    arguments: tuple[At | str, ...] = ("&{own}", *(At(entry.name) for entry in entries), At(site.output.name))
    computed = [entry.name for entry in entries if entry.data is None]
    whole = [entry.name for entry in entries if entry.data is None and entry.shape == site.output.shape]
    return Layer(
        site.operator.kind, tuple(computed), site.output.name, (Call(kernel, arguments), *_clamp(site)),
        record=(record[0], initialiser(record[1])), shares=whole[0] if whole else "",
    )  # fmt: skip


def _add(site: Site) -> Layer:
    first, second = sorted((site.entry(0), site.entry(1)), key=lambda t: -float(t.scales[0]))
    site = replace(site, inputs=(first, second))
    site.refuse_other_types(first, second, site.output)
    large, small, made = (float(np.float64(t.scales[0])) for t in (first, second, site.output))
    multiplier, shift = fixed.quantized_multiplier(small / (2 * large))
    out_multiplier, out_shift = fixed.quantized_multiplier(2 * large / (2**20 * made))
    site.refuse_unless(ok=-31 < out_shift < 0 and shift > -31, what="its scales lie too far apart")
    zeros = [int(t.zero_points[0]) for t in (first, second, site.output)]
    fields = [_pairs(site), tuple(zeros[:2]), -shift, -1 - out_shift, zeros[2], multiplier, out_multiplier]
    return _pair(site, "add", ("nbedge_sum", fields))


def _mul(site: Site) -> Layer:
    tensors = site.entry(0), site.entry(1), site.output
    site.refuse_other_types(*tensors)
    scales = [float(np.float64(t.scales[0])) for t in tensors]
    multiplier, shift = fixed.quantized_multiplier(scales[0] * scales[1] / scales[2])
    zeros = [int(t.zero_points[0]) for t in tensors]
    fields = [_pairs(site), tuple(zeros[:2]), zeros[2], shift, multiplier]
    return _pair(site, "mul", ("nbedge_product", fields))


def _extreme(kernel: str) -> Callable[[Site], Layer]:
    def lower(site: Site) -> Layer:
        site.refuse_other_types(site.entry(0), site.entry(1), site.output)
        _refuse_other_scales(site, site.entry(0), site.entry(1))
        return _pair(site, kernel, ("nbedge_pairs", _pairs(site)))

    return lower


def _refuse_other_scales(site: Site, *entries: Tensor) -> None:
    """Refuse an operator that would have to change scales: TFLite Micro copies the bytes as they are."""
    for entry in entries:
        same = entry.scales[0] == site.output.scales[0] and entry.zero_points[0] == site.output.zero_points[0]
        site.refuse_unless(ok=bool(same), what=f"{entry.name} has another scale than {site.output.name}")


def _lookup(site: Site, values: fixed.Bytes) -> Layer:
    name = site.entry().name
    arguments = ("{own}_table", At(name), At(site.output.name), str(site.output.size))
    return Layer(
        site.operator.kind, (name,), site.output.name, (Call("lookup", arguments),), (Constants("table", values),),
        shares=name,
    )  # fmt: skip


def _scales_and_zeros(site: Site) -> tuple[tuple[np.float32, np.float32], tuple[int, int]]:
    ends = site.entry(), site.output
    scales, zeros = [t.scales[0] for t in ends], [int(t.zero_points[0]) for t in ends]
    return (scales[0], scales[1]), (zeros[0], zeros[1])


def _relu(site: Site) -> Layer:
    site.refuse_other_types()
    (before, after), zeros = _scales_and_zeros(site)
    return _lookup(site, fixed.rescaled(float(before / after), zeros, low=zeros[1]))


def _relu6(site: Site) -> Layer:
    site.refuse_other_types()
    _refuse_other_scales(site, site.entry())
    low, high = fixed.activation_limits(3, float(site.entry().scales[0]), int(site.entry().zero_points[0]))
    return _lookup(site, fixed.clamped(low, high))


def _hard_swish(site: Site) -> Layer:
    site.refuse_other_types()
    return _lookup(site, fixed.hard_swish(*_scales_and_zeros(site)))


def _logistic(site: Site) -> Layer:
    site.refuse_other_types()
    fits = float(site.output.scales[0]) == 1 / 256 and int(site.output.zero_points[0]) == fixed.LOW
    site.refuse_unless(ok=fits, what="its output has not the scale 1/256 and the zero point -128")
    return _lookup(site, fixed.logistic(float(site.entry().scales[0]), int(site.entry().zero_points[0])))


def _softmax(site: Site) -> Layer:
    site.refuse_other_types()
    fits = float(site.output.scales[0]) == 1 / 256 and int(site.output.zero_points[0]) == fixed.LOW
    site.refuse_unless(ok=fits, what="its output has not the scale 1/256 and the zero point -128")
    known = fixed.exponentials(float(site.options["beta"]), float(site.entry().scales[0]))
    width = site.entry().shape[-1]
    fields = [site.entry().size // width, width, "{own}_exponentials", len(known)]
    arguments = ("&{own}", At(site.entry().name), At(site.output.name))
    return Layer(
        "SOFTMAX", (site.entry().name,), site.output.name, (Call("softmax", arguments),),
        (Constants("exponentials", np.asarray(known, np.int32)),), ("nbedge_softmax_layer", initialiser(fields)),
    )  # fmt: skip


def _quantize(site: Site) -> Layer:
    before, after = site.entry(), site.output
    kinds = before.dtype, after.dtype
    site.refuse_unless(
        ok=kinds[0] in BYTES and kinds[1] in ("int8", "uint8"), what=f"it makes {kinds[1]} of {kinds[0]}"
    )
    if before.dtype == "float32":
        site.refuse_unless(ok=after.dtype == "int8", what=f"it makes {after.dtype} of float32")
        scale, zero = c_float(after.scales[0]), str(int(after.zero_points[0]))
        arguments = (At(before.name), At(after.name), str(after.size), scale, zero)
        return Layer("QUANTIZE", (before.name,), after.name, (Call("quantize", arguments),), shares=before.name)
    (first, second), zeros = _scales_and_zeros(site)
    # a byte without a sign is one with, minus 128: so are the limits and the zero point
    unsigned = 128 if after.dtype == "uint8" else 0
    real = float(np.float64(first) / np.float64(second))
    values = fixed.rescaled(real, (zeros[0], zeros[1] - unsigned), first=0 if before.dtype == "uint8" else fixed.LOW)
    flipped = (values.view(np.uint8) ^ unsigned).view(np.int8) if unsigned else values
    return _lookup(site, flipped)


def _dequantize(site: Site) -> Layer:
    site.refuse_other_types(site.entry())
    site.refuse_unless(ok=site.output.dtype == "float32", what=f"it makes {site.output.dtype}")
    before = site.entry()
    arguments = (
        At(before.name), At(site.output.name), str(site.output.size), c_float(before.scales[0]),
        str(int(before.zero_points[0])),
    )  # fmt: skip
    return Layer("DEQUANTIZE", (before.name,), site.output.name, (Call("dequantize", arguments),))


def c_float(value: np.float32) -> str:
    """Return a number of C that is exactly this one."""
    return f"{float(value):.9g}f" if any(c in f"{float(value):.9g}" for c in ".e") else f"{float(value):.9g}.0f"


def _transpose(site: Site) -> Layer:
    site.refuse_other_types()
    _refuse_other_scales(site, site.entry())
    shape, order = site.entry().shape, [int(axis) for axis in site.constant(1).ravel()]
    strides = [int(np.prod(shape[axis + 1 :])) for axis in order]
    missing = 4 - len(order)
    fields = [(*(1,) * missing, *site.output.shape), (*(0,) * missing, *strides)]
    arguments = ("&{own}", At(site.entry().name), At(site.output.name))
    return Layer(
        "TRANSPOSE", (site.entry().name,), site.output.name, (Call("transpose", arguments),),
        record=("nbedge_transposition", initialiser(fields)),
    )  # fmt: skip


def _pad(site: Site) -> Layer:
    site.refuse_other_types()
    _refuse_other_scales(site, site.entry())
    shape = site.entry().shape
    before = [int(pair[0]) for pair in site.constant(1)]
    value = int(site.output.zero_points[0])
    if len(site.inputs) > 2:
        value = int(site.constant(2).ravel()[0])
    ones, none = (1,) * (4 - len(shape)), (0,) * (4 - len(shape))
    fields = [(*ones, *shape), (*ones, *site.output.shape), (*none, *before), value]
    arguments = ("&{own}", At(site.entry().name), At(site.output.name))
    return Layer(
        site.operator.kind, (site.entry().name,), site.output.name, (Call("pad", arguments),),
        record=("nbedge_padding", initialiser(fields)),
    )  # fmt: skip


def _concatenate(site: Site) -> Layer:
    entries = [site.entry(i) for i in range(len(site.inputs))]
    site.refuse_other_types(*entries, site.output)
    _refuse_other_scales(site, *entries)
    axis = int(site.options["axis"]) % len(site.output.shape)
    outer = int(np.prod(site.output.shape[:axis]))
    step, place, calls = site.output.size // outer, 0, []
    for entry in entries:
        size = entry.size // outer
        to = At(site.output.name, place)
        calls.append(Call("concatenate", (At(entry.name), to, str(outer), str(size), str(step))))
        place += size
    computed = tuple(entry.name for entry in entries if entry.data is None)
    return Layer("CONCATENATION", computed, site.output.name, (*calls, *_clamp(site)))


def _resize(site: Site) -> Layer:
    site.refuse_other_types()
    _refuse_other_scales(site, site.entry())
    (_, height, width, channels), out = site.entry().shape, site.output.shape
    rows, columns = (_nearest(size, made, site.options) for size, made in ((height, out[1]), (width, out[2])))
    arguments = (
        At(site.entry().name), At(site.output.name), "{own}_rows", "{own}_columns", str(out[1]), str(out[2]),
        str(width), str(channels),
    )  # fmt: skip
    return Layer(
        "RESIZE_NEAREST_NEIGHBOR", (site.entry().name,), site.output.name, (Call("resize_nearest", arguments),),
        (Constants("rows", rows), Constants("columns", columns)),
    )  # fmt: skip


def _nearest(size: int, made: int, options: Mapping[str, Any]) -> NDArray[np.int16]:
    """Return where each element comes from, as TFLite's kernel computes it in float32."""
    aligned, centred = bool(options.get("alignCorners")), bool(options.get("halfPixelCenters"))
    scale = np.float32(size - 1) / np.float32(made - 1) if aligned and made > 1 else np.float32(size) / np.float32(made)
    places = (np.arange(made, dtype=np.float32) + np.float32(0.5 if centred else 0)) * scale
    whole: NDArray[np.float32] = np.floor(places + np.float32(0.5)) if aligned else np.floor(places)
    return np.clip(whole, 0, size - 1).astype(np.int16)


LOWERINGS: Mapping[str, Callable[[Site], Layer]] = {
    "ADD": _add, "AVERAGE_POOL_2D": _pool("average_pool_2d"), "CONCATENATION": _concatenate, "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise, "DEQUANTIZE": _dequantize, "FULLY_CONNECTED": _dense, "HARD_SWISH": _hard_swish,
    "LOGISTIC": _logistic, "MAXIMUM": _extreme("maximum"), "MAX_POOL_2D": _pool("max_pool_2d"), "MEAN": _reduce,
    "MINIMUM": _extreme("minimum"), "MUL": _mul, "PAD": _pad, "PADV2": _pad, "QUANTIZE": _quantize, "RELU": _relu,
    "RELU6": _relu6, "RESIZE_NEAREST_NEIGHBOR": _resize, "SOFTMAX": _softmax, "SUM": _reduce,
    "TRANSPOSE": _transpose,
}  # fmt: skip
#: operators that leave the bytes as they are
RENAMING = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")


def lower(graph: Graph) -> Program:
    """Return the program of a TFLite file.

    Raises:
        ExportError: an operator cannot be computed, a size is open, or it has several inputs.
    """
    unknown = sorted({o.kind for o in graph.operators} - LOWERINGS.keys() - set(RENAMING))
    if unknown:
        raise ExportError(
            f"{graph.path.name} has operators that the C exporter does not compute: {', '.join(unknown)}; "
            f"it computes {', '.join(sorted((*LOWERINGS, *RENAMING)))}"
        )
    if len(graph.inputs) != 1:
        raise ExportError(f"{graph.path.name} has {len(graph.inputs)} inputs; the C exporter takes files of one")
    _refuse_open_sizes(graph)
    layers, aliases = [], {}
    for site in _sites(graph):
        if site.operator.kind in RENAMING:
            aliases[site.output.name] = site.entry().name
        else:
            layers.append(LOWERINGS[site.operator.kind](site))
    made = {graph.inputs[0], *aliases, *(layer.writes for layer in layers)}
    read = {a.tensor for layer in layers for call in layer.calls for a in call.arguments if isinstance(a, At)}
    constants = {name: graph.tensors[name].data for name in sorted(read - made)}
    sizes = {name: graph.tensors[name].size * BYTES[graph.tensors[name].dtype] for name in made}
    return Program(
        tuple(layers), sizes, aliases, graph.inputs[0], graph.outputs,
        {name: data for name, data in constants.items() if data is not None},
    )  # fmt: skip


def _refuse_open_sizes(graph: Graph) -> None:
    for name in (*graph.inputs, *(output for o in graph.operators for output in o.outputs)):
        tensor = graph.tensors[name]
        if 0 in tensor.shape or tensor.shape[:1] not in ((), (1,)):
            sizes = "x".join(str(size or "?") for size in tensor.shape)
            raise ExportError(
                f"{graph.path.name}: {name} is {sizes}; on a microcontroller one input of known size is computed at a "
                "time: export the file with a batch of 1 and fixed sizes"
            )
        if tensor.dtype not in BYTES:
            raise ExportError(f"{graph.path.name}: {name} is {tensor.dtype}; the C exporter computes with int8")


def _sites(graph: Graph) -> list[Site]:
    """Return the operators with their tensors; a PAD goes into the convolution behind it, which pads for nothing."""
    sites, merged = [], _merged_pads(graph)
    skipped = {id(pad) for pad in merged.values()}
    for operator in graph.operators:
        if id(operator) in skipped:
            continue
        inputs = tuple(graph.tensors.get(name) for name in operator.inputs)
        site = Site(operator, inputs, graph.tensors[operator.outputs[0]])
        if id(operator) in merged:
            pad = merged[id(operator)]
            above, left = (int(n) for n in np.asarray(graph.tensors[pad.inputs[1]].data)[1:3, 0])
            site = replace(site, inputs=(graph.tensors[pad.inputs[0]], *inputs[1:]), margins=(above, left))
        sites.append(site)
    return sites


def _merged_pads(graph: Graph) -> dict[int, Operator]:
    """Return id of a convolution -> the PAD of its input, where the convolution alone reads it and does not pad."""
    found = {}
    for operator in graph.operators:
        if operator.kind not in ("CONV_2D", "DEPTHWISE_CONV_2D") or not int(operator.options["padding"]):
            continue
        pad = graph.producer(operator.inputs[0])
        alone = sum(operator.inputs[0] in o.inputs for o in graph.operators) == 1
        if pad is not None and pad.kind == "PAD" and alone and operator.inputs[0] not in graph.outputs:
            before, after = (graph.tensors[name] for name in (pad.inputs[0], pad.outputs[0]))
            same = before.dtype == "int8" and before.scales == after.scales and before.zero_points == after.zero_points
            amounts = np.asarray(graph.tensors[pad.inputs[1]].data)
            if same and amounts.shape == (4, 2) and not amounts[[0, 3]].any():
                found[id(operator)] = pad
    return found
