"""Print what integers cost the sample's detector, and what the ladder recovers: `benchmarks/detection_int8.py`.

Three networks that compute the same: the published detector, the same with channels of very different sizes, and the
same with both maps in one output, which has one scale. The first file, and the one that the ladder keeps, which it
chooses on the validation pictures; all are judged on the test pictures.
"""

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nbedge.checkpoint import load_checkpoint
from nbedge.conversion import Options, export
from nbedge.data import Splits, load
from nbedge.preprocessing import Preprocessing
from nbedge.runtime import answers, open_file
from nbedge.task import DETECTION
from peers.nets import spread

SAMPLE = Path(__file__).parent.parent / "sample_models" / "blood_smears"
#: sides of a box, which come behind the scores in one output
SIDES = 4


class OneOutput(nn.Module):
    """A detector whose two maps are one."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, classes + 4, h, w)."""
        found = self.detector(x)
        return torch.cat([found["scores"], found["boxes"]], 1)


def main() -> None:
    warnings.simplefilter("ignore")
    detector, about = load_checkpoint(SAMPLE / "chosen.safetensors")
    splits = load(f"coco:{SAMPLE / 'data'}", about.preprocessing.shape, calibration=32)
    networks = {"published": detector, "spread channels": spread(detector), "one output": OneOutput(detector)}
    print("| network | file | fp32, % | first int8, % | kept int8, % | by |")
    print("|---|---|---|---|---|---|")
    for name, network in networks.items():
        for format in ("onnx", "tflite"):
            print(row(name, network.eval(), format, splits, about.preprocessing), flush=True)


def row(name: str, network: nn.Module, format: str, splits: Splits, prepare: Preprocessing) -> str:
    """Return a row of the table: mAP@0.5:0.95."""
    task, held = "" if name == "one output" else DETECTION.name, splits.validation
    scores: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, options in enumerate((Options(budget=100, rungs=()), Options())):
            made = export(
                network, torch.zeros(1, *prepare.shape), formats=[format], quant=("fp32", "int8"), preprocess=prepare,
                calibration=prepare(splits.calibration.images[:]), check_on=prepare(held.images[:]), task=task,
                labels=held.labels if task else None, classes=splits.classes, out=folder, name=str(number),
                options=options,
            )  # fmt: skip
            scores += [f"{100 * score(exported.artifact.path, splits, prepare):.2f}" for exported in made]
    return f"| {name} | {format} | {scores[0]} | {scores[1]} | {scores[3]} | {made[-1].artifact.ladder['rung']} |"


def score(path: Path, splits: Splits, prepare: Preprocessing) -> float:
    """Return the mean average precision of a file."""
    found = answers(open_file(path), prepare(splits.test.images[:]))
    return DETECTION.score(found if len(found) > 1 else parted(found, len(splits.classes)), splits.test.labels)


def parted(found: Mapping[str, NDArray[np.float32]], classes: int) -> dict[str, NDArray[np.float32]]:
    """Return both maps of one output; TFLite has its channels last."""
    (whole,) = found.values()
    if whole.shape[-1] == classes + SIDES:
        whole = np.moveaxis(whole, -1, 1)
    return {"scores": whole[:, :classes], "boxes": whole[:, classes:]}


if __name__ == "__main__":
    main()
