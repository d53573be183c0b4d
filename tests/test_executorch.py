"""ExecuTorch files: really exported, run and verified in an environment of their own, and read here."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nbedge import artifact
from nbedge.conversion import export
from nbedge.environments import ENVIRONMENTS
from nbedge.errors import ExportError, GateError, InputError, MissingDependencyError
from nbedge.graph import Graph, macs, read
from nbedge.preprocessing import Preprocessing
from nbedge.runtime import open_file
from nbedge.runtime.elsewhere import _started
from nbedge.verification import Limits, Verdict
from nbedge.verification.lint import lint
from nbedge.verification.lint.weights import weights

pytest.importorskip("onnx")
ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "sample_models" / "fashion_mnist"
TINY, DATA = SAMPLE / "contracted.safetensors", f"npz:{SAMPLE / 'data.npz'}"
FLOAT, INTEGER = "f.fp32.pte", "f.int8-float-io.pte"
#: of untrained networks only the conversion is judged
LOOSE = Limits(sqnr_db=5, flips=100, accuracy_loss=100)


@pytest.fixture(autouse=True)
def made_by_make_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(ROOT / ".venv-environments"))


def nbedge(line: str, status: int = 0, cache: Path = ROOT / ".venv-environments") -> str:
    done = subprocess.run(
        [sys.executable, "-m", "nbedge", *line.split()], env={**os.environ, "XDG_CACHE_HOME": str(cache)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the sample's two files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(ROOT / ".venv-environments"))
        if not ENVIRONMENTS["executorch"].ready:
            pytest.skip("make setup-environments")
    out = tmp_path_factory.mktemp("pte")
    nbedge(f"export {TINY} --format pte --quant fp32,int8-float-io --calib {DATA} --out {out} --name f")
    return out


@pytest.mark.group("export")
@pytest.mark.parametrize(("name", "origin"), [(FLOAT, TINY.name), (INTEGER, FLOAT)])
def test_a_file_is_kept_with_all_that_is_known_of_it(files: Path, name: str, origin: str) -> None:
    about = artifact.read(files / name)
    assert (about.format, about.derived_from, len(about.classes)) == ("pte", origin, 10)
    for spec, shape in ((about.inputs[0], (1, 1, 28, 28)), (about.outputs[0], (1, 10))):
        assert (spec.shape, spec.dtype, spec.scale) == (shape, "float32", 0)
    assert about.inputs[0].layout == "NCHW"
    assert [(v["reference"], v["kernels"], v["verdict"]) for v in about.verdicts] == [
        (origin, "lint", "PASS"), (origin, "executorch", "PASS"),
    ]  # fmt: skip
    assert {"torch", "executorch", "torchao"} <= about.tools.keys()


@pytest.mark.group("export")
def test_verify_judges_the_chain_and_refuses_another_model(files: Path) -> None:
    said = json.loads(nbedge(f"verify {TINY} {files / FLOAT} {files / INTEGER} --data {DATA} --pictures 200 --json"))
    assert said["verdict"] == "PASS"
    edges = [(edge["reference"], edge["candidate"], edge["kernels"]) for edge in said["edges"]]
    assert edges == [
        (TINY.name, FLOAT, "lint"), (TINY.name, FLOAT, "executorch"),
        (FLOAT, INTEGER, "lint"), (FLOAT, INTEGER, "executorch"),
    ]  # fmt: skip
    for candidate in (FLOAT, INTEGER):
        line = f"verify {SAMPLE / 'control.safetensors'} {files / candidate} --data {DATA} --pictures 50"
        assert "FAIL" in nbedge(line, status=1)


@pytest.mark.group("export")
def test_the_integer_file_is_as_good_as_that_of_tflite(files: Path) -> None:
    said = json.loads(nbedge(f"verify {files / FLOAT} {files / INTEGER} --data {DATA} --json"))
    found = {check["name"]: check["value"] for edge in said["edges"] for check in edge["checks"]}
    # 31.7 measured, 31.5 of TFLite; 28.3 where convolutions are rounded before they are clamped
    assert found["SQNR, real"] > 30.5
    assert found["other operators in float"] == found["operators outside XNNPACK"] == 0


@pytest.mark.group("export")
def test_evaluate_and_predict_take_them(files: Path, tmp_path: Path) -> None:
    from PIL import Image

    rows = json.loads(nbedge(f"evaluate {files / FLOAT} {files / INTEGER} --data {DATA} --reference {TINY} --json"))
    tops = {Path(row["file"]).name: row["top1"] for row in rows["rows"]}
    assert rows["rows"][0]["flips"] == 0
    assert abs(tops[FLOAT] - tops[INTEGER]) < 1
    with np.load(SAMPLE / "data.npz") as data:
        Image.fromarray(data["test_images"][0].reshape(28, 28)).save(tmp_path / "picture.png")
    answers = [
        json.loads(nbedge(f"predict {path} {tmp_path / 'picture.png'} --json"))["answers"]
        for path in (TINY, files / FLOAT)
    ]
    assert [a["class"] for a in answers[0]] == [a["class"] for a in answers[1]]


@pytest.mark.group("export")
def test_what_is_read_of_a_file_is_the_network_of_other_formats(files: Path) -> None:
    float_, integer = read(files / FLOAT), read(files / INTEGER)
    onnx = read(SAMPLE / "exports" / "fashion_mnist.fp32.onnx")

    def count(graph: Graph) -> int:
        return sum(macs(graph, operator) for operator in graph.operators)

    assert count(float_) == count(integer) == count(onnx)
    shapes = [sorted(w.values.size for w in weights(graph)) for graph in (float_, integer, onnx)]
    assert shapes[0] == shapes[1] == shapes[2]
    kinds = {t.dtype for w in weights(integer) for t in (w.tensor,)}
    assert (kinds, integer.tensors[integer.inputs[0]].dtype) == ({"int8"}, "float32")


@pytest.mark.group("export")
def test_a_float_file_that_claims_integers_fails(files: Path) -> None:
    wrong = {c.name for c in lint(files / FLOAT, "int8-float-io") if c.verdict is Verdict.FAIL}
    assert wrong >= {"float multiply-accumulates", "integer kernels missing", "operators with float weights"}
    assert {c.name for c in lint(files / INTEGER, "int8") if c.verdict is Verdict.FAIL} == {"input and output"}


@pytest.mark.group("export")
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_refused_or_read(files: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray((files / INTEGER).read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=20)):
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.pte"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with suppress(InputError):  # what was changed may be a weight, which is as good as any other
        read(path)


@pytest.mark.group("export")
def test_a_file_that_cannot_be_run_is_one_sentence(files: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.pte").write_bytes((files / FLOAT).read_bytes()[:20_000])
    (tmp_path / "no.pte").write_bytes(b"nothing")
    for name in ("cut.pte", "no.pte"):
        with pytest.raises(InputError, match=rf"ExecuTorch cannot load .*{name}.*; export the file again"):
            open_file(tmp_path / name)
    assert "cannot load" in nbedge(f"verify {TINY} {tmp_path / 'cut.pte'}", status=2)


@pytest.mark.group("export")
def test_a_runtime_that_dies_is_one_sentence_and_another_one_starts(files: Path) -> None:
    runner = open_file(files / FLOAT)
    fed = {"input": np.ones((1, 1, 28, 28), np.float32)}
    wanted = runner.run(fed)["output"]
    _started(str(ENVIRONMENTS["executorch"].python)).process.kill()
    with pytest.raises(InputError, match=r"f.fp32.pte: the process that runs it ended with status -9"):
        runner.run(fed)
    np.testing.assert_array_equal(open_file(files / FLOAT).run(fed)["output"], wanted)


def test_without_its_environment_the_command_that_makes_it_is_said(tmp_path: Path) -> None:
    cure = "run: nbedge doctor --install executorch"
    line = f"export {TINY} --format pte --quant fp32 --calib {DATA} --out {tmp_path / 'out'}"
    assert cure in nbedge(line, status=3, cache=tmp_path)
    (tmp_path / "f.pte").write_bytes(b"nothing")
    assert cure in nbedge(f"predict {tmp_path / 'f.pte'} {tmp_path / 'x.png'}", status=3, cache=tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path))
        with pytest.raises(MissingDependencyError, match=cure):
            open_file(tmp_path / "f.pte")


def test_what_it_does_not_have_is_refused_by_name(tmp_path: Path) -> None:
    line = f"export {TINY} --format pte --calib {DATA} --out {tmp_path}"
    assert "no exporter writes 'int8' in the format 'pte'" in nbedge(f"{line} --quant int8", status=2)
    said = nbedge(f"{line} --quant fp32 --input-type uint8-image", status=2)
    assert "the exporter executorch (executorch) has no input 'uint8'; it has float32" in said
    assert "has no method 'entropy'" in nbedge(f"{line} --quant fp32 --method entropy", status=2)


def exported(network: nn.Module, out: Path) -> dict[str, dict[str, float]]:
    """Return scheme -> name of a check -> value."""
    torch.manual_seed(0)
    x = torch.randn(40, 3, 16, 16)
    found = export(
        network.eval(), x[:1], formats=["pte"], quant=["fp32", "int8-float-io"], calibration=x, classes="abcde",
        preprocess=Preprocessing((3, 16, 16), (0.5,) * 3, (0.2,) * 3), out=out, limits=LOOSE,
    )  # fmt: skip
    return {e.artifact.scheme: {c.name: c.value for edge in e.edges for c in edge.checks} for e in found}


@pytest.mark.group("export")
@pytest.mark.usefixtures("files")
def test_what_xnnpack_has_no_integers_for_is_listed_and_dead_channels_are_kept(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
    with torch.no_grad():
        first.weight[:2] = 0
        first.bias[1] = 3  # type: ignore[index]
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    found = exported(nn.Sequential(first, nn.Hardswish(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), *head), tmp_path)
    assert found["int8-float-io"]["float multiply-accumulates"] == 0
    assert found["int8-float-io"]["other operators in float"] > 0
    assert found["int8-float-io"]["SQNR, real"] > 30


@pytest.mark.group("export")
@pytest.mark.usefixtures("files")
def test_weights_of_a_wide_layer_use_all_steps_and_a_convolution_in_float_is_no_integer_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    wide = exported(nn.Sequential(nn.Flatten(), nn.Linear(768, 2000), nn.ReLU(), nn.Linear(2000, 5)), tmp_path)
    assert wide["int8-float-io"]["scales of weights too wide"] <= 1.01
    dilated = nn.ConvTranspose2d(8, 8, 3, stride=2, dilation=2, groups=2)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), dilated, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    with pytest.raises(GateError, match="float multiply-accumulates is 1 operators"):
        exported(network, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.pte"))


class Volumes(nn.Module):
    """A convolution of three dimensions, which XNNPACK has no kernels for."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 5, (1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x[:, :, None])
        return y.mean((2, 3, 4))


@pytest.mark.group("export")
@pytest.mark.usefixtures("files")
def test_a_convolution_that_is_not_xnnpacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"XNNPACK cannot compute aten\.convolution.* as this network uses it"):
        exported(Volumes(), tmp_path)
