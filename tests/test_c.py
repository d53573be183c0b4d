"""Generated C of whole networks: TFLite Micro's bytes, here and on emulated microcontrollers; small enough."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nbedge.deployment import deploy
from nbedge.device import image
from nbedge.device.cores import CORES
from nbedge.device.inference import inferred
from nbedge.device.microcontroller import EmulatedMicrocontroller, Toolchain, toolchain
from nbedge.errors import ExportError, InputError, MissingDependencyError
from nbedge.exporter import exporters
from nbedge.graph import read
from nbedge.runtime.tflite import of_micro
from nbedge_exporters.c.lowering import lower
from nbedge_exporters.c.memory import SLACK, plan
from nbedge_exporters.c.running import WARNINGS, of_c
from tflite_files import Net, Op, Tensor

pytest.importorskip("tflite_micro")
ROOT = Path(__file__).parent.parent
TINY = ROOT / "tests" / "micro" / "mlperf_tiny"
SAMPLES = ROOT / "sample_models"
CELLS = SAMPLES / "blood_cells" / "exports" / "blood_cells.int8.tflite"
NETS = [
    TINY / "ad01_int8.tflite", TINY / "kws_ref_model.tflite", TINY / "pretrainedResnet_quant.tflite",
    TINY / "vww_96_int8.tflite", CELLS, SAMPLES / "fashion_mnist" / "exports" / "fashion_mnist.int8.tflite",
]  # fmt: skip
named = pytest.mark.parametrize("net", NETS, ids=lambda path: path.stem)
SANITIZED = ("-Werror", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover")


@pytest.fixture(autouse=True)
def made_by_make_test(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = os.environ.get("XDG_CACHE_HOME")
    if not folder or not Path(folder, "nbedge", "environments", EmulatedMicrocontroller().name).is_dir():
        monkeypatch.setenv("XDG_CACHE_HOME", str(ROOT / ".venv-environments"))


def tools() -> Toolchain:
    try:
        return toolchain()
    except MissingDependencyError:
        pytest.skip("make setup-environments")


@pytest.mark.group("c")
@named
def test_whole_networks_give_the_bytes_of_tflite_micro(net: Path, tmp_path: Path) -> None:
    deploy(net, target="c", out=tmp_path / "out", name="net")
    runner, micro = of_c(tmp_path / "out" / "net.c", SANITIZED), of_micro(net)
    entry, exit_ = micro.inputs[0], micro.outputs[0]
    generator = np.random.default_rng(7)
    for _ in range(10):
        x = generator.integers(-128, 128, entry.shape).astype(np.int8)
        wanted, found = micro.run({entry.name: x})[exit_.name], runner.run({entry.name: x})[exit_.name]
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.group("c")
@named
@pytest.mark.parametrize("core", CORES)
def test_every_core_gives_the_golden_answers(net: Path, core: str, tmp_path: Path) -> None:
    programs = tools()
    deploy(net, target="c", out=tmp_path / "c", core=core)
    (tmp_path / "build").mkdir()
    library = image.compiled(tmp_path / "c", "model", CORES[core], "-O2", programs, tmp_path / "build")
    # a golden answer that differs is a GateError
    found = inferred(library, tmp_path / "build")
    assert len(found.instructions) == 2
    assert found.image.arena_bytes == arena(net) + SLACK


def arena(net: Path) -> int:
    return plan(lower(read(net))).size


@named
def test_the_arena_is_hardly_larger_than_what_lives_at_the_same_time(net: Path) -> None:
    memory = plan(lower(read(net)))
    assert memory.size + SLACK <= 1.02 * max(memory.live)
    assert memory.used[memory.peak_layer] == max(memory.used)


def test_visual_wake_words_fits_into_56_kb_with_its_input() -> None:
    assert arena(TINY / "vww_96_int8.tflite") + SLACK <= 56 * 1024


@pytest.mark.group("c")
@pytest.mark.parametrize("net", [TINY / "vww_96_int8.tflite", CELLS], ids=lambda path: path.stem)
def test_the_kernels_of_a_mobilenet_take_at_most_8_kb(net: Path, tmp_path: Path) -> None:
    programs = tools()
    deploy(net, target="c", out=tmp_path / "c")
    (tmp_path / "build").mkdir()
    library = image.compiled(tmp_path / "c", "model", CORES["cortex-m4"], "-Os", programs, tmp_path / "build")
    assert inferred(library, tmp_path / "build").image.code_bytes <= 8 * 1024


@pytest.mark.group("c")
@pytest.mark.parametrize(
    "level",
    ["-O0", "-O1", "-O2", "-O3", "-Os", "-Og", "-O2 -fno-omit-frame-pointer", "-Os -fno-omit-frame-pointer",
     "-O2 -fPIC -msingle-pic-base", "-O2 -ffixed-r9 -DNBEDGE_SPARE_REGISTERS"],
)  # fmt: skip
@pytest.mark.parametrize("core", CORES)
def test_no_compiler_of_microcontrollers_warns(core: str, level: str, tmp_path: Path) -> None:
    kernels = ROOT / "exporters" / "nbedge_exporters" / "c" / "kernels"
    gcc = tools().gcc
    for source in sorted(kernels.glob("*.c")):
        command = [
            gcc,
            *WARNINGS,
            "-Werror",
            *CORES[core].flags,
            *level.split(),
            "-c",
            str(source),
            "-o",
            str(tmp_path / "o"),
        ]
        subprocess.run(command, check=True)


def float_ends() -> Net:
    """A float32 input that is quantized, a convolution, a sum, and a float32 output."""
    generator = np.random.default_rng(0)
    weights = generator.integers(-127, 128, (6, 3, 3, 2)).astype(np.int8)
    tensors = [
        Tensor((1, 8, 8, 2), "float32"), Tensor((1, 8, 8, 2), scale=0.05, zero=3),
        Tensor((6, 3, 3, 2), scale=[0.01] * 6, data=weights),
        Tensor((6,), "int32", [0.0005] * 6, data=np.zeros(6, np.int32)),
        Tensor((1, 8, 8, 6), scale=0.1, zero=-10), Tensor((1, 8, 8, 6), scale=0.15), Tensor((1, 8, 8, 6), "float32"),
    ]  # fmt: skip
    options = {"padding": 0, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    return Net(tensors, [
        Op("QUANTIZE", [0], [1]), Op("CONV_2D", [1, 2, 3], [4], "Conv2DOptions", options, 3),
        Op("ADD", [4, 4], [5], "AddOptions", {}, 2), Op("DEQUANTIZE", [5], [6], version=2),
    ])  # fmt: skip


@pytest.mark.group("c")
def test_ends_in_float(tmp_path: Path) -> None:
    net = float_ends().write(tmp_path / "net.tflite")
    made = deploy(net, target="c", out=tmp_path / "out")
    header = (tmp_path / "out" / "model.h").read_text(encoding="utf-8")
    assert "float *model_input(void);" in header
    assert "const float *model_output(void);" in header
    assert made.findings[0].startswith("equal to TFLite Micro")
    assert of_c(tmp_path / "out" / "model.c", SANITIZED).inputs[0].dtype == "float32"
    programs = tools()
    for core in ("cortex-m0plus", "cortex-m4"):  # without and with a floating-point unit
        build = tmp_path / core
        build.mkdir()
        inferred(image.compiled(tmp_path / "out", "model", CORES[core], "-O2", programs, build), build)


@pytest.mark.parametrize("target", ["c", "tflm"])
def test_sizes_that_are_open_are_refused(target: str, tmp_path: Path) -> None:
    tensor = Tensor((1, 1, 1, 3), scale=0.1, signature=(1, -1, -1, 3))
    net = Net([tensor, tensor], [Op("RELU", [0], [1])]).write(tmp_path / "net.tflite")
    with pytest.raises(InputError, match=r"its input is 1x\?x\?x3"):
        deploy(net, target=target, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.group("c")
def test_an_open_batch_is_one_input(tmp_path: Path) -> None:
    tensor = Tensor((1, 2, 2, 3), scale=0.1, signature=(-1, 2, 2, 3))
    net = Net([tensor, tensor], [Op("RELU", [0], [1])]).write(tmp_path / "net.tflite")
    assert deploy(net, target="c", out=tmp_path / "out").contents


@pytest.mark.group("c")
def test_several_outputs(tmp_path: Path) -> None:
    shape = (1, 5, 5, 3)
    tensors = [Tensor(shape, scale=0.1), Tensor(shape, scale=0.05, zero=-7), Tensor(shape, scale=0.2, zero=9)]
    net = Net(tensors, [Op("RELU", [0], [1]), Op("RELU", [0], [2])], outputs=(2, 1)).write(tmp_path / "net.tflite")
    deploy(net, target="c", out=tmp_path / "out")
    header = (tmp_path / "out" / "model.h").read_text(encoding="utf-8")
    assert "model_output(void);" in header
    assert "model_output_1(void);" in header
    x = np.arange(-37, 38).astype(np.int8).reshape(shape)
    found, wanted = of_c(tmp_path / "out" / "model.c", SANITIZED).run({"t0": x}), of_micro(net).run({"t0": x})
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.group("c")
def test_the_folder_builds_and_tests_itself(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    deploy(CELLS, target="c", out=folder, name="cells", data=f"folder:{SAMPLES / 'blood_cells' / 'data'}")
    done = subprocess.run(["make", "test"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("equal") == 2
    about = json.loads((folder / "cells.json").read_text(encoding="utf-8"))
    assert about["classes"] == ["platelet", "red", "white"]
    assert about["arena_bytes"] == arena(CELLS) + SLACK
    golden = folder / "golden.c"
    golden.write_text(golden.read_text(encoding="utf-8").replace("  {", "  {1 ^ ", 1), encoding="utf-8")
    spoiled = subprocess.run(["make", "test", "CFLAGS=-O1 -w"], cwd=folder, capture_output=True, check=False)
    assert spoiled.returncode


@pytest.mark.group("c")
def test_the_lines_of_the_guide_compile(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```c\n(.*?)```", guide, re.DOTALL)
    deploy(CELLS, target="c", out=tmp_path / "out", name="cells")
    head = '#include <string.h>\n#include "cells.h"\nint8_t first(const int8_t *picture) {\n'
    body = f"{head}{lines}return answer[0];\n}}\n"
    (tmp_path / "out" / "guide.c").write_text(body, encoding="utf-8")
    command = ["gcc", *WARNINGS, "-Werror", "-c", "guide.c"]
    subprocess.run(command, cwd=tmp_path / "out", check=True)


@pytest.mark.group("c")
def test_the_compiler_for_arm_builds_the_library(tmp_path: Path) -> None:
    gcc = Path(tools().gcc)
    deploy(CELLS, target="c", out=tmp_path / "out", core="cortex-m0plus")
    command = [
        "make",
        "arm",
        f"ARM_CC={gcc}",
        f"ARM_AR={gcc.with_name('arm-none-eabi-ar')}",
        "WARNINGS=-std=c99 -Werror",
    ]
    subprocess.run(command, cwd=tmp_path / "out", check=True, capture_output=True)
    assert (tmp_path / "out" / "arm" / "libmodel.a").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([SAMPLES / "fashion_mnist/exports/fashion_mnist.fp32.tflite"], "is of the scheme fp32"),
        ([SAMPLES / "fashion_mnist/exports/fashion_mnist.int8.onnx"], "takes a .tflite file"),
        ([CELLS, CELLS], "takes one file, not 2"),
        ([CELLS, "--name", "my-net"], "is no name of C"),
        ([CELLS, "--name", "switch"], "is no name of C"),
        ([CELLS, "--name", "golden"], "is the name of another file"),
        ([CELLS, "--name", "string"], "is the name of another file"),
        ([CELLS, "--name", "nbedge_conv"], "is the name of another file"),
        ([CELLS, "--core", "cortex-m99"], "cortex-m99"),
        ([CELLS, "--picture", "x.png"], "--picture has no effect on the target c"),
        ([TINY / "vww_96_int8.tflite", "--data", "folder:x"], "has no sidecar"),
        ([ROOT / "missing.tflite"], "does not exist"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(words: list[object], said: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nbedge", "deploy", *map(str, words), "--target", "c", "-o", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_machine_without_a_compiler_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="install gcc or clang"):
        deploy(CELLS, target="c", out=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_other_folders_are_not_run(tmp_path: Path) -> None:
    (tmp_path / "model.c").write_text("int x;\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"no manifest model\.json"):
        of_c(tmp_path / "model.c")


def test_export_points_to_deploy() -> None:
    from nbedge.conversion.chain import steps

    with pytest.raises(ExportError, match="nbedge deploy FILE --target c"):
        steps(["c"], ["int8"])
    assert exporters()["c"].source == "own"
