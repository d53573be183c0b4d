"""Every fault is caught, by the check that is meant for it, or refused; every correct merge is accepted."""

import copy
from pathlib import Path

import pytest
import torch

import nbedge
from faults import files, merges, pairs
from nbedge.cli.subject import open_subject
from nbedge.conversion import export
from nbedge.data import load
from nbedge.errors import GateError, InputError, NbedgeError
from nbedge.localization import locate
from nbedge.verification import Families, families, verify_edges
from nbedge.verification.lint import lint

SAMPLES = Path(__file__).parent.parent / "sample_models"
DATA = {"fashion_mnist": "npz:{}/data.npz", "blood_cells": "folder:{}/data"}
#: seeds of the correct merges: with 6 kinds of block and 6 regimes 216 pairs, of 1 to 6 merged layers each
SEEDS = range(6)


@pytest.fixture(scope="module")
def correct() -> dict[str, pairs.Pair]:
    return {inserted: pairs.pair(inserted) for inserted in pairs.INSERTED}


@pytest.mark.group("faults")
@pytest.mark.parametrize(
    ("fault", "inserted"), [pytest.param(f, i, id=f"{f.name}, {i}") for f in merges.FAULTS for i in f.inserted]
)
def test_a_fault_of_a_merge_is_caught(correct: dict[str, pairs.Pair], fault: merges.MergeFault, inserted: str) -> None:
    whole = correct[inserted]
    torch.manual_seed(0)
    spoiled = merges.made(fault, pairs.Pair(whole.name, *copy.deepcopy((whole.giant, whole.tiny)), whole.x))
    judged = nbedge.verify(spoiled.giant, spoiled.tiny, spoiled.x)
    assert not judged
    assert any(check.name.startswith(fault.check) for check in judged.failures()), judged.failures()
    assert any((fault.elsewhere or fault.site) in check.detail for check in judged.failures()), judged.failures()


@pytest.mark.group("faults")
@pytest.mark.parametrize("inserted", pairs.INSERTED)
@pytest.mark.parametrize("regime", pairs.REGIMES)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_correct_merge_is_accepted(inserted: str, regime: str, seed: int) -> None:
    made = pairs.pair(inserted, regime, seed)
    assert nbedge.verify(made.giant, made.tiny, made.x).failures() == []


@pytest.fixture(scope="module")
def given() -> dict[str, Families]:
    found = {}
    for sample, data in DATA.items():
        known = open_subject(str(files.exported(sample, "fp32.onnx")))
        held = load(data.format(SAMPLES / sample), known.pictured()).validation
        found[sample] = families(known.shape, known.preprocessing, known.prepared()(held.spread(60).images[:]))
    return found


@pytest.mark.group("faults")
@pytest.mark.parametrize(
    ("fault", "sample"), [pytest.param(f, s, id=f"{f.name}, {s}") for f in files.FAULTS for s in f.samples]
)
def test_a_fault_of_a_file_is_caught(
    given: dict[str, Families], fault: files.FileFault, sample: str, tmp_path: Path
) -> None:
    pytest.importorskip("ai_edge_litert")
    try:
        found = files.failed(*files.made(fault, sample, tmp_path), given[sample])
    except NbedgeError:  # a runtime that does not take the file is a refusal
        return
    assert any(name.startswith(fault.check) for name in found), found


@pytest.mark.group("faults")
@pytest.mark.parametrize(
    ("fault", "sample"), [pytest.param(f, s, id=f"{f.name}, {s}") for f in files.FAULTS if f.layer for s in f.samples]
)
def test_the_layer_of_a_fault_is_named(
    given: dict[str, Families], fault: files.FileFault, sample: str, tmp_path: Path
) -> None:
    pytest.importorskip("ai_edge_litert")
    before, after = files.made(fault, sample, tmp_path)
    assert after.path is not None
    edge = next(edge for edge in verify_edges(before, after, given[sample]) if not edge)
    found = locate(edge, before, after, given[sample]).localization.first_bad
    assert found is not None
    assert found.candidate == files.first_bad(fault, after.path)


@pytest.mark.group("faults")
@pytest.mark.parametrize("sample", DATA)
@pytest.mark.parametrize("name", ["fp32.onnx", "int8.onnx", "fp32.tflite", "int8.tflite"])
def test_files_without_a_fault_are_accepted(given: dict[str, Families], sample: str, name: str) -> None:
    pytest.importorskip("ai_edge_litert")
    reference = "chosen.safetensors" if name == "fp32.onnx" else f"exports/{sample}.fp32.onnx"
    before, after = (open_subject(str(SAMPLES / sample / n)) for n in (reference, f"exports/{sample}.{name}"))
    assert files.failed(before, after, given[sample]) == []


@pytest.mark.group("faults")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize("sample", DATA)
def test_an_exported_training_mode_is_caught(given: dict[str, Families], sample: str, tmp_path: Path) -> None:
    before = open_subject(str(SAMPLES / sample / "contracted.safetensors"))
    after = open_subject(str(files.exported_in_training_mode(before, tmp_path / "training.onnx")))
    assert any(name.startswith(files.FLOAT) for name in files.failed(before, after, given[sample]))


@pytest.mark.parametrize("sample", DATA)
def test_weights_behind_the_flatbuffer_are_caught(sample: str, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    checks = lint(files.with_weights_behind(sample, tmp_path), "int8")
    assert "buffers outside the flatbuffer" in [check.name for check in checks if str(check.verdict) == "FAIL"]


@pytest.mark.group("faults")
@pytest.mark.parametrize("format", ["onnx", "tflite"])
def test_a_calibration_on_one_picture_is_not_kept(given: dict[str, Families], format: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx2tf" if format == "tflite" else "onnxruntime")
    subject = open_subject(str(SAMPLES / "fashion_mnist" / "contracted.safetensors"))
    assert isinstance(subject.model, torch.nn.Module)
    real = torch.from_numpy(given["fashion_mnist"]["real"])
    with pytest.raises(GateError, match="calibration inputs"):
        export(
            subject.model, real[:1], calibration=real[:1], preprocess=subject.prepared(), classes=subject.classes,
            out=tmp_path, formats=(format,), quant=("int8",), check_on=real,
        )  # fmt: skip
    assert not list(tmp_path.glob(f"*.int8.{format}"))


@pytest.mark.parametrize("name", ["fp32.onnx", "int8.onnx", "fp32.tflite", "int8.tflite"])
def test_a_file_cut_short_or_beside_another_sidecar_is_refused(name: str, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    with pytest.raises(InputError):
        open_subject(str(files.cut_short("fashion_mnist", tmp_path, name)))
    if name != "fp32.onnx":
        with pytest.raises(InputError):
            open_subject(str(files.with_another_sidecar("fashion_mnist", tmp_path, name)))


def test_the_registry_is_as_large_as_the_guide_says() -> None:
    names = [fault.name for fault in (*merges.FAULTS, *files.FAULTS)]
    assert len(names) == len(set(names)) >= 40
    assert len(pairs.INSERTED) * len(pairs.REGIMES) * len(SEEDS) >= 200
