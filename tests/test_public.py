"""What users import: every name resolves, none is hidden by a module, and nothing heavy is loaded before it is used."""

import subprocess
import sys

import pytest

import nbedge
from nbedge.errors import NbedgeError

HEAVY = {"torch", "pytorch_lightning", "torchmetrics", "tensorflow", "onnx", "onnxruntime", "ai_edge_litert",
         "onnx2tf", "matplotlib", "jinja2", "safetensors", "PIL"}  # fmt: skip


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)


def loaded(*arguments: str) -> set[str]:
    """Return the top-level packages that `python ARGUMENTS` imports."""
    rows = run("-X", "importtime", *arguments).stderr.splitlines()
    return {row.rpartition("|")[2].strip().partition(".")[0] for row in rows if row.startswith("import time:")}


def test_every_public_name_resolves() -> None:
    assert len(set(nbedge.__all__)) == len(nbedge.__all__)
    for name in nbedge.__all__:
        assert callable(getattr(nbedge, name)), name
    assert set(nbedge.__all__) <= set(dir(nbedge))


def test_no_module_hides_a_public_function() -> None:
    program = "import nbedge.conversion.workshop, nbedge.verification.judging, nbedge; print({})"
    names = ("export", "verify", "expand", "contract", "measure", "train")
    found = run("-c", program.format(", ".join(f"nbedge.{name}.__name__" for name in names)))
    assert found.stdout.split() == list(names)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'nbedge' has no attribute 'nothing'"):
        _ = nbedge.nothing  # type: ignore[attr-defined]


def test_a_missing_torch_is_named_with_its_cure() -> None:
    program = """
import sys
sys.modules["torch"] = None
import nbedge
try:
    nbedge.expand
except nbedge.NbedgeError as error:
    print(error.exit_status, error)
"""
    found = run("-c", program).stdout.strip()
    assert found == "3 the package 'torch' is not installed; run: pip install 'nbedge[train]'"


def test_records_and_errors_need_no_torch() -> None:
    program = "import nbedge; nbedge.Plan, nbedge.Site, nbedge.Preprocessing, nbedge.Artifact, nbedge.measure"
    assert loaded("-c", program) & HEAVY == set()


def test_import_loads_nothing_heavy() -> None:
    found = loaded("-c", "import nbedge")
    assert "nbedge" in found
    assert found & (HEAVY | {"numpy", "rich", "click"}) == set()


def test_help_loads_nothing_heavy() -> None:
    found = loaded("-m", "nbedge", "--help")
    assert "click" in found
    assert found & HEAVY == set()


def test_the_root_of_the_errors_is_public() -> None:
    assert nbedge.NbedgeError is NbedgeError
