"""TFLite in float32 and all-integer int8: onnx2tf makes a SavedModel of the ONNX, TensorFlow's converter the files.

onnx2tf could write the int8 file too, but it calibrates four times, for formats nobody asked for, and lets operators
of TensorFlow in; here the converter sees every calibration picture once and may use TFLite's own operators only.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge.artifact import Job, TensorSpec
from nbedge.errors import ExportError, needs
from nbedge.runtime import layout

Pictures = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TfliteExporter:
    """Writes TFLite from float32 ONNX."""

    consumes: str = "onnx"
    produces: str = "tflite"
    schemes: frozenset[str] = frozenset({"fp32", "int8"})
    extra: str = "tflite"
    packages: tuple[str, ...] = ("onnx2tf", "tensorflow", "ai-edge-litert")

    def convert(self, job: Job) -> None:
        """Write `job.source` in NHWC; int8 with the ranges seen on all of `job.calibration`."""
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        # Keras would write its settings into the user's home, and obey those it finds there
        os.environ["KERAS_HOME"] = str(job.workdir / "keras")
        # onnx2tf imports onnxruntime, which makes an identifier of the machine in ~/.cache and reports to Microsoft
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        pictures = np.ascontiguousarray(np.load(job.calibration).transpose(0, 2, 3, 1))
        saved = _saved_model(job, pictures[:1])
        if "fp32" in job.targets:
            job.targets["fp32"].write_bytes(_fp32(saved))
        if "int8" in job.targets:
            job.targets["int8"].write_bytes(_int8(saved, pictures))

    def signature(self, path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """Read the inputs and outputs, by the names that the file gives them."""
        interpreter = _interpreter(path.read_bytes())
        return (
            tuple(_spec(details) for details in interpreter.get_input_details()),
            tuple(_spec(details) for details in interpreter.get_output_details()),
        )


exporter = TfliteExporter()


def _saved_model(job: Job, sample: Pictures) -> Path:
    """Convert to a SavedModel; onnx2tf compares its layouts with the original on the one picture `sample`."""
    with needs("tflite"):
        import onnx2tf.onnx2tf as converter
    # for RGB inputs onnx2tf downloads test pictures, whatever data it is given
    converter.download_test_image_data = lambda: sample
    # onnx2tf writes over its input
    source = Path(shutil.copyfile(job.source, job.workdir / "model.onnx"))
    try:
        _run_onnx2tf(converter, source, sample, job.workdir / "saved_model")
    except SystemExit as error:
        raise ExportError(f"onnx2tf gave up on {job.source.name}; the log says why") from error
    return job.workdir / "saved_model"


def _run_onnx2tf(converter: Any, source: Path, sample: Pictures, output: Path) -> None:
    from nbedge_exporters.onnx import read_signature

    (entry,), _ = read_signature(source)
    data = source.with_name("sample.npy")
    np.save(data, sample)
    converter.convert(
        input_onnx_file_path=str(source),
        output_folder_path=str(output),
        output_signaturedefs=True,  # without it the SavedModel has no entry to convert from
        not_use_onnxsim=True,  # would need a program of that name; torch's export is simple already
        # the pictures are preprocessed: mean 0, deviation 1
        custom_input_op_name_np_data_path=[[entry.name, str(data), [[[[0.0]]]], [[[[1.0]]]]]],
        verbosity="error",
    )


def _fp32(saved: Path) -> bytes:
    import tensorflow as tf

    return bytes(tf.lite.TFLiteConverter.from_saved_model(str(saved)).convert())


def _int8(saved: Path, pictures: Pictures) -> bytes:
    import tensorflow as tf

    def one_by_one() -> Iterator[list[Pictures]]:
        return ([picture[None]] for picture in pictures)

    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = one_by_one
    # alone in the list: the conversion fails rather than leave an operator in float
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return _all_integer(bytes(converter.convert()))


def _all_integer(content: bytes) -> bytes:
    """Return the file if it holds int8 and int32 only, the types that every microcontroller kernel takes."""
    found = {np.dtype(details["dtype"]).name for details in _interpreter(content).get_tensor_details()}
    if not found <= {"int8", "int32"}:
        raise ExportError(f"the int8 file would hold tensors of {sorted(found)}; replace the operators that need them")
    return content


def _interpreter(content: bytes) -> Any:
    with needs("tflite"):
        from ai_edge_litert.interpreter import Interpreter
    return Interpreter(model_content=content)


def _spec(details: dict[str, Any]) -> TensorSpec:
    shape = tuple(int(size) for size in details["shape"])
    if len(shape) not in (2, 4):
        raise ExportError(f"{details['name']!r} has the shape {shape}; only NHWC and NC are known")
    # (0.0, 0) for a float tensor
    scale, zero_point = details["quantization"]
    dtype = np.dtype(details["dtype"]).name
    return TensorSpec(details["name"], shape, dtype, layout(shape, "NHWC"), float(scale), int(zero_point))
