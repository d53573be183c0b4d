"""Metadata inside TFLite files of colour pictures, of several outputs and of litert, by another's reader."""

import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nbedge import Preprocessing, samples
from nbedge.conversion import Options, export
from nbedge.environments import ENVIRONMENTS
from nbedge.verification import Limits

pytest.importorskip("onnx2tf")
#: made by `make test`
ENVIRONMENTS_HERE = Path(__file__).parent.parent / ".venv-environments"
COLOURED = Preprocessing((3, 32, 48), (0.7, 0.5, 0.3), (0.1, 0.2, 0.4))
CLASSES = ("platelet", "red", "white")


@pytest.fixture(scope="module")
def schema() -> ModuleType:
    """Return the reader that Google generates of the schema of TFLite Metadata, out of the wheel of mediapipe."""
    wheel = next(iter((ENVIRONMENTS_HERE / "readers").glob("mediapipe-*.whl")), None)
    if wheel is None:
        pytest.skip("make setup-environments")
    name = "mediapipe/tasks/metadata/metadata_schema_py_generated.py"
    found = ModuleType("metadata_schema")
    with zipfile.ZipFile(wheel) as held:
        exec(compile(held.read(name), name, "exec"), found.__dict__)
    return found


def exported(model: nn.Module, out: Path, task: str, backend: str) -> Path:
    torch.manual_seed(0)
    x = torch.randn(20, *COLOURED.shape)
    (made,) = export(
        model.eval(), x[:1], formats=["tflite"], quant=["fp32"], calibration=x, preprocess=COLOURED, classes=CLASSES,
        out=out, task=task, limits=Limits(flips=100, accuracy_loss=100), options=Options(backend=(backend,)),
    )  # fmt: skip
    return made.artifact.path


def read(path: Path, schema: ModuleType) -> tuple[Any, Any]:
    """Return the model and what its metadata say of its graph."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(path))
    (held,) = (bytes(model.buffers[e.buffer].data) for e in model.metadata if e.name == b"TFLITE_METADATA")
    found = schema.ModelMetadataT.InitFromObj(schema.ModelMetadata.GetRootAsModelMetadata(held, 0))
    return model, found.subgraphMetadata[0]


def coloured(graph: Any, schema: ModuleType) -> None:
    """See that the input is an RGB picture, normalized by three different means and deviations."""
    (entry,) = graph.inputTensorMetadata
    assert entry.content.contentProperties.colorSpace == schema.ColorSpaceType.RGB
    (unit,) = entry.processUnits
    np.testing.assert_allclose(unit.options.mean, [178.5, 127.5, 76.5], rtol=1e-5)
    np.testing.assert_allclose(unit.options.std, [25.5, 51, 102], rtol=1e-5)
    np.testing.assert_allclose(entry.stats.min, [-7, -2.5, -0.75], rtol=1e-5)
    np.testing.assert_allclose(entry.stats.max, [3, 2.5, 1.75], rtol=1e-5)


def labels(path: Path, exit_: Any) -> list[str]:
    with zipfile.ZipFile(path) as held:
        return [
            line for file in exit_.associatedFiles or () for line in held.read(file.name.decode()).decode().splitlines()
        ]


@pytest.mark.group("export")
def test_metadata_of_a_detector_name_both_outputs_and_label_the_scores(tmp_path: Path, schema: ModuleType) -> None:
    torch.manual_seed(0)
    path = exported(samples.detector_tiny(num_classes=3, resolution=32), tmp_path, "detection", "onnx2tf")
    model, graph = read(path, schema)
    coloured(graph, schema)
    exits = {exit_.name: exit_ for exit_ in graph.outputTensorMetadata}
    assert set(exits) == {b"scores", b"boxes"}
    # in the order of the file: scores have a number a class, boxes four
    ends = [model.subgraphs[0].tensors[place].shape[-1] for place in model.subgraphs[0].outputs]
    assert [{b"scores": 3, b"boxes": 4}[exit_.name] for exit_ in graph.outputTensorMetadata] == ends
    assert (labels(path, exits[b"scores"]), labels(path, exits[b"boxes"])) == (list(CLASSES), [])


@pytest.mark.group("export")
def test_a_float_file_of_litert_holds_the_same_metadata(
    tmp_path: Path, schema: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(ENVIRONMENTS_HERE))
    if not ENVIRONMENTS["litert"].ready:
        pytest.skip("make setup-environments")
    torch.manual_seed(0)
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    path = exported(nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), *head), tmp_path, "classification", "litert")
    _, graph = read(path, schema)
    coloured(graph, schema)
    (exit_,) = graph.outputTensorMetadata
    assert labels(path, exit_) == list(CLASSES)
