"""Trains what the samples lack, on CIFAR-10: a boosted net beside its control, and a MobileNetV2 of width 0.35.

The pictures come as a folder train/CLASS/*.jpg and test/CLASS/*.jpg. What is trained already is not trained again.
"""

import json
import subprocess
import sys
from pathlib import Path

RECIPE = """\
name = "cifar10"

[model]
reference = "sample:mobilenet_v2_tiny"
input = [3, 32, 32]
arguments = {{ in_channels = 3, resolution = 32 }}

[data]
source = "folder:{pictures}"

[train]
giant_epochs = 8
plt_epochs = 8
learning_rate = 0.4

[gate]
lead = -100
plt_loss = 100

[export]
formats = []
"""
EPOCHS = 10
#: of the training pictures, a channel
MEAN, STD = "0.4913,0.4821,0.4465", "0.2452,0.2428,0.2606"


def trained(pictures: Path, runs: Path) -> dict[str, Path]:
    """Return name -> checkpoint.

    Raises:
        subprocess.CalledProcessError: a training failed.
    """
    runs.mkdir(parents=True, exist_ok=True)
    recipe = runs / "cifar10.toml"
    recipe.write_text(RECIPE.format(pictures=pictures.resolve()), encoding="utf-8")
    if not (runs / "cifar10" / "contracted.safetensors").exists():
        _nbedge("run", str(recipe), "--out", str(runs / "cifar10"), "--until", "contract", "--overwrite")
    wide = runs / "mobilenet_v2_035.safetensors"
    if not wide.exists():
        arguments = json.dumps({"width_mult": 0.35, "resolution": 32})
        _nbedge(
            "train", "sample:mobilenet_v2", "--model-args", arguments, "--input", "3x32x32", "--mean", MEAN,
            "--std", STD,
            "--data", f"folder:{pictures.resolve()}", "--epochs", str(EPOCHS), "--out", str(wide),
        )  # fmt: skip
    found = {f"cifar10, {stage}": runs / "cifar10" / f"{stage}.safetensors" for stage in ("contracted", "control")}
    return {**found, "cifar10, MobileNetV2-0.35": wide}


def _nbedge(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "nbedge", *words], check=True)
