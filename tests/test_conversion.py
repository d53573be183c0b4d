"""Files of real networks, and what no file can be made of."""

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nbedge import artifact, samples
from nbedge.conversion import Options, export
from nbedge.conversion.exporting import stacked
from nbedge.conversion.places import file_name
from nbedge.errors import ExportError, GateError, InputError
from nbedge.graph import read
from nbedge.preprocessing import Preprocessing
from nbedge.runtime import answer, open_file
from nbedge.verification import Limits
from nbedge_exporters import hard_sigmoid

PREPROCESSING = Preprocessing((1, 28, 28), (0.3,), (0.35,))
X = torch.randn(24, 1, 28, 28, generator=torch.Generator().manual_seed(0))
CLASSES = tuple("0123456789")


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """Return an untrained net whose BatchNorm has seen the inputs; its answers are of order 1."""
    torch.manual_seed(0)
    model = samples.mobilenet_v2_tiny(width_mult=0.5)
    nn.init.normal_(model.classifier[1].weight)  # type: ignore[arg-type]
    with torch.no_grad():
        for _ in range(30):
            model.train()(X)
    return model


def exported(net: nn.Module, out: Path, **options: Any) -> list[Any]:
    given = {"calibration": X, "preprocess": PREPROCESSING, "classes": CLASSES, "formats": ["onnx"], "quant": ["fp32"]}
    return list(export(net, X[:1], out=out, **{**given, **options}))


@pytest.mark.group("export")
def test_an_exported_file_answers_like_the_net_and_says_what_it_is(net: nn.Module, tmp_path: Path) -> None:
    modes = [module.training for module in net.modules()]
    (found,) = exported(net, tmp_path, name="tiny", derived_from="tiny.safetensors")
    assert [module.training for module in net.modules()] == modes
    path = tmp_path / "tiny.fp32.onnx"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["logs", "tiny.fp32.onnx", "tiny.fp32.onnx.json"]
    assert os.fspath(found) == str(path)
    assert all(found.edges)
    record = artifact.read(path)
    assert record == found.artifact
    assert (record.derived_from, record.classes, record.preprocessing) == ("tiny.safetensors", CLASSES, PREPROCESSING)
    with torch.no_grad():
        wanted = net.eval()(X).numpy()
    assert np.abs(answer(open_file(path), X.numpy()) - wanted).max() < 1e-4


@pytest.mark.group("export")
def test_a_file_beyond_the_limit_is_not_kept(net: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "model.fp32.onnx").write_bytes(b"older")
    with pytest.raises(GateError, match=r"model\.fp32\.onnx is not kept: float error, .* \(limit 0\.0\)"):
        exported(net, tmp_path, limits=Limits(float_error=0.0), overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["logs", "model.fp32.onnx"]
    assert (tmp_path / "model.fp32.onnx").read_bytes() == b"older"


def test_an_existing_file_is_refused_without_overwrite(net: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "model.fp32.onnx").write_bytes(b"older")
    with pytest.raises(InputError, match=r"model\.fp32\.onnx exists already"):
        exported(net, tmp_path)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"older"]


@pytest.mark.parametrize("options", [{"calibration": X[:0]}, {"calibration": []}, {"check_on": X[:0]}])
def test_an_export_without_inputs_is_refused(net: nn.Module, tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"export needs inputs as {next(iter(options))}"):
        exported(net, tmp_path, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "given",
    [X, X.numpy(), [X[:20], X[20:]], (X[i : i + 7].numpy() for i in range(0, 24, 7))],
    ids=["tensor", "array", "list", "generator"],
)
def test_inputs_come_in_one_piece_or_in_batches(given: Any) -> None:
    assert np.array_equal(stacked(given, "calibration", (1, 28, 28)), X.numpy())


def test_a_file_s_name_holds_scheme_and_format() -> None:
    assert file_name("net", "int8", "tflite") == "net.int8.tflite"


def test_a_model_with_other_outputs_than_classes_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 5))
    x = torch.zeros(1, 1, 2, 2)
    prepare = Preprocessing((1, 2, 2), (0.0,), (1.0,))
    with pytest.raises(InputError, match=r"gives \(1, 5\) for one picture; \(1, 3\) is expected"):
        export(model, x, calibration=x, preprocess=prepare, classes=("a", "b", "c"), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


# bad input


class Odd(nn.Module):
    """A network with one operator that few converters know."""

    def __init__(self, operator: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, 2, 1)
        self.middle = Middle(operator)
        self.head = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.head(self.middle(self.stem(x)).flatten(2).mean(2))
        return answer


class Middle(nn.Module):
    def __init__(self, operator: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.operator = operator

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.operator(x)


def on_its_sign(x: torch.Tensor) -> torch.Tensor:
    return x if x.sum() > 0 else -x


@pytest.mark.group("export")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("operator", "format", "words"),
    [
        (torch.linalg.svdvals, "onnx", r"linalg_svd.*svdvals in the module 'middle' \(do it outside of the network\)"),
        (torch.erf, "tflite", r"'tf.Erf' op .*erf in the module 'middle' \(use Hardswish, ReLU or ReLU6\)"),
        (nn.functional.softplus, "tflite", r"would hold bool tensors; .*\(.*\).*softplus in the module 'middle'"),
        (on_its_sign, "onnx", "torch.export cannot trace the model .*may not depend on the values of its input"),
    ],
    ids=["svd", "erf", "softplus", "branch"],
)
def test_an_operator_that_a_converter_lacks_is_named_with_its_module_and_a_cure(
    tmp_path: Path, operator: Callable[[torch.Tensor], torch.Tensor], format: str, words: str
) -> None:
    pytest.importorskip("onnx2tf" if format == "tflite" else "onnxruntime")
    with pytest.raises(ExportError, match=words):
        exported(Odd(operator).eval(), tmp_path, formats=[format], quant=["int8"])
    assert not list(tmp_path.glob("*.onnx*")) + list(tmp_path.glob("*.tflite*"))


@pytest.mark.group("export")
@pytest.mark.filterwarnings("ignore")
def test_what_a_microcontroller_lacks_is_kept_for_phones_only(tmp_path: Path) -> None:
    pytest.importorskip("tflite_micro")
    net = Odd(nn.functional.gelu).eval()
    given = {"formats": ["tflite"], "quant": ["int8"]}
    with pytest.raises(GateError, match=r"operators that tflm lacks is 1 .* 1 GELU"):
        exported(net, tmp_path, **given)
    (found,) = exported(net, tmp_path, options=Options(target=("litert",)), **given)
    assert {edge.kernels for edge in found.edges} == {"lint", "xnnpack", "reference"}


class Gated(nn.Module):
    """A network of MobileNetV3's kind: squeeze-and-excite with a hard sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.Hardswish())
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Hardsigmoid())
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        answer: torch.Tensor = self.head(x * self.gate(x))
        return answer


@pytest.mark.group("export")
def test_a_hard_sigmoid_runs_on_a_microcontroller(tmp_path: Path) -> None:
    pytest.importorskip("tflite_micro")
    torch.manual_seed(0)
    found = exported(Gated().eval(), tmp_path, formats=["tflite"], quant=["fp32", "int8"])
    assert [artifact.read(Path(e)).scheme for e in found] == ["fp32", "int8"]
    assert {edge.kernels for edge in found[1].edges} == {"lint", "xnnpack", "reference", "tflm"}
    kinds = [operator.kind for operator in read(Path(found[1])).operators]
    assert "RELU_0_TO_1" not in kinds
    assert kinds.count("HARD_SWISH") == 1


@pytest.mark.parametrize(("slope", "offset"), [(1 / 6, 0.5), (0.2, 0.5), (0.3, 0.1)])
def test_a_rewritten_hard_sigmoid_is_the_same(tmp_path: Path, slope: float, offset: float) -> None:
    from onnx import TensorProto, helper, save

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 50]) for name in ("x", "y")]
    node = helper.make_node("HardSigmoid", ["x"], ["y"], alpha=slope, beta=offset)
    graph = helper.make_graph([node], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    save(model, tmp_path / "before.onnx")
    hard_sigmoid.rewrite_(model)
    save(model, tmp_path / "after.onnx")
    x = np.linspace(-8, 8, 50, dtype=np.float32)[None]
    before, after = (answer(open_file(tmp_path / f"{name}.onnx"), x) for name in ("before", "after"))
    np.testing.assert_allclose(after, before, atol=1e-6)


def spoiled(net: nn.Module) -> nn.Module:
    other = copy.deepcopy(net)
    next(other.parameters()).data.view(-1)[3] = float("nan")
    return other


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"calibration": torch.zeros(24, 1, 28, 28), "quant": ["int8"]}, "every number of the calibration inputs is 0"),
        (
            {"calibration": torch.zeros(24, 3, 28, 28)},
            r"as calibration are \(24, 3, 28, 28\), the model takes \(n, 1, 28",
        ),
        ({"check_on": torch.zeros(4, 28, 28)}, r"as check_on are \(4, 28, 28\), the model takes \(n, 1, 28, 28\)"),
    ],
)
def test_inputs_that_a_file_cannot_be_made_with_are_refused(
    net: nn.Module, tmp_path: Path, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        exported(net, tmp_path, **given)
    assert not list(tmp_path.iterdir())


def test_weights_that_are_no_numbers_are_refused(net: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"weight holds numbers that are not finite"):
        exported(spoiled(net), tmp_path)


def test_an_example_without_a_batch_is_refused(net: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"example_input is \(1, 28, 28\), the pictures are \(1, 1, 28, 28\)"):
        export(net, X[0], calibration=X, preprocess=PREPROCESSING, classes=CLASSES, out=tmp_path)


def test_a_target_folder_that_is_a_file_is_refused(net: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(InputError, match=r"out/model.fp32.onnx cannot be written: .*out is no folder to write to"):
        exported(net, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="NOT CHECKED: no folder that even root cannot write to")
@pytest.mark.parametrize("out", ["/proc", "/proc/exports"])
def test_a_target_folder_that_takes_no_files_is_refused(net: nn.Module, out: str) -> None:
    with pytest.raises(InputError, match=rf"{out}/model.fp32.onnx cannot be written: /proc is no folder to write to"):
        exported(net, Path(out))


class Merging(nn.Module):
    """A network that sums all the pictures of a batch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1).sum(0)[:10]


def test_a_network_that_drops_the_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gives \(10,\) for one picture; \(1, 10\) is expected"):
        exported(Merging(), tmp_path)
    assert not list(tmp_path.iterdir())
