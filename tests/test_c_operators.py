"""Every operator of the C exporter gives TFLite Micro's bytes, whatever its shapes and scales; under sanitizers."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from nbedge.artifact import TensorSpec
from nbedge.errors import ExportError
from nbedge.graph import read
from nbedge.runtime.tflite import of_micro
from nbedge_exporters.c import writing
from nbedge_exporters.c.folder import TYPES
from nbedge_exporters.c.lowering import LOWERINGS, RENAMING, lower
from nbedge_exporters.c.memory import plan
from nbedge_exporters.c.running import WARNINGS
from operators import OPERATORS
from tflite_files import Net, Op, Tensor

pytest.importorskip("tflite_micro")
FLAGS = (*WARNINGS, "-Werror", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover")
MAIN = """
#include <stdio.h>
#include "model.h"
int main(void) {
  while (fread(model_input(), 1, MODEL_INPUT_BYTES, stdin) == MODEL_INPUT_BYTES) {
    model_invoke();
    fwrite(model_output(), 1, MODEL_OUTPUT_BYTES, stdout);
  }
  return 0;
}
"""
#: inputs of each network
INPUTS = 3


@pytest.fixture(scope="module")
def kernels() -> Iterator[Path]:
    """A folder with the kernels, compiled once."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        names = {*writing.HEADERS, *(f"nbedge_{part}.c" for part in set(writing.SOURCES.values()))}
        writing.write(
            folder,
            [(file, writing.kernel(file)) for file in names],
        )
        (folder / "main.c").write_text(MAIN, encoding="utf-8")
        for source in sorted(folder.glob("nbedge_*.c")):
            subprocess.run(["gcc", *FLAGS, "-c", source, "-o", source.with_suffix(".o")], check=True)
        yield folder


@pytest.mark.group("c")
@pytest.mark.parametrize("kind", OPERATORS)
def test_the_bytes_are_those_of_tflite_micro(kind: str, kernels: Path) -> None:
    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    @given(OPERATORS[kind])
    def same(net: Net) -> None:
        with TemporaryDirectory() as folder:
            path = net.write(Path(folder) / "net.tflite")
            runner = of_micro(path)
            entry, exit_ = runner.inputs[0], runner.outputs[0]
            inputs = [_input(entry, seed) for seed in range(INPUTS)]
            wanted = b"".join(runner.run({entry.name: x})[exit_.name].tobytes() for x in inputs)
            assert _answered(path, kernels, inputs) == wanted

    same()


@pytest.mark.group("c")
def test_a_hard_swish_whose_multiplier_is_nearly_a_tie(kernels: Path, tmp_path: Path) -> None:
    # hypothesis found it once in some thousand nets: float and double quotients round to other multipliers
    tensors = [
        Tensor(shape=(1, 16, 16, 1), dtype="int8", scale=scale, zero=0, data=None, axis=0, signature=())
        for scale in (1.0, 1.3195079565048218)
    ]
    swish = Op(kind="HARD_SWISH", inputs=[0], outputs=[1], table="HardSwishOptions", options={}, version=1)
    path = Net(tensors=tensors, ops=[swish], inputs=(0,), outputs=(1,)).write(tmp_path / "net.tflite")
    runner = of_micro(path)
    entry, exit_ = runner.inputs[0], runner.outputs[0]
    x = _input(entry, 0)
    assert _answered(path, kernels, [x]) == runner.run({entry.name: x})[exit_.name].tobytes()


def _input(entry: TensorSpec, seed: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]]":
    generator, kind = np.random.default_rng(seed), np.dtype(entry.dtype)
    if kind.kind == "f":
        return (10 * generator.standard_normal(entry.shape)).astype(kind)
    limits = np.iinfo(kind)
    if np.prod(entry.shape) == 256:  # all bytes
        return np.arange(limits.min, limits.max + 1).astype(kind).reshape(entry.shape)
    return generator.integers(limits.min, limits.max + 1, entry.shape).astype(kind)


def _answered(path: Path, kernels: Path, inputs: "list[np.ndarray[tuple[int, ...], np.dtype[np.generic]]]") -> bytes:
    """Return the answers of the C of a file, one after the other."""
    graph = read(path)
    program = lower(graph)
    memory = plan(program)
    types = TYPES[graph.tensors[program.input].dtype], tuple(TYPES[graph.tensors[o].dtype] for o in program.outputs)
    folder = path.parent
    writing.write(folder, [
        ("model.h", writing.header("model", program, memory, types, "net")),
        ("model.c", writing.source("model", program, memory, types, "net")),
    ])  # fmt: skip
    objects = sorted(kernels.glob("*.o"))
    command = [
        "gcc",
        *FLAGS,
        f"-I{folder}",
        f"-I{kernels}",
        f"{folder}/model.c",
        f"{kernels}/main.c",
        *map(str, objects),
    ]
    subprocess.run([*command, "-o", f"{folder}/program"], check=True)
    done = subprocess.run(
        [folder / "program"], input=b"".join(x.tobytes() for x in inputs), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_every_operator_is_tested() -> None:
    assert {*LOWERINGS, *RENAMING} - {*OPERATORS} <= {"PADV2", "SQUEEZE", "EXPAND_DIMS"}


BYTES, FLOATS = Tensor((1, 4)), Tensor((1, 4), "float32")


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (Net([BYTES, BYTES], [Op("TANH", [0], [1])]), "operators that the C exporter does not compute: TANH"),
        (
            Net([Tensor((2, 4)), Tensor((2, 4))], [Op("RELU", [0], [1])]),
            "one input of known size is computed at a time",
        ),
        (Net([FLOATS, FLOATS], [Op("RELU", [0], [1])]), "is float32, not quantized int8"),
        (Net([BYTES] * 3, [Op("ADD", [0, 1], [2], "AddOptions")], (0, 1)), "has 2 inputs"),
    ],
)
def test_what_cannot_be_computed_is_refused(net: Net, said: str, tmp_path: Path) -> None:
    path = net.write(tmp_path / "net.tflite")
    with pytest.raises(ExportError, match=said):
        lower(read(path))
