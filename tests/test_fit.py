"""nbedge deploy --target tflm, and --board: what is written is right, and what does not fit is refused."""

import json
import os
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import nbedge
from nbedge.deployment import BOARDS, chart
from nbedge.deployment.boards import Board
from nbedge.deployment.fit import Need, fit_of, refuse_misfit
from nbedge.deployment.margin import scratch_of
from nbedge.deployment.resolver import method
from nbedge.deployment.timeline import Step, Timeline, of_graph
from nbedge.device.cores import CORES
from nbedge.device.microcontroller import EmulatedMicrocontroller, toolchain
from nbedge.errors import ExportError, InputError, MissingDependencyError
from nbedge.graph import read
from nbedge.runtime import open_file
from nbedge.runtime.arena import measure_arena
from nbedge.verification.lint.targets import TFLM
from tflite_files import Net, Op, Tensor

pytest.importorskip("tflite_micro")
ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "sample_models"
CELLS = SAMPLES / "blood_cells" / "exports" / "blood_cells.int8.tflite"
FASHION = SAMPLES / "fashion_mnist" / "exports" / "fashion_mnist.int8.tflite"
FILES = [CELLS, FASHION, FASHION.with_name("fashion_mnist.fp32.tflite")]
#: methods of MicroMutableOpResolver in TFLite Micro's sources, for the operators that its Python interpreter knows
METHODS = """
Abs Add AddN ArgMax ArgMin AssignVariable AveragePool2D BatchMatMul BatchToSpaceNd BroadcastArgs BroadcastTo CallOnce
Cast Ceil Concatenation Conv2D Cos CumSum DepthToSpace DepthwiseConv2D Dequantize Div DynamicUpdateSlice Elu
EmbeddingLookup Equal Exp ExpandDims Fill Floor FloorDiv FloorMod FullyConnected Gather GatherNd Greater GreaterEqual
HardSwish If L2Normalization L2Pool2D LeakyRelu Less LessEqual Log LogSoftmax LogicalAnd LogicalNot LogicalOr Logistic
MaxPool2D Maximum Mean Minimum MirrorPad Mul Neg NotEqual Pack Pad PadV2 Prelu Quantize ReadVariable ReduceAll
ReduceMax ReduceMin Relu Relu6 Reshape ResizeBilinear ResizeNearestNeighbor ReverseV2 Round Rsqrt SelectV2 Shape Sin
Slice Softmax SpaceToBatchNd SpaceToDepth Split SplitV Sqrt Square SquaredDifference Squeeze StridedSlice Sub Sum Svdf
Tanh Transpose TransposeConv UnidirectionalSequenceLSTM Unpack VarHandle While ZerosLike
"""
#: reads the arrays back, and says whether the model lies where TFLite Micro wants it
MAIN = """
#include <stdint.h>
#include <stdio.h>
#include "cells.h"
#include "golden.h"
int main(void) {
  if ((uintptr_t)cells_data % 16 != 0) return 1;
  fwrite(cells_data, 1, sizeof cells_data, stdout);
  fwrite(golden_inputs, 1, sizeof golden_inputs, stdout);
  fwrite(golden_outputs, 1, sizeof golden_outputs, stdout);
  return 0;
}
"""


@pytest.fixture(autouse=True)
def made_by_make_test(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = os.environ.get("XDG_CACHE_HOME")
    if not folder or not Path(folder, "nbedge", "environments", EmulatedMicrocontroller().name).is_dir():
        monkeypatch.setenv("XDG_CACHE_HOME", str(ROOT / ".venv-environments"))


def needs_the_compiler() -> None:
    try:
        toolchain()
    except MissingDependencyError:
        pytest.skip("make setup-environments")


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "nbedge", "deploy", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# TFLite Micro


def test_the_c_of_the_folder_compiles_and_holds_the_file(tmp_path: Path) -> None:
    made = nbedge.deploy(CELLS, target="tflm", out=tmp_path / "out", name="cells")
    (tmp_path / "main.c").write_text(MAIN)
    flags = ["gcc", "-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", f"-I{made.folder}"]
    sources = ["-x", "c", str(made.folder / "cells.cc"), str(made.folder / "golden.c"), str(tmp_path / "main.c")]
    subprocess.run([*flags, *sources, "-o", str(tmp_path / "main")], check=True)
    said = subprocess.run([tmp_path / "main"], capture_output=True, check=True).stdout
    about = json.loads((made.folder / "cells.json").read_text())
    (held := tmp_path / "held.tflite").write_bytes(content := said[: about["model_bytes"]])
    assert b"TFLITE_METADATA" in CELLS.read_bytes()
    assert not [word for word in (b"TFLITE_METADATA", b"M001", b"labels.txt", b"PK\x03\x04") if word in content]
    assert len(read(held).operators) == len(read(CELLS).operators)
    inputs = np.frombuffer(said[len(content) :][: 2 * about["input_bytes"]], np.int8).reshape(2, 1, 96, 96, 3)
    runner = open_file(held, "tflm")
    wanted = b"".join(runner.run({runner.inputs[0].name: x})[runner.outputs[0].name].tobytes() for x in inputs)
    assert said[len(content) + inputs.nbytes :] == wanted
    assert len(wanted) == 2 * about["output_bytes"]


def test_the_resolver_has_the_operators_of_the_file_and_no_others(tmp_path: Path) -> None:
    made = nbedge.deploy(CELLS, target="tflm", out=tmp_path / "out", name="cells")
    said = (made.folder / "cells_ops.h").read_text()
    kinds = {operator.kind for operator in read(CELLS).operators}
    assert set(re.findall(r"resolver->(\w+)\(\)", said)) == {method(kind) for kind in kinds}
    assert f"MicroMutableOpResolver<{len(kinds)}>" in said
    for file in ("cells_ops.h", "example.cc"):
        assert "NOT COMPILED HERE" in (made.folder / file).read_text()
    assert not [name for name in made.contents if "{{" in (made.folder / name).read_text()]


def test_methods_are_spelled_as_in_the_sources() -> None:
    assert {method(kind) for kind in TFLM} == {f"Add{name}" for name in METHODS.split()}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m55"])
def test_the_arena_is_enough_and_its_parts_are_told(tmp_path: Path, path: Path, core: str) -> None:
    from tflite_micro import runtime

    made = nbedge.deploy(path, target="tflm", out=tmp_path / "out", core=core)
    about = json.loads((made.folder / "model.json").read_text())
    size = about["arena_bytes"]
    assert f"#define MODEL_ARENA_BYTES {size}\n" in (made.folder / "model.h").read_text()
    assert 0 <= size - about["arena_measured_bytes"] - about["arena_margin_bytes"] < 16
    assert about["arena_measured_bytes"] == about["arena_tensor_bytes"] + about["arena_kept_bytes"]
    # in this arena it gives the same answer as in a huge one
    runner, small = open_file(path, "tflm"), runtime.Interpreter.from_file(str(path), arena_size=size)
    x = np.ones(runner.inputs[0].shape, runner.inputs[0].dtype)
    small.set_input(x, 0)
    small.invoke()
    np.testing.assert_array_equal(small.get_output(0), runner.run({runner.inputs[0].name: x})[runner.outputs[0].name])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_largest_layer_is_what_tflite_micro_plans_for(path: Path) -> None:
    graph, arena = read(path), measure_arena(path)
    steps = of_graph(graph, arena.total, arena.kept, [0] * len(graph.operators)).steps
    assert max(step.live_bytes for step in steps) == arena.tensors


def test_scratch_memory_follows_the_formulas_of_cmsis_nn(tmp_path: Path) -> None:
    tensors = [Tensor((1, 8, 8, 5)), Tensor((6, 3, 3, 5), data=np.zeros((6, 3, 3, 5), np.int8)), Tensor((1, 6, 6, 6))]
    options = {"padding": 1, "strideH": 1, "strideW": 1}
    path = Net(tensors, [Op("CONV_2D", [0, 1], [2], "Conv2DOptions", options, 3)]).write(tmp_path / "net.tflite")
    # 45 numbers: two columns of 48 words of 2 bytes; with vectors four of 48 bytes
    assert scratch_of(read(path), CORES["cortex-m4"]) == (192,)
    assert scratch_of(read(path), CORES["cortex-m55"]) == (192,)
    assert not any(scratch_of(read(FILES[2]), CORES["cortex-m4"]))  # float kernels borrow none


@pytest.mark.parametrize(
    ("op", "said"),
    [
        (Op("GELU", [0], [1], "GeluOptions"), "operators that tflm lacks: 1 GELU"),
        (Op("LOGISTIC", [0], [1], version=99), "LOGISTIC"),
    ],
)
def test_what_tflite_micro_lacks_is_named_and_nothing_is_written(tmp_path: Path, op: Op, said: str) -> None:
    path = Net([Tensor((1, 4)), Tensor((1, 4))], [op]).write(tmp_path / "net.tflite")
    with pytest.raises(InputError, match=said):
        nbedge.deploy(path, target="tflm", out=tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == [path]


def test_weights_outside_the_flatbuffer_are_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    from nbedge.deployment.resolver import refuse_lacking

    graph = read(CELLS)
    first = graph.constants()[0]
    spoiled = replace(graph, tensors={**graph.tensors, first.name: replace(first, inline=False)})
    with pytest.raises(ExportError, match="lie outside the flatbuffer, and it would compute garbage"):
        refuse_lacking(spoiled)


# boards


def test_the_boards_are_a_frozen_table_with_sources() -> None:
    assert len(BOARDS) == 14
    for name, board in BOARDS.items():
        assert (board.name, board.core in CORES) == (name, True)
        assert board.source
        assert 0 < board.ram_bytes <= board.flash_bytes
    assert {board.core for board in BOARDS.values()} == set(CORES)
    with pytest.raises(FrozenInstanceError):
        BOARDS["teensy-4.1"].ram_bytes = 1  # type: ignore[misc]


def test_every_board_stands_in_the_guide() -> None:
    text = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8").partition("## Does it fit")[2]
    assert [name for name in BOARDS if f"`{name}`" not in text] == []


def test_the_boards_are_listed() -> None:
    done = run("--boards", "--json")
    assert done.returncode == 0, done.stderr
    assert [board["name"] for board in json.loads(done.stdout)["boards"]] == list(BOARDS)
    assert "sparkfun-edge" in run("--boards").stdout


BOARD = Board("toy", "cortex-m4", 1000, 2000, "", "")
TIMELINE = Timeline((Step("ADD", "a", 100), Step("CONV_2D", "b;c", 600, 50)), 700)


def test_memories_are_filled_one_after_the_other() -> None:
    fit = fit_of(BOARD, (Need("a", "flash", 1500), Need("b", "flash", None), Need("c", "RAM", 1000)), TIMELINE)
    assert [(row.has, row.left) for row in fit.rows] == [(2000, 500), (500, None), (1000, 0)]
    assert fit.peak == "layer 1, CONV_2D, sets the peak of 650 bytes while it makes b"
    refuse_misfit(fit, BOARD, "net")


def test_bytes_too_many_are_refused_with_what_is_missing() -> None:
    fit = fit_of(BOARD, (Need("code", "flash", 2005), Need("arena", "RAM", 900), Need("stack", "RAM", 107)), TIMELINE)
    said = (
        "net does not fit toy: it takes 5 bytes more than the 2000 of flash and 7 bytes more than the 1000 of RAM "
        "there (2005 for code, 900 for arena, 107 for stack); layer 1, CONV_2D, sets the peak of 650 bytes while it "
        "makes b; choose a larger board or make the model smaller"
    )
    with pytest.raises(InputError, match=f"^{re.escape(said)}$"):
        refuse_misfit(fit, BOARD, "net")


@pytest.mark.group("c")
@pytest.mark.parametrize("board", ["raspberry-pi-pico", "mps3-an547"])
def test_c_that_fits_has_the_figures_of_the_emulated_core(tmp_path: Path, board: str) -> None:
    needs_the_compiler()
    done = run(str(FASHION), "--target", "c", "-o", str(tmp_path / "out"), "--board", board, "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["fit"]["rows"]
    about = json.loads((tmp_path / "out" / "model.json").read_text())
    assert about["core"] == BOARDS[board].core
    assert [row["what"] for row in rows] == ["code and constants", "the arena", "the stack"]
    assert rows[0]["needs"] > about["constant_bytes"]
    assert rows[1]["needs"] == about["arena_bytes"]
    assert rows[2]["has"] == BOARDS[board].ram_bytes - about["arena_bytes"]
    assert 0 < rows[2]["needs"] < 4096
    assert json.loads((tmp_path / "out" / "deployment.json").read_text())["fit"]["rows"] == rows


def test_tflite_micros_code_and_stack_are_not_checked(tmp_path: Path) -> None:
    done = run(str(FASHION), "--target", "tflm", "-o", str(tmp_path / "out"), "--board", "nucleo-f103rb")
    assert done.returncode == 0, done.stderr
    assert re.search(r"TFLite Micro's code +│ NOT CHECKED", done.stdout)
    assert "sets the peak of" in done.stdout


@pytest.mark.group("c")
@pytest.mark.parametrize("target", ["c", "tflm"])
def test_what_does_not_fit_is_one_sentence_and_leaves_nothing(tmp_path: Path, target: str) -> None:
    if target == "c":
        needs_the_compiler()
    out = tmp_path / "out"
    done = run(str(CELLS), "--target", target, "-o", str(out), "--board", "nucleo-f103rb")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(
        r"nbedge: model does not fit nucleo-f103rb: it takes \d+ bytes more than the 20480 of RAM there \(.*\); layer "
        r"4, CONV_2D, sets the peak of \d+ bytes while it makes \S+; choose a larger board or make the model smaller\n",
        done.stderr,
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--board", "toaster"], "no board is called 'toaster'; choose from raspberry-pi-pico, nucleo-g0b1re"),
        (
            ["--board", "arduino-due", "--core", "cortex-m7"],
            "arduino-due has a cortex-m3, not a cortex-m7; leave --core",
        ),
        (["--core", "z80"], "no core is called 'z80'"),
        (["--picture", "one.png"], "--picture has no effect on the target"),
        (["--name", "int"], "--name 'int' is no name of C"),
    ],
)
@pytest.mark.parametrize("target", ["c", "tflm"])
def test_bad_input_is_one_sentence(tmp_path: Path, target: str, words: list[str], said: str) -> None:
    options = dict(zip([word[2:] for word in words[::2]], words[1::2], strict=True))
    with pytest.raises(InputError, match=re.escape(said)):
        nbedge.deploy(CELLS, target=target, out=tmp_path / "out", **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_missing_compiler_names_its_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingDependencyError, match=r"apt-get install .*gcc-arm-none-eabi.* qemu-system-arm"):
        nbedge.deploy(CELLS, target="c", out=tmp_path / "out", board="arduino-due")
    assert not (tmp_path / "out").exists()


# the picture


def test_the_picture_has_every_layer_and_is_the_same_every_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    steps = tuple(Step(kind, "x", 100 * i, 7) for i, kind in enumerate(["DEPTHWISE_CONV_2D", "ADD"] * 40))
    texts = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        assert chart.draw(Timeline(steps, 9000, 500), "net", BOARDS["nucleo-f103rb"], tmp_path / name) == ""
        texts.append((tmp_path / name / "memory.svg").read_text(encoding="utf-8"))
    assert texts[0] == texts[1]
    assert "<dc:date>" not in texts[0]
    labels = [text.text for text in ElementTree.fromstring(texts[0]).iter("{http://www.w3.org/2000/svg}text")]
    assert [f"{step.operator}  {i}" for i, step in enumerate(steps) if f"{step.operator}  {i}" not in labels] == []
    assert {"arena, 9 000", "RAM of nucleo-f103rb, 20 480", "7 907"} <= set(labels)


@pytest.mark.parametrize("target", ["c", "tflm"])
def test_without_matplotlib_the_folder_is_whole_but_for_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    made = nbedge.deploy(FASHION, target=target, out=tmp_path / "out")
    assert "memory.svg" not in made.contents
    assert [
        finding for finding in made.findings if "memory.svg was not drawn" in finding and "nbedge[report]" in finding
    ]


@pytest.mark.parametrize("target", ["c", "tflm"])
def test_two_folders_are_the_same_byte_by_byte(tmp_path: Path, target: str) -> None:
    pytest.importorskip("matplotlib")
    first, second = (nbedge.deploy(FASHION, target=target, out=tmp_path / name) for name in "ab")
    assert first.contents == second.contents
    assert "memory.svg" in first.contents
