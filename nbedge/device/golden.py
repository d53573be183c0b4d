"""Golden vectors as C: inputs and the answers to them, which the harness and the examples compare with."""

import textwrap
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from nbedge.artifact import TensorSpec
from nbedge.runtime import channels_first, dequantize

#: columns of a line
WIDTH = 118


def noise(spec: TensorSpec, number: int) -> NDArray[np.float32]:
    """Return inputs (number, c, h, w) or (number, ...) that reach everywhere the input can, from a seed."""
    generator, shape, kind = np.random.default_rng(0), (number, *spec.shape[1:]), np.dtype(spec.dtype)
    if kind.kind == "f":
        return np.asarray(channels_first(generator.standard_normal(shape).astype(np.float32), spec.layout))
    limits = np.iinfo(kind)
    fed = generator.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)
    return np.asarray(channels_first(dequantize(fed, spec), spec.layout))


def golden(name: str, inputs: NDArray[np.uint8], outputs: NDArray[np.uint8]) -> tuple[str, str]:
    """Return golden.h and golden.c: inputs (n, bytes) and the outputs (n, bytes) that TFLite Micro gives to them."""
    upper = name.upper()
    text = f"""/* Inputs, and the answers that TFLite Micro gives to them. Written by nbedge; do not edit. */
#ifndef GOLDEN_H
#define GOLDEN_H

#include "{name}.h"

#define GOLDEN_COUNT {len(inputs)}
/* of all bytes of the arrays, as zlib computes it */
#define GOLDEN_INPUTS_CRC32 0x{crc32(inputs.tobytes()):08x}u
#define GOLDEN_OUTPUTS_CRC32 0x{crc32(outputs.tobytes()):08x}u

extern const unsigned char golden_inputs[GOLDEN_COUNT][{upper}_INPUT_BYTES];
extern const unsigned char golden_outputs[GOLDEN_COUNT][{upper}_OUTPUT_BYTES];

#endif
"""
    arrays = "\n".join(
        f"const unsigned char {what}[GOLDEN_COUNT][{upper}_{kind}_BYTES] = {{\n{_rows(values)}}};\n"
        for what, kind, values in (("golden_inputs", "INPUT", inputs), ("golden_outputs", "OUTPUT", outputs))
    )
    return text, f'#include "golden.h"\n\n{arrays}'


def _rows(values: NDArray[np.uint8]) -> str:
    rows = (", ".join(map(str, row)) for row in values.tolist())
    return ",\n".join(textwrap.fill(f"{{{row}}}", WIDTH, initial_indent="  ", subsequent_indent="  ") for row in rows)
