"""Runtime: named arrays in, named arrays out, whatever runs the model."""

from nbedge.runtime.elsewhere import open_where_installed
from nbedge.runtime.modules import of_module, of_program
from nbedge.runtime.onnx import import_onnxruntime, of_onnx, unreadable
from nbedge.runtime.opening import kernels_of, open_file, suffixes
from nbedge.runtime.recorded import of_recording, record, recorded_inputs
from nbedge.runtime.runner import (
    Arrays,
    Runner,
    answer,
    answer_pictures,
    answers,
    batches,
    channels_first,
    dequantize,
    layout,
    mapped,
    picture_shape,
    quantize,
    raw_answers,
)
from nbedge.runtime.tflite import import_litert, natural, of_micro, of_tflite, quiet

__all__ = [
    "Arrays", "Runner", "answer", "answer_pictures", "answers", "batches", "channels_first",
    "dequantize", "import_litert", "import_onnxruntime", "kernels_of", "layout", "mapped", "natural", "of_micro",
    "of_module", "of_onnx", "of_program", "of_recording", "of_tflite", "open_file", "open_where_installed",
    "picture_shape", "quantize", "quiet", "raw_answers", "record", "recorded_inputs", "suffixes", "unreadable",
]  # fmt: skip
