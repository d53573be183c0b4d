"""Which exporters run, in which order, with which settings."""

from typing import Any

import pytest

from nbedge.conversion import Options, chain
from nbedge.errors import ExportError


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
        (["tflite"], ["int8"], {"opset": "23"}, "opset '23' has no effect"),
        (["tflite"], ["fp32"], {"batch": "dynamic"}, "batch 'dynamic' has no effect"),
        (["onnx"], ["dynamic"], {"batch": "dynamic"}, "batch 'dynamic' has no effect"),
        (
            ["onnx"],
            ["fp32", "dynamic"],
            {"batch": "dynamic"},
            "dynamic files take one input at a time; export them apart",
        ),
        (["onnx"], ["int8x16"], {"operators": "qoperator"}, "operators 'qoperator' has no effect"),
        (["onnx"], ["int8"], {"backend": ("litert",)}, "the backend litert makes none of these files"),
        (["onnx"], ["int8"], {"backend": ("onnxruntime", "litert")}, "the backend litert makes none of these files"),
    ],
)
def test_options_that_no_exporter_has_are_refused(
    formats: list[str], schemes: list[str], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ExportError, match=words):
        chain.planned(formats, schemes, Options(**options))


def test_options_reach_what_they_are_for() -> None:
    options = Options(batch="dynamic", operators="qoperator", head="softmax", target=("tflm",))
    made, again = chain.planned(["onnx", "tflite"], ["fp32", "int8", "int8x16"], options)
    told = {(step.name, scheme): dict(step.settings) for step in made for scheme in step.kept}
    head, batch, target = {"head": "softmax"}, {"batch": "dynamic"}, {"target": "tflm"}
    assert told == {
        ("onnx", "fp32"): {**batch, **head},
        ("onnx-int8", "int8"): {"operators": "qoperator"}, ("onnx-int8x16", "int8x16"): {},
        ("tflite", "fp32"): target, ("tflite", "int8"): target, ("tflite", "int8x16"): target,
    }  # fmt: skip
    assert again == []
    assert [step.batch for step in made if step.name.startswith("onnx-int8")] == ["dynamic"] * 2


def test_what_gives_single_operators_no_other_type_is_not_asked_to() -> None:
    named = Options(backend=("onnx2tf",), target=("litert",))
    with pytest.raises(ExportError, match="onnx2tf gives single operators no other type than the scheme's"):
        chain.steps(["tflite"], ["int8"], named, exempt="float")
    assert chain.steps(["tflite"], ["int8"], Options(target=("litert",)), exempt="float")[-1].name == "tflite-quantizer"


@pytest.mark.parametrize("options", [{"head": "sigmoid"}, {"input_type": "int4"}])
def test_unknown_ends_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ExportError, match="choose from"):
        Options(**options)
