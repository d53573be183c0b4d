"""A hand-written model in C, in the folder that the C exporter writes; its golden answers are numpy's.

Its kinds, by the name of what they spoil: "" nothing, "answers" a golden answer, "fault" it writes where no memory is,
"endless" it does not come back, "large" an arena that no board holds, "words" it does not compile.
"""

import json
import shutil
from pathlib import Path

import numpy as np

SOURCES = Path(__file__).with_name("handwritten")
WEIGHTS = np.arange(96).reshape(6, 16) * 37 % 251 - 125
COUNT = 3
LAYERS = (("FULLY_CONNECTED", 96), ("IDLE", 0), ("MEAN", 0))
#: spoiled kind -> what stands in the place of the loop
SPOILED = {"fault": "*(volatile int *)0xF0000001 = 0;", "endless": "for (;;) __asm__ volatile(\"\");",
           "large": "static volatile char much[8 << 20]; much[1] = 1;", "words": "no C;"}  # fmt: skip


def answers(x: np.ndarray) -> np.ndarray:
    """Return the answers (n, 7) int8 to inputs (n, 16) int8."""
    sums = np.clip((x.astype(np.int64) @ WEIGHTS.T) >> 9, 0, 127)
    return np.concatenate([sums, sums.sum(1, keepdims=True) // 6], axis=1).astype(np.int8)


def write(folder: Path, spoiled: str = "") -> Path:
    """Write the folder and return it."""
    shutil.copytree(SOURCES, folder, dirs_exist_ok=True)
    model = (folder / "model.c").read_text().replace("WEIGHTS", ", ".join(map(str, WEIGHTS.ravel())))
    (folder / "model.c").write_text(model.replace("idle();", SPOILED.get(spoiled, "idle();")))
    x = np.random.default_rng(0).integers(-128, 127, (COUNT, 16), dtype=np.int8)
    y = answers(x)
    if spoiled == "answers":
        y[1, 2] += 1
    (folder / "golden.h").write_text(
        f"#define GOLDEN_COUNT {COUNT}\n"
        "extern const unsigned char golden_inputs[GOLDEN_COUNT][MODEL_INPUT_BYTES];\n"
        "extern const unsigned char golden_outputs[GOLDEN_COUNT][MODEL_OUTPUT_BYTES];\n"
    )
    arrays = "".join(
        f"const unsigned char golden_{name}[][{rows.shape[1]}] __attribute__((aligned(4))) = {{{_rows(rows)}}};\n"
        for name, rows in (("inputs", x), ("outputs", y))
    )
    (folder / "golden.c").write_text(f'#include "model.h"\n#include "golden.h"\n{arrays}')
    (folder / "example.c").write_text("#error not a part of the library\n")
    layers = [{"index": i, "operator": name, "output": f"y{i}", "macs": macs} for i, (name, macs) in enumerate(LAYERS)]
    about = {"name": "model", "core": "cortex-m4", "arena_bytes": 32, "layers": layers}
    (folder / "model.json").write_text(json.dumps(about))
    return folder


def _rows(rows: np.ndarray) -> str:
    return ", ".join(f"{{{', '.join(map(str, row))}}}" for row in rows.view(np.uint8).tolist())
