"""Small networks of people who never heard of a giant, and what their converters make of them.

`python tests/networks.py FOLDER` writes each as NAME.pt2 and NAME-open.pt2, as NAME-1.onnx, NAME-4.onnx and
NAME-open.onnx, and as NAME-1.tflite and NAME-4.tflite, for one input at once, for four, or any number.
"""

import contextlib
import copy
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class Heads(nn.Module):
    """(n, 3, 16, 16) -> a map (n, 6, 8, 8) and scores (n, 5), by name."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU())
        self.map, self.scores = nn.Conv2d(8, 6, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.body(x)
        return {"map": self.map(y), "scores": self.scores(y.mean((2, 3)))}


class Sequence(nn.Module):
    """(n, 10, 49) -> (n, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv1d(10, 6, 3, padding=1), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(torch.relu(self.conv(x)).mean(2))
        return y


class Branches(nn.Module):
    """RepVGG's block while it is trained: (n, 3, h, w) -> (n, 3, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        self.three, self.one = nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.Conv2d(3, 3, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        parts = (self.three(x), self.one(x), x)
        return torch.relu(sum(norm(part) for norm, part in zip(self.norms, parts, strict=True)))


def heads() -> nn.Module:
    torch.manual_seed(0)
    return Heads().eval()


def flat() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(640, 16), nn.ReLU(), nn.Linear(16, 640)).eval()


def speech() -> nn.Module:
    torch.manual_seed(0)
    convolution = nn.Conv2d(1, 8, (10, 4), stride=2, padding=(5, 1))
    return nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), nn.Linear(1000, 12)).eval()


def sequence() -> nn.Module:
    torch.manual_seed(0)
    return Sequence().eval()


def wide() -> nn.Module:
    """Return a network of inputs (12, 6, 6), whose channels no file tells from its sizes."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(12, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)).eval()


def branches() -> nn.Module:
    torch.manual_seed(0)
    block = Branches()
    for _ in range(20):
        block(torch.randn(64, 3, 8, 8))
    return block.eval()


def merged(factor: float = 1.0) -> nn.Module:
    """Return the one convolution that `branches` has become, by RepVGG's own algebra; `factor` spoils a branch."""
    block: Any = branches()
    weights = (
        block.three.weight,
        nn.functional.pad(block.one.weight, (1, 1, 1, 1)),
        nn.functional.pad(torch.eye(3).reshape(3, 3, 1, 1), (1, 1, 1, 1)) * factor,
    )
    scales = [norm.weight / torch.sqrt(norm.running_var + norm.eps) for norm in block.norms]
    layer = nn.Conv2d(3, 3, 3, padding=1)
    shifts = (n.bias - n.running_mean * s for n, s in zip(block.norms, scales, strict=True))
    layer.weight = nn.Parameter(sum(w * s.reshape(-1, 1, 1, 1) for w, s in zip(weights, scales, strict=True)).detach())
    layer.bias = nn.Parameter(sum(shifts).detach())
    return nn.Sequential(layer, nn.ReLU()).eval()


def spoiled() -> nn.Module:
    return merged(0.999)


#: name -> network, shape of one input
NETWORKS = {
    "heads": (heads(), (3, 16, 16)), "flat": (flat(), (640,)), "speech": (speech(), (1, 49, 10)),
    "sequence": (sequence(), (10, 49)), "wide": (wide(), (12, 6, 6)),
}  # fmt: skip


def write_torch(folder: Path, name: str) -> None:
    net, shape = NETWORKS[name]
    x = torch.zeros(4, *shape)
    open_batch = ({0: torch.export.Dim("n", min=1, max=1024)},)
    torch.export.save(torch.export.export(net, (x[:1],)), folder / f"{name}.pt2")
    torch.export.save(torch.export.export(net, (x,), dynamic_shapes=open_batch), folder / f"{name}-open.pt2")
    for suffix, given, sizes in (("1", x[:1], None), ("4", x, None), ("open", x, open_batch)):
        torch.onnx.export(
            net, (given,), folder / f"{name}-{suffix}.onnx", input_names=["x"], output_names=list(_names(net, x)),
            dynamic_shapes=sizes, dynamo=True, external_data=False, opset_version=20, verbose=False,
        )  # fmt: skip


def _names(net: nn.Module, x: Tensor) -> list[str]:
    found = copy.deepcopy(net)(x)
    return list(found) if isinstance(found, dict) else ["y"]


def write_tflite(folder: Path, name: str, batch: int) -> None:
    import numpy as np
    import onnx2tf.onnx2tf as converter
    import tensorflow as tf

    shape = (batch, *NETWORKS[name][1])
    x = np.moveaxis(np.random.default_rng(0).normal(size=shape), 1, -1).astype(np.float32)
    np.save(folder / "x.npy", x)
    converter.download_test_image_data = lambda: x  # it would look for pictures elsewhere
    zero, one = (np.full((1,) * x.ndim, value).tolist() for value in (0.0, 1.0))
    source, saved = folder / f"{name}-{batch}.onnx", folder / f"{name}-{batch}"
    content = source.read_bytes()
    converter.convert(
        input_onnx_file_path=str(source), output_folder_path=str(saved), output_signaturedefs=True,
        not_use_onnxsim=True, verbosity="error",
        custom_input_op_name_np_data_path=[["x", str(folder / "x.npy"), zero, one]],
    )  # fmt: skip
    source.write_bytes(content)  # onnx2tf writes over its input
    source.with_suffix(".tflite").write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(saved)).convert())


def write_quantized(folder: Path) -> None:
    """Write flat-dynamic.tflite, flat-dynamic.onnx and flat-float-io.tflite, as others do: without a word of it."""
    import numpy as np
    import tensorflow as tf
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(folder / "flat-1.onnx", folder / "flat-dynamic.onnx", weight_type=QuantType.QInt8)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "flat-1"))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    (folder / "flat-dynamic.tflite").write_bytes(converter.convert())
    rows = np.random.default_rng(0).normal(size=(100, 1, 640)).astype(np.float32)
    converter.representative_dataset = lambda: ([row] for row in rows)
    (folder / "flat-float-io.tflite").write_bytes(converter.convert())


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with contextlib.redirect_stdout(sys.stderr):
        for each in NETWORKS:
            write_torch(Path(sys.argv[1]), each)
            for number in (1, 4):
                write_tflite(Path(sys.argv[1]), each, number)
        write_quantized(Path(sys.argv[1]))
