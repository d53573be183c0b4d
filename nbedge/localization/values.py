"""Every intermediate value of a model, in the order in which it is computed."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from nbedge.errors import InputError
from nbedge.graph import Graph, Operator, cut, load_onnx, read
from nbedge.runtime import (
    answers,
    batches,
    channels_first,
    import_litert,
    import_onnxruntime,
    of_module,
    open_file,
    quiet,
)
from nbedge.subject import Subject

Array = NDArray[np.float32]
#: operators whose result is what they got, in another type or shape
PASSING = ("QUANTIZE", "DEQUANTIZE", "QuantizeLinear", "DequantizeLinear", "Constant")


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """What one operator or module computed.

    Attributes:
        name: of the tensor, or path of the module.
        label: path of the torch module where it is known, else the name.
        kind: of the operator or module.
        inputs: names of the values that it was computed from, as far as they are known.
        real: (n, ...) real values; pictures as (n, c, h, w).
    """

    name: str
    label: str
    kind: str
    inputs: tuple[str, ...]
    real: Array


def values_of(subject: Subject, x: Array) -> list[Value]:
    """Return the values of a model for the inputs x (n, c, h, w).

    Raises:
        InputError: the model is neither a module nor an ONNX or TFLite file.
    """
    found = of_modules(subject.model, x) if isinstance(subject.model, nn.Module) else _of_file(subject, x)
    return [value for value in found if len(value.real) == len(x)]  # others are not of one input each


def _of_file(subject: Subject, x: Array) -> list[Value]:
    readers: dict[str, Callable[[Path, Array], list[Value]]] = {".onnx": of_onnx, ".tflite": of_tflite}
    if subject.path is None or subject.path.suffix not in readers:
        raise InputError(f"the values inside {subject.name} cannot be read; only those of modules, .onnx and .tflite")
    return readers[subject.path.suffix](subject.path, x)


def of_modules(model: nn.Module, x: Array) -> list[Value]:
    """Return what each module computes; one that only passes on what a part of it has computed is left out.

    What a module computes by itself, such as the sum of a residual block, is its own answer.
    """
    runner = of_module(model, x.shape[1:])
    found: list[Value] = []
    calls: Counter[str] = Counter()

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, _args: Any, output: Any) -> None:
            if not isinstance(output, Tensor) or output.ndim < 2:
                return
            real = output.detach().float().cpu().numpy().copy()  # an activation may work in place
            if not found or not np.array_equal(real, found[-1].real):
                calls[name] += 1
                again = f"#{calls[name]}" if calls[name] > 1 else ""
                found.append(Value(name + again, name, type(module).__name__, (), real))

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in model.named_modules() if name]
    try:
        answers(runner, x, batch=len(x))
    finally:
        for handle in handles:
            handle.remove()
    return found


def of_onnx(path: Path, x: Array) -> list[Value]:
    """Return what each operator of an ONNX file computes, in ONNX Runtime without its optimizer.

    Where it is quantized at once, that is the value after rounding: quantizers leave an activation to its saturation.
    """
    onnxruntime, graph, model = import_onnxruntime(), read(path), load_onnx(path)
    made = {
        graph.rounded(o.outputs[0]): o for o in graph.operators if o.kind not in PASSING and _is_activation(graph, o)
    }
    known = {value.name for value in model.graph.output}
    model.graph.output.extend(_float_output(name) for name in made if name not in known)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    entry = open_file(path).inputs[0]
    runs = [(session.run(list(made), {entry.name: fed}), number) for fed, number in batches(x, entry)]
    # as of modules: what has no dimension beside the inputs', such as a shape or one number, is no value of an input
    kept = [(index, name) for index, name in enumerate(made) if runs[0][0][index].ndim >= 2]
    return [
        _value(graph, made[name], name, np.concatenate([run[index][:n] for run, n in runs])) for index, name in kept
    ]


def _is_activation(graph: Graph, operator: Operator) -> bool:
    """Return whether an operator's result depends on the input: it reads something that is no constant."""
    tensor = graph.tensors.get(operator.outputs[0])
    computed = any(graph.tensors[i].data is None for i in operator.inputs if i in graph.tensors)
    return computed and tensor is not None and tensor.is_float


def _float_output(name: str) -> Any:
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def of_tflite(path: Path, x: Array) -> list[Value]:
    """Return what each operator of a TFLite file computes, in LiteRT's reference kernels."""
    litert, graph = import_litert(), read(path)
    with quiet():
        interpreter = litert.Interpreter(
            str(path), experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF,
            experimental_preserve_all_tensors=True, num_threads=1,
        )  # fmt: skip
        interpreter.allocate_tensors()
    entry, details = open_file(path, "reference").inputs[0], interpreter.get_input_details()[0]
    places = {name: index for index, name in enumerate(graph.tensors)}
    made = [o for o in graph.operators if o.kind not in PASSING]
    kept: dict[str, list[NDArray[Any]]] = {o.outputs[0]: [] for o in made}
    for fed, number in batches(x, entry):
        interpreter.set_tensor(details["index"], fed)
        interpreter.invoke()
        for name, rows in kept.items():
            rows.append(np.atleast_1d(interpreter.get_tensor(places[name]))[:number])
    return [_value(graph, o, o.outputs[0], np.concatenate(kept[o.outputs[0]])) for o in made]


def _value(graph: Graph, operator: Operator, name: str, stored: NDArray[Any]) -> Value:
    tensor = graph.tensors[name]
    real = stored.astype(np.float32)
    if len(tensor.scales) == 1 and not tensor.is_float:
        real = (real - np.float32(tensor.zero_points[0])) * tensor.scales[0]
    layout = "NHWC" if graph.format == "tflite" else "NCHW"
    return Value(name, _label(graph, operator), operator.kind, _sources(graph, operator), channels_first(real, layout))


def _label(graph: Graph, operator: Operator) -> str:
    """Return the path of the torch module, which the exporter leaves in the name of its weight."""
    for name in operator.inputs[1:2]:
        producer = graph.producer(name)
        constant = producer.inputs[0] if producer is not None and producer.kind in PASSING else name
        for suffix in (".weight_quantized", ".weight"):
            if constant.endswith(suffix):
                return constant.removesuffix(suffix)
    return operator.label or operator.outputs[0]


def _sources(graph: Graph, operator: Operator) -> tuple[str, ...]:
    """Return the values behind an operator's inputs, seen through operators that only pass on."""

    def behind(name: str) -> Iterator[str]:
        producer = graph.producer(name)
        if producer is not None and producer.kind in PASSING:
            yield from behind(producer.inputs[0])
        elif producer is not None:
            yield graph.rounded(name)

    return tuple(found for name in operator.inputs if name for found in behind(name))


def by_cutting(path: Path, kernels: str, x: Array, folder: Path) -> list[Value]:
    """Return what each operator of a file computes in `kernels`, which do not show it: by cutting the file there."""
    graph, found = read(path), []
    for number, operator in enumerate(o for o in graph.operators if o.kind not in PASSING):
        part, name = folder / f"{number}{path.suffix}", graph.rounded(operator.outputs[0])
        cut(path, graph.inputs, [name], part)
        real, sources = answers(open_file(part, kernels), x)[name], _sources(graph, operator)
        found.append(Value(name, _label(graph, operator), operator.kind, sources, real))
    return found
