"""Faults of exported files: what converters, quantizers and people get wrong. Each spoils a copy of a good file."""

import copy
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nbedge import artifact
from nbedge.cli.subject import open_subject
from nbedge.graph import read
from nbedge.runtime import open_file
from nbedge.subject import Subject
from nbedge.verification import REAL, Families, declared, linted, verify_edges
from nbedge.verification.lint import statistics

SAMPLES = Path(__file__).parent.parent.parent / "sample_models"
#: where weights behind the flatbuffer begin
BEHIND = 2**20
#: a change of the model read from a file, in place
Change = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class FileFault:
    """One kind of mistake.

    Attributes:
        name: of the kind.
        check: beginning of the name of the check that must catch it.
        reference: scheme and format of the file that is believed.
        candidate: scheme and format of the file that is spoiled.
        change: of the file's content; None: nothing.
        declare: of what is known of the file.
        samples: whose files can have it.
        layer: (kind, number) of the operator of the spoiled file whose answer is the first bad one; None where there is
            no such operator.
    """

    name: str
    check: str
    reference: str
    candidate: str
    change: Change | None = None
    declare: Callable[[Subject], Subject] = lambda subject: subject
    samples: tuple[str, ...] = ("fashion_mnist", "blood_cells")
    layer: tuple[str, int] | None = None


def exported(sample: str, name: str) -> Path:
    """Return the path of an exported file of a sample; `name` is scheme and format."""
    return SAMPLES / sample / "exports" / f"{sample}.{name}"


def made(fault: FileFault, sample: str, folder: Path) -> tuple[Subject, Subject]:
    """Return the reference and the spoiled candidate."""
    source = exported(sample, fault.candidate)
    path = Path(shutil.copy(source, folder / source.name))
    if fault.change is not None:
        (_edit_onnx if path.suffix == ".onnx" else _edit_tflite)(path, fault.change)
    known = open_subject(str(source))
    after = replace(known, path=path, model=open_file(path), calibration={})
    return open_subject(str(exported(sample, fault.reference))), fault.declare(after)


def first_bad(fault: FileFault, path: Path) -> str:
    """Return the name of the tensor in which the fault begins."""
    assert fault.layer is not None
    kind, number = fault.layer
    graph = read(path)
    return graph.rounded([operator for operator in graph.operators if operator.kind == kind][number].outputs[0])


def _edit_onnx(path: Path, change: Change) -> None:
    import onnx

    model = onnx.load(path)
    change(model)
    onnx.save(model, path)


def _edit_tflite(path: Path, change: Change) -> None:
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(path))
    change(model)
    flatbuffer_utils.write_model(model, str(path))


def failed(before: Subject, after: Subject, given: Families) -> list[str]:
    """Return the names of all checks that did not pass."""
    edges = [linted(before, after, given.get(REAL)), *verify_edges(before, after, given)]
    checks = [*declared(before, after), *(check for edge in edges if edge for check in edge.checks)]
    lint = [check for edge in edges if edge is not None for check in edge.failures()]
    return [check.name for check in (*checks, *lint) if str(check.verdict) != "PASS"]


# ONNX


def _nodes(model: Any, kind: str) -> list[Any]:
    return [node for node in model.graph.node if node.op_type == kind]


def _array(model: Any, name: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    from onnx import numpy_helper

    held = next(value for value in model.graph.initializer if value.name == name)
    held.CopyFrom(numpy_helper.from_array(np.array(change(numpy_helper.to_array(held).copy()), order="C"), name))


def _of_convolution(number: int, place: int, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Change:
    return lambda model: _array(model, _nodes(model, "Conv")[number].input[place], change)


def _ceiling_gone(model: Any) -> None:
    from onnx import numpy_helper

    node = _nodes(model, "Clip")[5]  # which real inputs reach: a ceiling that none reaches cannot be missed
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1e9), "no_ceiling"))
    node.input[2] = "no_ceiling"  # the others share theirs


def _padding_moved(model: Any) -> None:
    pads = [a for node in _nodes(model, "Conv") for a in node.attribute if a.name == "pads"]
    chosen = next(a for a in pads if any(a.ints))
    moved = [size + other for size, other in zip(chosen.ints[:2], chosen.ints[2:], strict=True)]
    chosen.ints[:] = [*moved, 0, 0]


def _residual_gone(model: Any) -> None:
    node = _nodes(model, "Add")[0]
    node.op_type, kept = "Identity", node.input[0]
    del node.input[:]
    node.input.append(kept)


def _behind(kind: str, **attributes: Any) -> Change:
    """Return the change that puts one more operator behind the output."""

    def change(model: Any) -> None:
        from onnx import helper

        output = model.graph.output[0].name
        for node in model.graph.node:
            node.output[:] = ["before_" + name if name == output else name for name in node.output]
            node.input[:] = ["before_" + name if name == output else name for name in node.input]
        model.graph.node.append(helper.make_node(kind, ["before_" + output], [output], **attributes))

    return change


def _first_channels(weight: NDArray[Any]) -> NDArray[Any]:
    return weight[:, ::-1]


# TFLite


def _convolution(model: Any, number: int) -> Any:
    held = model.subgraphs[0].operators
    return [o for o in held if model.operatorCodes[o.opcodeIndex].builtinCode == 3][number]


def _tensor(model: Any, number: int, place: int) -> Any:
    return model.subgraphs[0].tensors[_convolution(model, number).inputs[place]]


def _bytes(model: Any, number: int = 3, place: int = 1) -> Any:
    return model.buffers[_tensor(model, number, place).buffer].data


def _rows_swapped(model: Any) -> None:
    rows = _bytes(model).reshape(_tensor(model, 3, 1).shape[0], -1)
    rows[[0, 1]] = rows[[1, 0]]


def _one_step(model: Any) -> None:
    data = _bytes(model).view(np.int8)
    data[int(np.argmin(np.abs(data.astype(int))))] += 1


def _one_scale(model: Any) -> None:
    quantization = _tensor(model, 3, 1).quantization
    quantization.scale, quantization.zeroPoint = quantization.scale[:1], quantization.zeroPoint[:1]


def _off_centre(model: Any) -> None:
    _tensor(model, 3, 1).quantization.zeroPoint += 3


def _activation_gone(model: Any) -> None:
    operator = next(o for o in model.subgraphs[0].operators if getattr(o.builtinOptions, "fusedActivationFunction", 0))
    operator.builtinOptions.fusedActivationFunction = 0


def _floats(change: Callable[[NDArray[np.float32]], None], place: int) -> Change:
    return lambda model: change(_bytes(model, 5, place).view(np.float32))


def _zero(values: NDArray[np.float32]) -> None:
    values[:] = 0


def _reverse(values: NDArray[np.float32]) -> None:
    values[:] = values[::-1].copy()


def _output_zero_point(model: Any) -> None:
    held = model.subgraphs[0]
    held.tensors[held.outputs[0]].quantization.zeroPoint += 300


def _activation_scale(model: Any) -> None:
    held = model.subgraphs[0]
    held.tensors[_convolution(model, 3).outputs[0]].quantization.scale *= np.float32(64)


# what is said of a file


def _normalised(subject: Subject) -> Subject:
    mean = tuple(value + 0.1 for value in subject.prepared().mean)
    return replace(subject, preprocessing=replace(subject.prepared(), mean=mean))


def _resized(subject: Subject) -> Subject:
    return replace(subject, preprocessing=replace(subject.prepared(), resize="nearest"))


def _classes(subject: Subject) -> Subject:
    return replace(subject, classes=(subject.classes[1], subject.classes[0], *subject.classes[2:]))


def _fewer_classes(subject: Subject) -> Subject:
    return replace(subject, classes=subject.classes[:-1])


def _called_int8(subject: Subject) -> Subject:
    return replace(subject, scheme="int8")


def _one_picture(subject: Subject) -> Subject:
    return replace(subject, calibration=statistics(np.zeros((1, *subject.shape), np.float32)))


def _twenty_alike(subject: Subject) -> Subject:
    return replace(subject, calibration=statistics(np.zeros((20, *subject.shape), np.float32)))


FLOAT = "float error"
FAULTS = (
    FileFault("channel order", FLOAT, "fp32.onnx", "fp32.onnx", _of_convolution(0, 1, _first_channels),
              samples=("blood_cells",), layer=("Conv", 0)),
    FileFault("normalisation folded in twice", FLOAT, "fp32.onnx", "fp32.onnx",
              _of_convolution(0, 1, lambda w: w / 0.3), layer=("Conv", 0)),
    FileFault("bias dropped", FLOAT, "fp32.onnx", "fp32.onnx", _of_convolution(4, 2, np.zeros_like),
              layer=("Conv", 4)),
    FileFault("weight in float16", FLOAT, "fp32.onnx", "fp32.onnx",
              _of_convolution(6, 1, lambda w: w.astype(np.float16).astype(np.float32)), layer=("Conv", 6)),
    FileFault("channels of a layer swapped", FLOAT, "fp32.onnx", "fp32.onnx", _of_convolution(6, 1, lambda w: w[::-1]),
              layer=("Conv", 6)),
    FileFault("ceiling of ReLU6 gone", FLOAT, "fp32.onnx", "fp32.onnx", _ceiling_gone, layer=("Clip", 5)),
    FileFault("padding on one side", FLOAT, "fp32.onnx", "fp32.onnx", _padding_moved, layer=("Conv", 0)),
    FileFault("residual sum dropped", FLOAT, "fp32.onnx", "fp32.onnx", _residual_gone, layer=("Identity", 0)),
    FileFault("softmax added", FLOAT, "fp32.onnx", "fp32.onnx", _behind("Softmax", axis=1)),
    FileFault("output negated", FLOAT, "fp32.onnx", "fp32.onnx", _behind("Neg")),
    FileFault("no number for some inputs", "finite outputs", "fp32.onnx", "fp32.onnx", _behind("Sqrt")),
    FileFault("bias dropped, TFLite", FLOAT, "fp32.onnx", "fp32.tflite", _floats(_zero, 2), layer=("CONV_2D", 5)),
    FileFault("kernel reversed, TFLite", FLOAT, "fp32.onnx", "fp32.tflite", _floats(_reverse, 1), layer=("CONV_2D", 5)),
    FileFault("fused activation lost", FLOAT, "fp32.onnx", "fp32.tflite", _activation_gone, layer=("CONV_2D", 0)),
    FileFault("channels of an int8 layer swapped", "weights as requantized", "fp32.tflite", "int8.tflite",
              _rows_swapped, layer=("CONV_2D", 3)),
    FileFault("one int8 weight off by one step", "weights as requantized", "fp32.tflite", "int8.tflite", _one_step),
    FileFault("one scale for all channels", "convolutions with one scale", "fp32.tflite", "int8.tflite", _one_scale),
    FileFault("zero point of weights", "weights not centred", "fp32.tflite", "int8.tflite", _off_centre),
    FileFault("zero point out of range", "scales and zero points", "fp32.tflite", "int8.tflite", _output_zero_point),
    FileFault("scale of one activation", "bias scale", "fp32.tflite", "int8.tflite", _activation_scale),
    FileFault("float operators in an int8 file", "integer operators", "fp32.onnx", "fp32.tflite", None, _called_int8),
    FileFault("calibrated on one picture", "calibration inputs", "fp32.tflite", "int8.tflite", None, _one_picture),
    FileFault("calibrated on pictures that are alike", "calibration inputs that differ", "fp32.tflite", "int8.tflite",
              None, _twenty_alike),
    FileFault("other normalisation declared", "preprocessing differs", "fp32.onnx", "fp32.tflite", None, _normalised),
    FileFault("other resize declared", "preprocessing differs", "fp32.onnx", "fp32.tflite", None, _resized),
    FileFault("classes swapped", "classes differ", "fp32.onnx", "fp32.tflite", None, _classes),
    FileFault("a class missing", "classes differ", "fp32.onnx", "fp32.tflite", None, _fewer_classes),
)  # fmt: skip


class _BatchNorm(nn.Module):
    """What a BatchNorm in training mode computes."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> the same shape, normalised with the statistics of this batch."""
        mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
        scale, shift = (value.reshape(1, -1, 1, 1) for value in (self.norm.weight, self.norm.bias))
        return (x - mean) / torch.sqrt(variance + self.norm.eps) * scale + shift


def exported_in_training_mode(subject: Subject, path: Path) -> Path:
    """Write the ONNX file of a model that was never set to eval mode; ONNX Runtime refuses the operator's own flag."""
    assert isinstance(subject.model, nn.Module)
    model = copy.deepcopy(subject.model)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            model.set_submodule(name, _BatchNorm(module))
    x = torch.zeros(2, *subject.shape)
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(model, (x,), dynamo=True, dynamic_shapes=({0: batch},), verbose=False)
    assert program is not None
    program.save(str(path))
    return path


def with_weights_behind(sample: str, folder: Path) -> Path:
    """Return an int8 TFLite file whose weights of one layer lie behind the flatbuffer, as quantizers write them."""
    held: list[bytes] = []

    def move(model: Any) -> None:
        tensor = model.subgraphs[0].tensors[_convolution(model, 3).inputs[1]]
        buffer = model.buffers[tensor.buffer]
        held.append(bytes(buffer.data))
        buffer.data, buffer.offset, buffer.size = None, BEHIND, len(held[0])

    source = exported(sample, "int8.tflite")
    path = Path(shutil.copy(source, folder / source.name))
    _edit_tflite(path, move)
    content = path.read_bytes()
    path.write_bytes(content + bytes(BEHIND - len(content)) + held[0])
    return path


def cut_short(sample: str, folder: Path, name: str) -> Path:
    """Return a file that has lost its second half, with its sidecar: it must be refused."""
    source = exported(sample, name)
    path = folder / source.name
    path.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    shutil.copy(artifact.sidecar(source), artifact.sidecar(path))
    return path


def with_another_sidecar(sample: str, folder: Path, name: str) -> Path:
    """Return a file beside the sidecar of another one: it must be refused."""
    source = exported(sample, name)
    path = Path(shutil.copy(exported(sample, "fp32.onnx"), folder / source.name))
    shutil.copy(artifact.sidecar(source), artifact.sidecar(path))
    return path
