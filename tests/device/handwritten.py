"""A hand-written model in C, in the folder that the C exporter writes; its golden answers are numpy's.

Its kinds, by the name of what they spoil: "" nothing, "answers" a golden answer, "fault" it writes where no memory is,
"endless" it does not come back, "large" an arena that no board holds, "larger" an arena of twice the size, "words" it
does not compile, "deep" it takes more stack than there is, "order" a layer is passed twice.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SOURCES = Path(__file__).with_name("handwritten")
WEIGHTS = np.arange(96).reshape(6, 16) * 37 % 251 - 125
COUNT = 3
LAYERS = (("FULLY_CONNECTED", 96), ("IDLE", 0), ("MEAN", 0))
#: kind -> (what stands in model.c, what stands there instead)
SPOILED = {
    "": ("", ""),
    "answers": ("", ""),
    "fault": ("idle();", "*(volatile int *)0xF0000001 = 0;"),
    "endless": ("idle();", 'for (;;) __asm__ volatile("");'),
    "large": ("idle();", "static volatile char much[8 << 20]; much[1] = 1;"),
    "larger": ("model_arena[MODEL_ARENA_BYTES]", "model_arena[2 * MODEL_ARENA_BYTES]"),
    "words": ("idle();", "no C;"),
    "deep": ("idle();", "volatile char much[80000]; for (int i = 0; i < 80000; i++) much[i] = 1;"),
    "order": ("idle();", "idle(); NBEDGE_AFTER_LAYER(0);"),
}


def inputs() -> NDArray[np.int8]:
    """Return the golden inputs (COUNT, 16)."""
    return np.random.default_rng(0).integers(-128, 127, (COUNT, 16), dtype=np.int8, endpoint=True)


def answers(x: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return the answers (n, 7) to inputs (n, 16): six sums with a ReLU, and their mean."""
    sums = np.clip((x.astype(np.int64) @ WEIGHTS.T) >> 9, 0, 127)
    return np.concatenate([sums, sums.sum(1, keepdims=True) // 6], axis=1).astype(np.int8)


def write(folder: Path, spoiled: str = "") -> Path:
    """Write the folder and return it.

    Raises:
        ValueError: there is no such kind.
    """
    if spoiled not in SPOILED:
        raise ValueError(f"{spoiled!r} is no kind")
    shutil.copytree(SOURCES, folder, dirs_exist_ok=True)
    model = (folder / "model.c").read_text().replace("{WEIGHTS}", f"{{{', '.join(map(str, WEIGHTS.ravel()))}}}")
    (folder / "model.c").write_text(model.replace(*SPOILED[spoiled]) if SPOILED[spoiled][0] else model)
    _write_golden(folder, spoiled == "answers")
    (folder / "example.c").write_text("#error not a part of the library\n")
    layers = [{"index": i, "operator": name, "output": f"y{i}", "macs": macs} for i, (name, macs) in enumerate(LAYERS)]
    about = {"name": "model", "core": "cortex-m4", "arena_bytes": 32, "layers": layers}
    (folder / "model.json").write_text(json.dumps(about))
    return folder


def _write_golden(folder: Path, wrong: bool) -> None:
    x = inputs()
    y = answers(x)
    y[1, 2] += wrong
    declared = "".join(
        f"extern const unsigned char golden_{name}[GOLDEN_COUNT][MODEL_{name[:-1].upper()}_BYTES];\n"
        for name in ("inputs", "outputs")
    )
    (folder / "golden.h").write_text(f"#define GOLDEN_COUNT {COUNT}\n{declared}")
    arrays = "".join(
        f"const unsigned char golden_{name}[][{rows.shape[1]}] __attribute__((aligned(4))) = {{{_rows(rows)}}};\n"
        for name, rows in (("inputs", x), ("outputs", y))
    )
    (folder / "golden.c").write_text(f'#include "model.h"\n#include "golden.h"\n{arrays}')


def _rows(rows: NDArray[Any]) -> str:
    return ", ".join(f"{{{', '.join(map(str, row))}}}" for row in rows.view(np.uint8).tolist())
