"""BakeNN, which makes C of an integer TFLite file too: the file that it takes, and its C with nbedge's contract around.

It is no part of nbedge and runs in an interpreter of its own: `python -m venv FOLDER; FOLDER/bin/pip install
"bakenn[tflite]==1.0.0"`. It needs no torch. Of the instructions that are counted four are the contract's.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from nbedge.errors import ExportError
from nbedge.graph import cut, read

#: of the generated C, here as in `nbedge.benchmark.microcontroller`
NAME = "model"
_CMSIS = "kernel_policy=bakenn.KernelPolicy.STATIC_PRIORITY, enable_cmsis_nn=True, target=bakenn.CORTEX_M4"
#: it leaves convolutions that are padded more at one end to its own C; CMSIS-NN computes them rightly, too
_OVERRULED = """from bakenn.backend.portable_c.families import conv
conv._symmetric_padding = lambda padding: True
"""
#: engine -> what comes before, and its options
OPTIONS = {
    "BakeNN, CMSIS-NN": ("", _CMSIS),
    "BakeNN, CMSIS-NN throughout": (_OVERRULED, _CMSIS),
    "BakeNN, portable": ("", ""),
}
#: given: file, folder to write; prints the version, and why the file is refused
SCRIPT = """
import json, sys
import bakenn
{before}
refused = None
try:
    bakenn.compile_tflite(sys.argv[1], sys.argv[2], name="{name}", backend_options=bakenn.CBackendOptions({options}))
except bakenn.BakeNNError as error:
    refused = str(error)
print(json.dumps({{"version": bakenn.__version__, "refused": refused}}))
"""
#: what its own build defines: loads of words by the compiler's memcpy
DEFINITION = "#define BAKENN_CMSIS_NN_BUILTIN_MEMORY\n"
HEADER = f"""
#ifndef MODEL_H
#define MODEL_H

#include <stdint.h>

#include "bknn_{NAME}.h"

#define MODEL_INPUT_BYTES BKNN_MODEL_INPUT_BYTES
#define MODEL_OUTPUT_BYTES BKNN_MODEL_OUTPUT_BYTES

int8_t *{NAME}_input(void);
const int8_t *{NAME}_output(void);
void {NAME}_invoke(void);

#endif
"""
SOURCE = f"""
#include "{NAME}.h"

static uint8_t {NAME}_arena[BKNN_MODEL_ARENA_SIZE] __attribute__((aligned(BKNN_MODEL_ARENA_ALIGNMENT)));
static int8_t input[MODEL_INPUT_BYTES] __attribute__((aligned(BKNN_MODEL_ARENA_ALIGNMENT)));
static int8_t output[MODEL_OUTPUT_BYTES] __attribute__((aligned(BKNN_MODEL_ARENA_ALIGNMENT)));

int8_t *{NAME}_input(void) {{ return input; }}
const int8_t *{NAME}_output(void) {{ return output; }}
void {NAME}_invoke(void) {{ bknn_{NAME}_infer({NAME}_arena, input, output); }}
"""


def rewrite(path: Path, out: Path) -> tuple[str, ...]:
    """Write what BakeNN takes of a file, and return in words what was changed; other operators stay as they are."""
    graph, changes = read(path), []
    last = graph.operators[-1]
    if last.kind == "SOFTMAX":
        cut(path, graph.inputs, last.inputs[:1], out)
        changes.append("SOFTMAX cut")
    else:
        shutil.copy(path, out)
    return (*changes, *_completed(out))


def _completed(path: Path) -> tuple[str, ...]:
    """Fix open batches to the 1 of their shapes, and give each RESHAPE without options the shape of its result."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model: Any = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    (graph,) = model.subgraphs
    opened = [tensor for tensor in graph.tensors if tensor.shapeSignature is not None]
    for tensor in opened:
        tensor.shapeSignature = None
    kinds = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    bare = [
        operator for operator in graph.operators
        if kinds[operator.opcodeIndex] == schema.BuiltinOperator.RESHAPE and operator.builtinOptions is None
    ]  # fmt: skip
    for operator in bare:
        operator.builtinOptions, operator.builtinOptionsType = schema.ReshapeOptionsT(), 17
        operator.builtinOptions.newShape = [int(size) for size in graph.tensors[operator.outputs[0]].shape]
    if opened or bare:
        flatbuffer_utils.write_model(model, str(path))
    return (*["batch fixed"] * bool(opened), *["options given to RESHAPE"] * bool(bare))


def generate(python: Path, path: Path, engine: str, folder: Path) -> tuple[str, str | None]:
    """Write the C of a file, all in one folder, behind NAME_input, NAME_invoke and NAME_output.

    Returns:
        Version of BakeNN, and why it refuses the file, None if it does not.

    Raises:
        ExportError: the interpreter has no BakeNN.
    """
    folder.mkdir()
    made = folder.with_name(f"{folder.name}.made")
    before, options = OPTIONS[engine]
    script = SCRIPT.format(name=NAME, before=before, options=options)
    done = subprocess.run([python, "-c", script, path, made], capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1]
        raise ExportError(f'{python} does not run BakeNN ({said}); run there: pip install "bakenn[tflite]==1.0.0"')
    told = json.loads(done.stdout.splitlines()[-1])
    if told["refused"] is None:
        for source in made.rglob("*.[ch]"):
            text = source.read_text(encoding="utf-8")
            (folder / source.name).write_text(DEFINITION * (source.suffix == ".c") + text, encoding="utf-8")
        (folder / f"{NAME}.h").write_text(HEADER.lstrip(), encoding="utf-8")
        (folder / f"{NAME}.c").write_text(SOURCE.lstrip(), encoding="utf-8")
    return told["version"], told["refused"] and _named(told["refused"])


def _named(refused: str) -> str:
    """Return why a file is refused, without the place, and with the names of operators that it has as numbers."""
    from ai_edge_litert import schema_py_generated as schema

    names = {str(number): name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    said = re.sub(r"^subgraph\S+: ", "", refused)
    return re.sub(r"(?<=operator code )(\d+)", lambda found: f"{found[1]}, {names.get(found[1], 'unknown')}", said)


def outside_bytes(folder: Path) -> int:
    """Return the bytes of input and output, which lie outside BakeNN's arena."""
    text = (folder / f"bknn_{NAME}.h").read_text(encoding="utf-8")
    return sum(int(size) for size in re.findall(r"_(?:INPUT|OUTPUT)_BYTES (\d+)u", text))
