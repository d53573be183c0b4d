"""The peers: each is a script of its own, as their documentation has it, in a process of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from nbedge.environments import ENVIRONMENTS

#: what every script is given: source, calibration pictures (.npy, NHWC for TFLite), file to write
HEAD = "import sys, numpy as np\nsource, pictures, target = sys.argv[1:4]\nx = np.load(pictures)\n"
#: onnx2tf downloads pictures for any RGB network; there is no network here
OFFLINE = "import onnx2tf.onnx2tf as o\no.download_test_image_data = lambda: x[:1]\n"

ONNX2TF = (
    HEAD
    + OFFLINE
    + """
import pathlib, shutil, tempfile
folder = pathlib.Path(tempfile.mkdtemp())
shutil.copy(source, folder / "model.onnx")
np.save(folder / "x.npy", x)
c = x.shape[-1]
o.convert(input_onnx_file_path=str(folder / "model.onnx"), output_folder_path=str(folder / "out"),
          output_integer_quantized_tflite=True, quant_type="per-channel", not_use_onnxsim=True, verbosity="error",
          custom_input_op_name_np_data_path=[["input", str(folder / "x.npy"), [[[[0.0] * c]]], [[[[1.0] * c]]]]])
shutil.copy(next((folder / "out").glob("*_full_integer_quant.tflite")), target)
"""
)
TENSORFLOW = (
    HEAD
    + OFFLINE
    + """
import pathlib, shutil, tempfile
import tensorflow as tf
folder = pathlib.Path(tempfile.mkdtemp())
shutil.copy(source, folder / "model.onnx")
o.convert(input_onnx_file_path=str(folder / "model.onnx"), output_folder_path=str(folder / "out"),
          output_signaturedefs=True, not_use_onnxsim=True, verbosity="error")
converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "out"))
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.representative_dataset = lambda: ([picture[None]] for picture in x)
pathlib.Path(target).write_bytes(converter.convert())
"""
)
ONNXRUNTIME = (
    HEAD
    + """
from onnxruntime.quantization import quantize_static
class Reader:
    def __init__(self): self.rest = iter(x)
    def get_next(self):
        row = next(self.rest, None)
        return None if row is None else {"input": row[None]}
quantize_static(source, target, Reader())
"""
)
LITERT_TORCH = (
    HEAD
    + """
import litert_torch, torch
from ai_edge_quantizer import quantizer, recipe
from ai_edge_litert.interpreter import Interpreter
model = litert_torch.to_channel_last_io(torch.export.load(source).module(), args=[0])
model.training = False
floats = target + ".fp32.tflite"
litert_torch.convert(model, (torch.zeros(1, *x.shape[1:]),)).export(floats)
(key, ends), = Interpreter(floats).get_signature_list().items()
q = quantizer.Quantizer(floats, recipe.static_wi8_ai8())
seen = q.calibrate({key: [{ends["inputs"][0]: row[None]} for row in x]})
q.quantize(seen).export_model(target, overwrite=True)
"""
)
#: what every script that starts from the network is given: a pickle of the network with its inputs, what it writes
NET = (
    "import pickle, sys, torch, warnings\nwarnings.simplefilter('ignore')\nnet = pickle.load(open(sys.argv[1], 'rb'))\n"
)
#: torch's own exporter, before each peer
TO_ONNX = (
    NET
    + """
x = torch.zeros(1, *net["preprocess"].shape)
torch.onnx.export(net["model"].eval(), (x,), sys.argv[2], input_names=["input"],
                  output_names=["logits"], dynamo=True, external_data=False, verbose=False)
"""
)
#: ours: pickle, folder, format, backend
EXPORT = (
    NET
    + """
from nbedge.conversion import Options, export
from nbedge.errors import NbedgeError
format, backend = sys.argv[3:5]
try:
    export(example_input=torch.zeros(1, *net["preprocess"].shape), formats=[format], quant=["int8"],
           out=sys.argv[2], name="net", options=Options(backend=tuple(filter(None, [backend]))), overwrite=True, **net)
except NbedgeError as error:
    print(error)
"""
)


@dataclass(frozen=True, slots=True)
class Own:
    """One of our ways: the format it writes, and the backend; "" is the usual one."""

    format: str
    backend: str


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer: its script, what that starts from, the file it writes, the layout of its pictures, its interpreter."""

    script: str
    source: str
    format: str
    layout: str
    python: str = sys.executable


OURS: Mapping[str, Own] = {
    "nbedge, ONNX": Own("onnx", ""),
    "nbedge, TFLite": Own("tflite", ""),
    "nbedge, TFLite by litert": Own("tflite", "litert"),
}
PEERS: Mapping[str, Peer] = {
    "onnx2tf -oiqt": Peer(ONNX2TF, "onnx", "tflite", "nhwc"),
    "tensorflow's converter": Peer(TENSORFLOW, "onnx", "tflite", "nhwc"),
    "onnxruntime's defaults": Peer(ONNXRUNTIME, "onnx", "onnx", "nchw"),
    "litert-torch, ai-edge-quantizer's defaults": Peer(
        LITERT_TORCH, "torch", "tflite", "nhwc", str(ENVIRONMENTS["litert"].python)
    ),
}


def timed(script: str, *words: object, python: str = sys.executable) -> float:
    """Return the seconds that a process of a script took.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "ORT_DISABLE_TELEMETRY": "1"}
    began = time.perf_counter()
    subprocess.run(
        [python, "-c", script, *map(str, words)], check=True, capture_output=True, env={**os.environ, **quiet}
    )
    return round(time.perf_counter() - began, 3)
