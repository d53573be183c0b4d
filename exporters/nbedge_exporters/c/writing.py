"""Writing: a program and its plan of memory as C."""

import textwrap
from collections.abc import Iterable, Mapping
from importlib.resources import files as resources
from pathlib import Path

from nbedge_exporters.c.layer import At, Call, Constants, Layer, Program, Scratch
from nbedge_exporters.c.memory import SLACK, Memory

#: kernel -> the file that it is in
SOURCES: Mapping[str, str] = {
    "conv_2d": "conv", "fully_connected": "conv", "depthwise_conv_2d": "depthwise", "average_pool_2d": "pool",
    "max_pool_2d": "pool", "reduce": "pool", "add": "elementwise", "mul": "elementwise", "minimum": "elementwise",
    "maximum": "elementwise", "lookup": "elementwise", "clamp": "elementwise", "quantize": "elementwise",
    "dequantize": "elementwise", "pad": "shape", "transpose": "shape", "concatenate": "shape",
    "resize_nearest": "shape", "softmax": "softmax",
}  # fmt: skip
HEADERS = ("nbedge_kernels.h", "nbedge_arithmetic.h")
#: names of C's types -> bytes of an element
_WIDTH = 118


def kernel_files(program: Program) -> list[str]:
    """Return the names of the kernels' files that a program needs."""
    called = {SOURCES[call.kernel] for layer in program.layers for call in layer.calls}
    return [*HEADERS, *(f"nbedge_{name}.c" for name in sorted(called))]


def kernel(name: str) -> str:
    """Return the text of a kernels' file."""
    return resources("nbedge_exporters.c").joinpath("kernels", name).read_text(encoding="utf-8")


def header(name: str, program: Program, memory: Memory, types: tuple[str, tuple[str, ...]], source: str) -> str:
    """Return NAME.h.

    Args:
        name: of the model, an identifier of C.
        program: the network.
        memory: its plan.
        types: of the input and of each output, in C.
        source: what it was made of, for people.
    """
    upper, (entry, exits) = name.upper(), types
    sizes = [program.sizes[program.root(output)] for output in program.outputs]
    outputs = "".join(f"const {kind} *{name}_output{_number(i)}(void);\n" for i, kind in enumerate(exits))
    output_sizes = "".join(f"#define {upper}_OUTPUT{_number(i).upper()}_BYTES {size}\n" for i, size in enumerate(sizes))
    return f"""/* {source}, as C. Written by nbedge; do not edit. */
#ifndef {upper}_H
#define {upper}_H

#include <stdint.h>

#define {upper}_INPUT_BYTES {program.sizes[program.input]}
{output_sizes}#define {upper}_ARENA_BYTES {memory.size + SLACK}
#define {upper}_LAYERS {len(program.layers)}

#ifdef __cplusplus
extern "C" {{
#endif

/* Write the input here before each inference: it lies in the arena, and {name}_invoke overwrites it. */
{entry} *{name}_input(void);
/* The answer; it is kept until the next input is written. */
{outputs}/* Compute the answer. Uses the one arena: call it from one task at a time. */
void {name}_invoke(void);

#ifdef __cplusplus
}}
#endif

#endif
"""


def _number(index: int) -> str:
    """Return what follows the name of an output: nothing for the first one."""
    return f"_{index}" if index else ""


def source(name: str, program: Program, memory: Memory, types: tuple[str, tuple[str, ...]], of: str) -> str:
    """Return NAME.c; the arguments are those of `header`."""
    upper, (entry, exits) = name.upper(), types
    arrays = "\n".join(_layer_constants(i, layer) for i, layer in enumerate(program.layers) if layer.arrays)
    operands = {tensor: f"operand_{i}" for i, tensor in enumerate(program.constants)}
    records = "\n".join(
        f"static const {layer.record[0]} layer_{i} = {_own(layer.record[1], i)};"
        for i, layer in enumerate(program.layers) if layer.record[0]
    )  # fmt: skip
    steps = "\n".join(_step(i, layer, program, memory, operands) for i, layer in enumerate(program.layers))
    exits_text = "\n".join(
        f"const {kind} *{name}_output{_number(i)}(void) {{ return (const {kind} *)(ARENA + "
        f"{memory.places[program.outputs[i]]}); }}"
        for i, kind in enumerate(exits)
    )
    constants = "\n".join(_array(operands[t], Constants("", data)) for t, data in program.constants.items())
    return f"""/* {of}, as C. Written by nbedge; do not edit. */
#include "{name}.h"

#include "nbedge_kernels.h"

/* the only memory that changes; words, so that it is aligned */
static uint32_t {name}_arena[({upper}_ARENA_BYTES + 3) / 4];
#define ARENA ((int8_t *){name}_arena)

{arrays}
{constants}
{records}

{entry} *{name}_input(void) {{ return ({entry} *)(ARENA + {memory.places[program.input]}); }}
{exits_text}

void {name}_invoke(void) {{
{steps}
}}
"""


def _own(text: str, index: int) -> str:
    return text.replace("{own}", f"layer_{index}")


def _layer_constants(index: int, layer: Layer) -> str:
    return "\n".join(_array(f"layer_{index}_{array.name}", array) for array in layer.arrays)


def _array(name: str, array: Constants) -> str:
    values = ", ".join(map(str, array.values.ravel().tolist()))
    lines = textwrap.fill(values, _WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    return f"static const {array.type} {name}[{array.values.size}] = {{\n{lines}}};"


def _step(index: int, layer: Layer, program: Program, memory: Memory, operands: Mapping[str, str]) -> str:
    def written(argument: At | Scratch | str) -> str:
        if isinstance(argument, str):
            return _own(argument, index)
        if isinstance(argument, Scratch):
            return f"ARENA + {memory.scratch[index]}"
        if argument.tensor in operands:
            return operands[argument.tensor]
        place = f"ARENA + {memory.places[argument.tensor] + argument.offset}"
        return f"(void *)({place})" if _is_float(layer, argument, program) else place

    def line(call: Call) -> str:
        return f"  nbedge_{call.kernel}({', '.join(map(written, call.arguments))});"

    calls = "\n".join(map(line, layer.calls))
    return f"{calls}\n  NBEDGE_AFTER_LAYER({index});"


def _is_float(layer: Layer, argument: At, program: Program) -> bool:
    """Return whether an argument is a pointer to float: the outer end of QUANTIZE and of DEQUANTIZE."""
    end = {"quantize": layer.reads[0], "dequantize": layer.writes}.get(layer.calls[0].kernel) if layer.reads else None
    return argument.tensor == end


def write(folder: Path, texts: Iterable[tuple[str, str]]) -> None:
    """Write files into a folder."""
    for name, text in texts:
        (folder / name).write_text(text, encoding="utf-8")
