import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nbedge import artifact, samples
from nbedge.conversion import Options, chain, export, process
from nbedge.conversion.exporting import stacked
from nbedge.conversion.places import file_name
from nbedge.errors import ExportError, GateError, InputError, MissingDependencyError
from nbedge.exporter import Job, exporters
from nbedge.graph import read
from nbedge.preprocessing import Preprocessing
from nbedge.runtime import answer, open_file
from nbedge.verification import Limits
from nbedge_exporters import hard_sigmoid

PREPROCESSING = Preprocessing((1, 28, 28), (0.3,), (0.35,))
X = torch.randn(24, 1, 28, 28, generator=torch.Generator().manual_seed(0))
CLASSES = tuple("0123456789")

#: exporters that go wrong, each in its own way
PLUGIN = """
import os, sys
from dataclasses import dataclass, field
from nbedge.errors import ExportError, needs

@dataclass(frozen=True)
class Exporter:
    produces: str
    how: object = None
    consumes: str = "torch"
    schemes: frozenset = frozenset({"fp32"})
    backend: str = "faulty"
    options: dict = field(default_factory=dict)
    needs: dict = field(default_factory=dict)
    extra: str = "onnx"
    packages: tuple = ()
    imports: tuple = ()

    def convert(self, job):
        print("converting to", self.produces, flush=True)
        self.how(job)

    def open(self, path):
        raise AssertionError("nothing of it runs")

def fail(job):
    raise ValueError("operator Foo is unknown\\nand more")

def refuse(job):
    raise ExportError("the net has two outputs; give it one")

def miss(job):
    with needs("onnx"):
        import no_such_package

failing = Exporter("failing", fail)
refusing = Exporter("refusing", refuse)
missing = Exporter("missing", miss)
leaving = Exporter("leaving", lambda job: sys.exit("bye"))
dying = Exporter("dying", lambda job: os._exit(7))
aborting = Exporter("aborting", lambda job: os.abort())
idle = Exporter("idle", lambda job: None)
writing = Exporter("writing", lambda job: job.targets["fp32"].write_bytes(job.source.read_bytes()[::-1]))
ping = Exporter("ping", consumes="pong")
pong = Exporter("pong", consumes="ping")
"""
NAMES = ("failing", "refusing", "missing", "leaving", "dying", "aborting", "idle", "writing", "ping", "pong")


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a distribution with exporters, for this process and those that it starts."""
    site = tmp_path / "site"
    record = site / "faulty-1.0.dist-info"
    record.mkdir(parents=True)
    (site / "faulty_exporters.py").write_text(PLUGIN, encoding="utf-8")
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n", encoding="utf-8")
    lines = "\n".join(f"{name} = faulty_exporters:{name}" for name in NAMES)
    (record / "entry_points.txt").write_text(f"[nbedge.exporters]\n{lines}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(site), os.environ.get("PYTHONPATH", ""))))
    return site


@pytest.fixture
def job(tmp_path: Path) -> Job:
    workdir = tmp_path / "work"
    workdir.mkdir()
    (workdir / "source.pt2").write_bytes(b"no program")
    np.save(tmp_path / "calibration.npy", np.zeros((1, 1, 28, 28), np.float32))
    return Job(workdir / "source.pt2", {"fp32": tmp_path / "out.bin"}, tmp_path / "calibration.npy", workdir)


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


# chains


def order(formats: list[str], schemes: list[str]) -> list[tuple[str, list[str]]]:
    return [(step.name, sorted(step.schemes)) for step in chain.steps(formats, schemes)]


def test_a_source_is_made_before_what_is_made_of_it() -> None:
    assert order(["onnx"], ["fp32"]) == [("onnx", ["fp32"])]
    assert order(["onnx"], ["fp32", "int8"]) == [("onnx", ["fp32"]), ("onnx-int8", ["int8"])]
    assert order(["tflite"], ["fp32", "int8"]) == [("onnx", ["fp32"]), ("tflite", ["fp32", "int8"])]


def test_the_fp32_source_is_made_even_if_nobody_asked_for_it() -> None:
    assert order(["tflite"], ["int8"]) == [("onnx", ["fp32"]), ("tflite", ["fp32", "int8"])]
    assert order(["onnx"], ["int8"]) == [("onnx", ["fp32"]), ("onnx-int8", ["int8"])]


def test_each_step_runs_once_whatever_the_order_of_the_formats() -> None:
    found = order(["tflite", "onnx"], ["int8", "fp32"])
    assert sorted(found) == [("onnx", ["fp32"]), ("onnx-int8", ["int8"]), ("tflite", ["fp32", "int8"])]
    assert found[0] == ("onnx", ["fp32"])


@pytest.mark.parametrize(
    ("formats", "schemes", "words"),
    [
        (["onnx"], ["int4"], "unknown scheme 'int4'; choose from fp32"),
        (["coreml"], ["fp32"], "no exporter writes 'fp32' in the format 'coreml'; installed are"),
        (["onnx"], ["int8", "int4"], "unknown scheme 'int4'"),
        ([], ["fp32"], "nothing to export"),
        (["onnx"], [], "nothing to export"),
    ],
)
def test_what_nothing_makes_is_refused(formats: list[str], schemes: list[str], words: str) -> None:
    with pytest.raises(ExportError, match=words):
        chain.steps(formats, schemes)


def described(formats: list[str], schemes: list[str], **options: Any) -> list[tuple[str, dict[str, str], list[str]]]:
    found = chain.steps(formats, schemes, Options(**options))
    return [(step.name, dict(step.settings), sorted(step.kept)) for step in found]


def test_the_source_of_tflite_keeps_its_own_batch_and_opset() -> None:
    found = described(["onnx", "tflite"], ["fp32"], batch="dynamic", opset="23")
    assert found == [
        ("onnx", {"opset": "23", "batch": "dynamic"}, ["fp32"]), ("onnx", {}, []), ("tflite", {}, ["fp32"]),
    ]  # fmt: skip


def test_a_setting_that_is_the_usual_one_makes_no_file_of_its_own() -> None:
    found = described(["onnx"], ["fp32", "int8"], opset="20", batch="1", method="minmax", operators="qdq")
    assert found == [("onnx", {}, ["fp32"]), ("onnx-int8", {}, ["int8"])]


def test_backends_are_a_choice() -> None:
    assert described(["tflite"], ["fp32", "int8"], backend=("litert",)) == [
        ("tflite-litert", {}, ["fp32"]), ("tflite-quantizer", {}, ["int8"]),
    ]  # fmt: skip
    assert [name for name, _, _ in described(["tflite"], ["int8"])] == ["onnx", "tflite"]
    # what the usual backend cannot make, another one makes of its file
    assert [name for name, _, _ in described(["tflite"], ["dynamic"])] == ["onnx", "tflite", "tflite-quantizer"]


def test_each_exporter_is_told_its_own_target() -> None:
    found = described(["onnx", "tflite"], ["int8"], target=("arm", "tflm"))
    assert found == [
        ("onnx", {}, []), ("onnx-int8", {"target": "arm"}, ["int8"]), ("tflite", {"target": "tflm"}, ["int8"]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("formats", "schemes", "options", "words"),
    [
        (["tflite"], ["int8"], {"method": "entropy"}, r"tflite \(onnx2tf\) has no method 'entropy'; it has minmax"),
        (["onnx"], ["fp32"], {"opset": "13"}, "onnx .* has no opset '13'; it has 20, 18"),
        (["onnx"], ["fp32"], {"method": "entropy"}, "method 'entropy' has no effect on these files; leave it out"),
        (["tflite"], ["int8"], {"operators": "qoperator"}, "operators 'qoperator' has no effect"),
        (["onnx"], ["fp32"], {"backend": ("tvm",)}, "no installed exporter has the backend 'tvm'; there are .*onnx2tf"),
        (["onnx"], ["int8"], {"target": ("tflm",)}, "unknown target 'tflm': .* know arm, x86-avx2, x86-vnni"),
        (["onnx"], ["fp32"], {"target": ("arm",)}, "unknown target 'arm': .* know no targets"),
        (["onnx"], ["int8"], {"target": ("arm", "x86-vnni")}, "arm and x86-vnni need files of their own"),
    ],
)
def test_options_that_no_exporter_has_are_refused(
    formats: list[str], schemes: list[str], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ExportError, match=words):
        chain.steps(formats, schemes, Options(**options))


@pytest.mark.parametrize("options", [{"head": "sigmoid"}, {"input_type": "int4"}])
def test_unknown_ends_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ExportError, match="choose from"):
        Options(**options)


@pytest.mark.usefixtures("plugin")
def test_exporters_that_consume_each_other_are_refused() -> None:
    with pytest.raises(ExportError, match="ping, pong consume each other's files"):
        chain.steps(["ping"], ["fp32"])


# processes


@pytest.mark.usefixtures("plugin")
@pytest.mark.group("export")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("failing", "the exporter failing failed: ValueError: operator Foo is unknown; see LOG"),
        ("refusing", "the net has two outputs; give it one; see LOG"),
        ("leaving", "the exporter leaving failed: SystemExit: bye; see LOG"),
        ("dying", "the exporter dying died with status 7; see LOG"),
        ("aborting", "the exporter aborting crashed with SIGABRT; see LOG"),
        ("idle", "the exporter idle ended without an error but did not write OUT; see LOG"),
    ],
    ids=["failing", "refusing", "leaving", "dying", "aborting", "idle"],
)
def test_an_exporter_that_goes_wrong_is_answered_with_its_log(job: Job, tmp_path: Path, name: str, words: str) -> None:
    log = tmp_path / "logs" / f"{name}.log"
    with pytest.raises(ExportError) as caught:
        process.run(name, exporters()[name], job, log)
    assert str(caught.value) == words.replace("LOG", str(log)).replace("OUT", str(job.targets["fp32"]))
    assert f"converting to {name}" in log.read_text(encoding="utf-8")


@pytest.mark.usefixtures("plugin")
@pytest.mark.group("export")
def test_a_missing_package_of_an_exporter_keeps_its_own_error(job: Job, tmp_path: Path) -> None:
    with pytest.raises(MissingDependencyError, match=r"pip install 'nbedge\[onnx\]'"):
        process.run("missing", exporters()["missing"], job, tmp_path / "log")


@pytest.mark.usefixtures("plugin")
@pytest.mark.group("export")
def test_an_exporter_writes_what_it_was_asked_for(job: Job, tmp_path: Path) -> None:
    process.run("writing", exporters()["writing"], job, tmp_path / "log")
    assert job.targets["fp32"].read_bytes() == b"margorp on"


@pytest.mark.group("export")
@pytest.mark.parametrize("name", ["onnx", "onnx-int8"])
def test_a_damaged_source_fails_with_a_log(job: Job, tmp_path: Path, name: str) -> None:
    targets = {"fp32" if name == "onnx" else "int8": tmp_path / "out.onnx"}
    broken = Job(job.source, targets, job.calibration, job.workdir)
    with pytest.raises(InputError, match=r"see .*/log$"):
        process.run(name, exporters()[name], broken, tmp_path / "log")
    assert "Traceback" in (tmp_path / "log").read_text(encoding="utf-8")
    assert not (tmp_path / "out.onnx").exists()


# export


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


# records


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    path = tmp_path / "a.fp32.onnx"
    path.write_bytes(b"content")
    spec = artifact.TensorSpec("input", (1, 1, 28, 28), "float32", "NCHW")
    artifact.Artifact(
        path, "onnx", "fp32", (spec,), (spec,), PREPROCESSING, CLASSES, "x", {"a": "1"}
    ).sealed().write_sidecar()
    return path


def spoil_file(path: Path) -> None:
    path.write_bytes(b"other")


def spoil_sidecar(path: Path) -> None:
    artifact.sidecar(path).write_text("{}", encoding="utf-8")


def cut_sidecar(path: Path) -> None:
    place = artifact.sidecar(path)
    place.write_bytes(place.read_bytes()[:-20])


def drop_sidecar(path: Path) -> None:
    artifact.sidecar(path).unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_file, "is not the file that a.fp32.onnx.json describes"),
        (spoil_sidecar, "is no sidecar"),
        (cut_sidecar, "is no sidecar"),
        (drop_sidecar, "the sidecar .* does not exist"),
        (Path.unlink, "the file .* does not exist"),
    ],
)
def test_a_file_that_is_not_what_its_sidecar_says_is_refused(
    sealed: Path, spoil: Callable[[Path], object], words: str
) -> None:
    assert artifact.read(sealed).size_bytes == 7
    spoil(sealed)
    with pytest.raises(InputError, match=words):
        artifact.read(sealed)


def test_a_sidecar_names_the_types_of_its_scheme(sealed: Path) -> None:
    record = json.loads(artifact.sidecar(sealed).read_text(encoding="utf-8"))
    assert (record["schema_version"], record["file"], record["weights"], record["io"]) == (
        1,
        "a.fp32.onnx",
        "fp32",
        "fp32",
    )


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
    with pytest.raises((InputError, OSError)):
        exported(net, tmp_path / "out")
