import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nbedge.errors import InputError
from nbedge.reference import ModelReference
from nbedge.samples import MobileNetV2

SOURCE = """
from __future__ import annotations
from dataclasses import dataclass
from torch import nn

@dataclass
class Width:
    inputs: int
    outputs: int = 2

def net(inputs: int = 3) -> nn.Module:
    width = Width(inputs)
    return nn.Linear(width.inputs, width.outputs)

def picky(inputs: int):
    raise ValueError("inputs must be even")

def text():
    return "no module"

number = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my_net.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


def test_a_sample_is_built_with_its_arguments() -> None:
    model = ModelReference("sample:mobilenet_v2_tiny", {"num_classes": 4}).build()
    assert isinstance(model, MobileNetV2)
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 4)


def test_a_file_is_run_and_its_factory_called(file: Path) -> None:
    model = ModelReference(f"{file}:net", {"inputs": 5}).build()
    assert isinstance(model, nn.Linear)
    assert model.in_features == 5


def test_a_file_of_a_module_s_name_does_not_take_its_place(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text(SOURCE, encoding="utf-8")
    ModelReference(f"{tmp_path}/json.py:net").build()
    import json

    assert sys.modules["json"] is json
    assert json.loads("1") == 1


def test_a_module_is_imported(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(file.parent)
    assert isinstance(ModelReference("my_net:net").build(), nn.Linear)
    assert isinstance(ModelReference("torch.nn:Linear", {"in_features": 1, "out_features": 1}).build(), nn.Linear)


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        ("mobilenet", {}, "names no model; write sample:NAME"),
        (":net", {}, "names no model"),
        ("sample:", {}, "names no model"),
        ("", {}, "names no model"),
        ("sample:resnet_9000", {}, "holds no function or class 'resnet_9000'"),
        ("sample:TINY", {}, "holds no function or class 'TINY'"),
        ("sample:mobilenet_v2_tiny", {"wide": 3}, 'cannot be built with the arguments {"wide": 3}: TypeError'),
        ("no_such_package.models:net", {}, r"module no_such_package\.models cannot be imported"),
        (".relative:net", {}, "cannot be imported"),
        ("torch.nn:Flatten", {"start_dim": 1, "x": 1}, "cannot be built with the arguments"),
        ("FILE:missing", {}, "holds no function or class 'missing'"),
        ("FILE:number", {}, "holds no function or class 'number'"),
        ("FILE:text", {}, "is a str, not a torch.nn.Module"),
        ("FILE:picky", {"inputs": 3}, "inputs must be even"),
        ("/nowhere/net.py:net", {}, "file /nowhere/net.py does not exist"),
    ],
)
def test_a_reference_that_cannot_be_resolved_is_named(
    file: Path, text: str, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        ModelReference(text.replace("FILE", str(file)), arguments).build()


@pytest.mark.parametrize("content", ["raise KeyError('x')", "def net(:", "import no_such_package"])
def test_what_a_file_raises_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "bad.py").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"bad\.py raises \w+Error"):
        ModelReference(f"{tmp_path}/bad.py:net").build()


@pytest.mark.parametrize(
    ("text", "trusted"),
    [
        ("sample:mobilenet_v2_tiny", True),
        ("timm:mobilenetv2_050", True),
        ("package.models:net", False),
        ("path/to/file.py:net", False),
        ("samples:net", False),
        ("sample:folder/evil.py:net", False),
        ("timm:evil:net", False),
        ("sample", False),
    ],
)
def test_only_what_runs_no_foreign_code_is_trusted(text: str, trusted: bool) -> None:
    assert ModelReference(text).trusted is trusted
