"""What both converters make of a network with every operator of MobileNetV1 to V3 and more becomes C, bit by bit."""

import os
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tflite_micro")

from torch import Tensor, nn  # noqa: E402

import nbedge  # noqa: E402
from nbedge.conversion import Options  # noqa: E402
from nbedge.environments import ENVIRONMENTS  # noqa: E402
from nbedge.graph import read  # noqa: E402

ROOT = Path(__file__).parent.parent
SIZE = 32


def convolution(inputs: int, outputs: int, kernel: int, act: nn.Module, stride: int = 1, groups: int = 1) -> nn.Module:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), act)


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 4, 1), nn.ReLU(), nn.Conv2d(4, channels, 1), nn.Hardsigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        gated: Tensor = x * self.inner(x)
        return gated


class Mixed(nn.Module):
    """Strided, depthwise and dilated convolutions, gates, residuals, pools, a branch that is enlarged and joined."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = convolution(3, 8, 3, nn.Hardswish(), stride=2)
        self.block = nn.Sequential(
            convolution(8, 16, 1, nn.ReLU6()), convolution(16, 16, 5, nn.ReLU6(), groups=16), Gate(16),
            convolution(16, 8, 1, nn.Identity()),
        )  # fmt: skip
        self.low = nn.Sequential(nn.MaxPool2d(2), convolution(8, 12, 3, nn.SiLU()), nn.Upsample(scale_factor=2))
        self.joined = nn.Sequential(convolution(20, 16, 3, nn.ReLU(), stride=2), nn.AvgPool2d(2))
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.block(x)
        x = self.joined(torch.cat([x, self.low(x)], 1))
        answer: Tensor = self.head(x.mean((2, 3)))
        return answer


@pytest.mark.group("export")
@pytest.mark.parametrize("backend", ["onnx2tf", "litert"])
def test_every_operator_of_both_converters(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.environ.get("XDG_CACHE_HOME"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(ROOT / ".venv-environments"))
    if backend == "litert" and not ENVIRONMENTS["litert"].ready:
        pytest.skip("make setup-environments")
    torch.manual_seed(0)
    model = Mixed().eval()
    inputs = torch.randn(32, 3, SIZE, SIZE)
    how = nbedge.Preprocessing(shape=(3, SIZE, SIZE), mean=(0.5,) * 3, std=(0.25,) * 3)
    files = nbedge.export(
        model, inputs[:1], calibration=inputs, preprocess=how, classes=("a", "b", "c"), out=tmp_path,
        formats=["tflite"], quant=["int8", "int8-float-io"],
        options=Options(backend=(backend,), head="softmax", budget=100.0),
    )  # fmt: skip
    for file in files:
        made = nbedge.deploy(file.artifact, target="c", out=tmp_path / file.artifact.scheme)
        assert made.findings[0].startswith("equal to TFLite Micro")
    kinds = {operator.kind for operator in read(files[0].artifact.path).operators}
    assert {"CONV_2D", "DEPTHWISE_CONV_2D", "MUL", "ADD", "MAX_POOL_2D", "CONCATENATION", "SOFTMAX"} <= kinds
