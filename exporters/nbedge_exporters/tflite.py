"""TFLite in float and all-integer: onnx2tf makes a SavedModel of the ONNX, TensorFlow's converter the files.

onnx2tf could write the int8 file too, but it calibrates four times, for formats nobody asked for, and lets operators
of TensorFlow in; here the converter sees every calibration picture once and may use TFLite's own operators only.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge.errors import ExportError, needs
from nbedge.exporter import Job
from nbedge.runtime import Runner, open_file
from nbedge_exporters import hard_sigmoid
from nbedge_exporters.tflite_file import TARGETS, all_integer, finish

Pictures = NDArray[np.float32]


#: method of calibration that TensorFlow's converter has
METHODS = ("minmax",)


@dataclass(frozen=True, slots=True)
class TfliteExporter:
    """Writes TFLite from float32 ONNX."""

    consumes: str = "onnx"
    produces: str = "tflite"
    source: str = "fp32"
    schemes: frozenset[str] = frozenset({"fp32", "fp16", "int8", "int8-float-io", "int8x16"})
    backend: str = "onnx2tf"
    options: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {"method": METHODS, "input": ("float32", "uint8"), "target": TARGETS}
    )
    needs: Mapping[str, str] = field(default_factory=lambda: {"batch": "1", "opset": "20", "input": "float32"})
    extra: str = "tflite"
    packages: tuple[str, ...] = ("onnx2tf", "tensorflow", "ai-edge-litert")
    imports: tuple[str, ...] = ("tensorflow", "onnx2tf.onnx2tf")

    def convert(self, job: Job) -> None:
        """Write `job.source` in NHWC; integer files with the ranges seen on all of `job.calibration`."""
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        # onnx2tf imports onnxruntime, which makes an identifier of the machine in ~/.cache and reports to Microsoft
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        inputs = np.load(job.calibration)
        pictures = np.ascontiguousarray(np.moveaxis(inputs, 1, -1) if inputs.ndim > 2 else inputs)
        names = [spec.name for spec in open_file(job.source).outputs]
        saved = _saved_model(job, pictures[:1])
        for scheme, target in job.targets.items():
            content = _converted(saved, scheme, pictures, job.workdir)
            target.write_bytes(finish(content, scheme, job, names))

    def open(self, path: Path) -> Runner:
        """Run a file in its usual kernels."""
        return open_file(path)


exporter = TfliteExporter()


def _saved_model(job: Job, sample: Pictures) -> Path:
    """Convert to a SavedModel; onnx2tf compares its layouts with the original on the one picture `sample`."""
    with needs("tflite"):
        import onnx
        import onnx2tf.onnx2tf as converter
    # for RGB inputs onnx2tf downloads test pictures, whatever data it is given
    converter.download_test_image_data = lambda: sample
    # onnx2tf writes over its input
    source, model = job.workdir / "model.onnx", onnx.load(job.source)
    hard_sigmoid.rewrite_(model)
    onnx.save(model, source)
    try:
        _run_onnx2tf(converter, source, sample, job.workdir / "saved_model")
    except SystemExit as error:
        raise ExportError(f"onnx2tf gave up on {job.source.name}; the log says why") from error
    return job.workdir / "saved_model"


def _run_onnx2tf(converter: Any, source: Path, sample: Pictures, output: Path) -> None:
    (entry,) = open_file(source).inputs
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


def _converted(saved: Path, scheme: str, pictures: Pictures, workdir: Path) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved))
    if scheme == "fp32":
        return bytes(converter.convert())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if scheme == "fp16":
        converter.target_spec.supported_types = [tf.float16]
        return bytes(converter.convert())
    return all_integer(_integer(converter, scheme, pictures), scheme, workdir)


def _integer(converter: Any, scheme: str, pictures: Pictures) -> bytes:
    import tensorflow as tf

    def one_by_one() -> Iterator[list[Pictures]]:
        return ([picture[None]] for picture in pictures)

    sets, ends = tf.lite.OpsSet, {"int8": tf.int8, "int8x16": tf.int16, "int8-float-io": tf.float32}
    converter.representative_dataset = one_by_one
    # alone in the list: the conversion fails rather than leave an operator in float
    converter.target_spec.supported_ops = [
        sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        if scheme == "int8x16" else sets.TFLITE_BUILTINS_INT8
    ]  # fmt: skip
    converter.inference_input_type = converter.inference_output_type = ends[scheme]
    return bytes(converter.convert())
