"""Read and cut ONNX files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nbedge import files
from nbedge.artifact import QUANTIZATION
from nbedge.errors import InputError, first_line, needs
from nbedge.graph.records import Graph, Operator, Tensor

#: key of a node's metadata in which torch.onnx writes the paths of the modules it comes from
SCOPES = "pkg.torch.onnx.name_scopes"
#: operators that read integers: input, its scale and zero point, weight, its scale and zero point, ... -> (axis of the
#: weight's output channels, place of the output's scale); QGemm has a bias before it
QOPERATORS = {"QLinearConv": (0, 6), "QLinearMatMul": (-1, 6), "QGemm": (0, 7)}


def read_onnx(path: Path) -> Graph:
    """Read the graph of an ONNX file; scales stand on the tensors that QuantizeLinear or DequantizeLinear touch.

    Raises:
        InputError: it is no ONNX file, or cut short.
    """
    with needs("onnx"):
        from onnx import numpy_helper
    model = load_onnx(path)
    versions = {entry.domain: entry.version for entry in model.opset_import}
    constants = {value.name: numpy_helper.to_array(value) for value in model.graph.initializer}
    operators = []
    for node in model.graph.node:
        options = {a.name: _plain(a) for a in node.attribute}
        if node.op_type == "Constant" and "value" in options:
            constants[node.output[0]] = options["value"]
            continue
        operators.append(
            Operator(
                node.op_type, versions.get(node.domain, 0), tuple(node.input), tuple(node.output), options, _label(node)
            )
        )
    tensors = _tensors(model, constants)
    tensors |= {name: value for name, value in _quantized(operators, tensors, constants).items()}
    inputs = tuple(value.name for value in model.graph.input if value.name not in constants)
    notes = {entry.key: entry.value for entry in model.metadata_props}
    outputs = tuple(value.name for value in model.graph.output)
    return Graph(path, "onnx", tuple(operators), tensors, inputs, outputs, notes)


def load_onnx(path: Path) -> Any:
    """Return the ModelProto of a file, with the shapes that can be inferred.

    Raises:
        InputError: it is no ONNX file, or cut short.
    """
    with needs("onnx"):
        import onnx
    try:
        model = onnx.load(files.existing(path, "the file"))
        onnx.checker.check_model(model)
        return onnx.shape_inference.infer_shapes(model)
    except InputError:
        raise
    except Exception as error:  # protobuf and the checker raise several unrelated classes
        reason = first_line(error)
        raise InputError(f"{path} is no ONNX file, or damaged ({reason}); export it again") from error


def _plain(attribute: Any) -> Any:
    from onnx import helper, numpy_helper

    value = helper.get_attribute_value(attribute)
    if attribute.type == attribute.TENSOR:
        return numpy_helper.to_array(value)
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _label(node: Any) -> str:
    scopes = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "")
    named = [part.strip(" '\"") for part in scopes.strip("[]").split(",")]
    inner = [part for part in named if part]
    # the last entry is the operation itself, the one before it the module that does it
    return inner[-2] if len(inner) > 1 else str(node.name)


def _tensors(model: Any, constants: dict[str, Any]) -> dict[str, Tensor]:
    from onnx import helper

    found = {name: Tensor(name, array.shape, array.dtype.name, data=array) for name, array in constants.items()}
    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        held = value.type.tensor_type
        if value.name in found or not held.elem_type:
            continue
        shape = tuple(size.dim_value for size in held.shape.dim)
        found[value.name] = Tensor(value.name, shape, np.dtype(helper.tensor_dtype_to_np_dtype(held.elem_type)).name)
    return found


def _quantized(operators: list[Operator], tensors: dict[str, Tensor], constants: dict[str, Any]) -> dict[str, Tensor]:
    """Return the integer tensors that are written or read with a scale, with it."""
    found = {}
    for operator in operators:
        for name, scale, zero_point, axis in _scaled(operator):
            if name not in tensors or scale not in constants:
                continue
            scales = np.atleast_1d(constants[scale]).astype(np.float32)
            points = np.atleast_1d(constants.get(zero_point, np.zeros(len(scales))))
            old = tensors[name]
            found[name] = Tensor(name, old.shape, old.dtype, scales, points.astype(np.int64), axis, old.data)
    return found


def _scaled(operator: Operator) -> list[tuple[str, str, str, int]]:
    """Return (tensor, its scale, its zero point, axis of its channels) for all that an operator gives a scale to."""
    inputs = (*operator.inputs, "")
    if operator.kind in ("QuantizeLinear", "DequantizeLinear"):
        name = operator.outputs[0] if operator.kind == "QuantizeLinear" else inputs[0]
        return [(name, inputs[1], inputs[2], int(operator.options.get("axis", 1)))]
    if operator.kind not in QOPERATORS:
        return []
    channels, result = QOPERATORS[operator.kind]
    return [
        (inputs[0], inputs[1], inputs[2], 0), (inputs[3], inputs[4], inputs[5], channels),
        (operator.outputs[0], inputs[result], inputs[result + 1], 0),
    ]  # fmt: skip


def cut_onnx(path: Path, inputs: Sequence[str], outputs: Sequence[str], out: Path) -> None:
    """Write the part of an ONNX file that computes the tensors `outputs` from the tensors `inputs`.

    Raises:
        InputError: the outputs need more than these inputs and constants, or a name is unknown.
    """
    with needs("onnx"):
        import onnx
    model = load_onnx(path)
    try:
        part = onnx.utils.Extractor(model).extract_model(list(inputs), list(outputs))
        onnx.checker.check_model(part)
    except Exception as error:  # the extractor raises whatever its lookups raise
        raise InputError(f"{path} cannot be cut at {', '.join(outputs)} ({error})") from error
    note_scales_(part, read_onnx(path))
    files.write_bytes(out, part.SerializeToString())


def note_scales_(part: Any, whole: Graph) -> None:
    """Write scale and zero point of integer inputs and outputs into the metadata, where they are looked for."""
    for value in (*part.graph.input, *part.graph.output):
        tensor = whole.tensors.get(value.name)
        if tensor is not None and len(tensor.scales) == 1 and not tensor.is_float:
            entry = part.metadata_props.add()
            entry.key = QUANTIZATION + value.name
            entry.value = json.dumps({"scale": float(tensor.scales[0]), "zero_point": int(tensor.zero_points[0])})
