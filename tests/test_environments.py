"""Environments of tools whose pins collide: what runs there is the tool itself, on the shipped files."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nbedge import environments
from nbedge.environments import ENVIRONMENTS
from nbedge.errors import InputError, MissingDependencyError
from nbedge.runtime import open_file

ROOT = Path(__file__).parent.parent
EXPORTS = ROOT / "sample_models" / "fashion_mnist" / "exports"

#: argv: file, inputs, outputs
RUN = """
import sys
import numpy as np
from tflite_runtime.interpreter import Interpreter

path, inputs, outputs = sys.argv[1:]
interpreter = Interpreter(path, num_threads=1)
interpreter.allocate_tensors()
entry, exit_ = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
found = []
for x in np.load(inputs):
    interpreter.set_tensor(entry["index"], x[None])
    interpreter.invoke()
    found.append(interpreter.get_tensor(exit_["index"])[0].copy())
np.save(outputs, np.stack(found))
"""


@pytest.fixture(autouse=True)
def made_by_make_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(ROOT / ".venv-environments"))


def inputs(dtype: str) -> NDArray[Any]:
    rng = np.random.default_rng(0)
    real = rng.uniform(-0.8, 2.0, (20, 28, 28, 1)).astype(np.float32)
    return real if dtype == "float32" else rng.integers(-128, 128, (20, 28, 28, 1), dtype=np.int8)


@pytest.mark.group("export")
@pytest.mark.parametrize("scheme", ["fp32", "int8"])
def test_tflite_runtime_runs_the_exported_files(tmp_path: Path, scheme: str) -> None:
    pytest.importorskip("ai_edge_litert")
    environment = ENVIRONMENTS["tflite-runtime"]
    if not environment.ready:
        pytest.skip("make setup-environments")
    path = EXPORTS / f"fashion_mnist.{scheme}.tflite"
    runner = open_file(path, "builtin")
    x = inputs(runner.inputs[0].dtype)
    np.save(tmp_path / "x.npy", x)
    command = [str(environment.python), "-c", RUN, str(path), str(tmp_path / "x.npy"), str(tmp_path / "y.npy")]
    subprocess.run(command, check=True, capture_output=True)
    found = np.load(tmp_path / "y.npy")
    wanted = np.concatenate([runner.run({runner.inputs[0].name: row[None]})[runner.outputs[0].name] for row in x])
    assert np.abs(found.astype(float) - wanted).max() <= (1e-4 if scheme == "fp32" else 2)


def test_an_unknown_environment_is_refused() -> None:
    with pytest.raises(InputError, match="no environment is called 'tvm'; choose from tflite-runtime, litert"):
        environments.named("tvm")


def test_what_pip_cannot_install_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    broken = environments.Environment("broken", ("no-such-distribution-of-nbedge==9",), "nothing")
    with pytest.raises(MissingDependencyError, match="pip could not install no-such-distribution-of-nbedge==9"):
        broken.make()
    assert not broken.ready


def test_another_interpreter_imports_from_the_archive(tmp_path: Path) -> None:
    archive = environments.carry(("nbedge", "nbedge_exporters"), tmp_path / "sources.zip")
    code = "import json, nbedge.exporter, nbedge_exporters.tflite_litert as e; print(json.dumps([e.__file__]))"
    environment = ENVIRONMENTS["tflite-runtime"]
    if not environment.ready:
        pytest.skip("make setup-environments")
    done = subprocess.run(
        [str(environment.python), "-c", code],
        env={"PYTHONPATH": str(archive)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)[0].startswith(str(archive))
