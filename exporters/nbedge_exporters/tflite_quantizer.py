"""Quantized TFLite by ai-edge-quantizer, from any float32 TFLite file: a second quantizer beside TensorFlow's.

Ranges are the least and the largest value seen; its own default, a moving average, clips the logits: 16 dB where these
give 34 (measured). It quantizes every weight, where TensorFlow leaves small ones of a dynamic file in float.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nbedge.errors import needs
from nbedge.exporter import Job
from nbedge.runtime import Runner, open_file
from nbedge_exporters.tflite_file import TARGETS, all_integer, finish, interpreter_of

#: method -> name of the function that ai-edge-quantizer updates a range with
METHODS = {"minmax": "min_max_update", "moving-average": "moving_average_update"}


@dataclass(frozen=True, slots=True)
class TfliteQuantizer:
    """Writes quantized TFLite from float32 TFLite."""

    consumes: str = "tflite"
    produces: str = "tflite"
    source: str = "fp32"
    schemes: frozenset[str] = frozenset({"fp16", "dynamic", "int8", "int8-float-io", "int8x16"})
    backend: str = "litert"
    options: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {
            "method": tuple(METHODS), "input": ("float32", "uint8"), "target": TARGETS,
            "exempt": ("", "float", "int16"),
        }
    )  # fmt: skip
    needs: Mapping[str, str] = field(default_factory=lambda: {"input": "float32"})
    extra: str = "tflite"
    packages: tuple[str, ...] = ("ai-edge-quantizer", "ai-edge-litert")
    imports: tuple[str, ...] = ("ai_edge_quantizer.quantizer",)

    def convert(self, job: Job) -> None:
        """Quantize `job.source`, integer files with the ranges seen on all of `job.calibration`."""
        for scheme, target in job.targets.items():
            content = _quantized(job, scheme)
            whole = scheme.startswith("int8") and not job.exempt
            checked = all_integer(content, scheme, job.workdir) if whole else content
            target.write_bytes(finish(checked, scheme, job))

    def open(self, path: Path) -> Runner:
        """Run a file in its usual kernels."""
        return open_file(path)


exporter = TfliteQuantizer()


def _quantized(job: Job, scheme: str) -> bytes:
    with needs("tflite"):
        from ai_edge_quantizer import quantizer

    recipe = [*RECIPES[scheme](), *_exempt(job)]
    ranges = _ranges(job, recipe) if scheme.startswith("int8") else None
    made = quantizer.Quantizer(str(job.source), recipe).quantize(ranges, enable_progress_report=False)
    return bytes(made.quantized_model)


def _ranges(job: Job, recipe: Any) -> Any:
    """Return the range of each tensor on the calibration inputs."""
    from ai_edge_quantizer import calibrator, recipe_manager
    from ai_edge_quantizer.utils import qsv_utils

    ((signature, ends),) = interpreter_of(job.source.read_bytes()).get_signature_list().items()
    (entry,) = ends["inputs"]
    pictures = np.ascontiguousarray(np.load(job.calibration).transpose(0, 2, 3, 1))
    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(recipe)
    update = getattr(qsv_utils, METHODS[job.settings.get("method", "minmax")])
    seen = calibrator.Calibrator(str(job.source), num_threads=1, qsv_update_func=update)
    seen.calibrate({signature: [{entry: picture[None]} for picture in pictures]}, manager)
    return seen.get_model_qsvs()


def _static(activations: int, float_ends: bool = False) -> Any:
    from ai_edge_quantizer import qtyping, recipe_manager

    names = qtyping.TFLOperationName
    manager = recipe_manager.RecipeManager()
    manager.add_static_config(".*", names.ALL_SUPPORTED, activation_num_bits=activations, weight_num_bits=8)
    for end in (names.INPUT, names.OUTPUT) if float_ends else ():
        manager.add_quantization_config(".*", end, algorithm_key="no_quantize")
    return manager.get_quantization_recipe()


def _exempt(job: Job) -> Any:
    """Return what the recipe says of the layers that lose most; the last word counts."""
    from ai_edge_quantizer import qtyping, recipe_manager

    manager, every = recipe_manager.RecipeManager(), qtyping.TFLOperationName.ALL_SUPPORTED
    for name in job.exempt:
        place = re.escape(name)
        if job.settings["exempt"] == "float":
            manager.add_quantization_config(place, every, algorithm_key="no_quantize")
        else:
            manager.add_static_config(place, every, activation_num_bits=16, weight_num_bits=8)
    return manager.get_quantization_recipe()


def _dynamic() -> Any:
    from ai_edge_quantizer import recipe

    return recipe.dynamic_wi8_afp32()


def _fp16() -> Any:
    from ai_edge_quantizer import qtyping, recipe_manager

    manager = recipe_manager.RecipeManager()
    config = qtyping.OpQuantizationConfig(
        weight_tensor_config=qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT),
        compute_precision=qtyping.ComputePrecision.FLOAT, explicit_dequantize=True,
    )  # fmt: skip
    manager.add_quantization_config(".*", qtyping.TFLOperationName.ALL_SUPPORTED, config, algorithm_key="float_casting")
    return manager.get_quantization_recipe()


RECIPES: Mapping[str, Callable[[], Any]] = {
    "fp16": _fp16, "dynamic": _dynamic, "int8": lambda: _static(8),
    "int8-float-io": lambda: _static(8, float_ends=True), "int8x16": lambda: _static(16),
}  # fmt: skip
