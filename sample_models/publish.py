"""Copy what a sample keeps of a run: `python sample_models/publish.py RUN_DIR sample_models/NAME`.

Kept are the weights before and after, the exported files, and every verdict; no picture, no page, no training state.
"""

import json
import shutil
import sys
from pathlib import Path

KEPT = (
    "plan.json", "control.safetensors", "linearized.safetensors", "contracted.safetensors", "chosen.safetensors",
    "choice.json", "evaluation.json",
)  # fmt: skip
FOLDERS = ("exports", "verification", "curves")


def publish(run: Path, sample: Path) -> None:
    """Replace the results in `sample` by those of `run`."""
    for name in KEPT:
        shutil.copyfile(run / name, sample / name)
    product = json.loads((run / "choice.json").read_text(encoding="utf-8"))["chosen"]
    shutil.copyfile(run / f"{product}.safetensors", sample / f"{product}.safetensors")  # what the sidecars name
    for folder in FOLDERS:
        shutil.rmtree(sample / folder, ignore_errors=True)
        shutil.copytree(run / folder, sample / folder, ignore=shutil.ignore_patterns("logs"))


if __name__ == "__main__":
    publish(Path(sys.argv[1]), Path(sys.argv[2]))
