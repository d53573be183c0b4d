"""Print what integers cost the sample's detector, and what the ladder recovers: `benchmarks/detection_int8.py`.

Three networks that compute the same: the published detector, the same with channels of very different sizes, and the
same with both maps in one output, which has one scale. The first file, and the one that the ladder keeps, on the test
pictures.
"""

import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nbedge.checkpoint import load_checkpoint
from nbedge.conversion import Options, export
from nbedge.data import Splits, load
from nbedge.errors import NbedgeError
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
            print("\n".join(row(name, network.eval(), format, splits, about.preprocessing)), flush=True)


def row(name: str, network: nn.Module, format: str, splits: Splits, prepare: Preprocessing) -> Iterator[str]:
    """Yield a row of the table: mAP@0.5:0.95."""
    task = "" if name == "one output" else DETECTION.name
    found, rungs = [], "-"
    for options, quant in ((Options(budget=100, rungs=()), ("fp32", "int8")), (Options(), ("int8",))):
        with tempfile.TemporaryDirectory() as folder:
            try:
                made = export(
                    network, torch.zeros(1, *prepare.shape), formats=[format], quant=quant, preprocess=prepare,
                    calibration=prepare(splits.calibration.images[:]), check_on=prepare(splits.test.images[:]),
                    labels=splits.test.labels if task else None, task=task, classes=splits.classes, out=folder,
                    options=options,
                )  # fmt: skip
            except NbedgeError as error:
                found.append(f"({error})")
                continue
            found += [f"{100 * score(exported.artifact.path, splits, prepare):.2f}" for exported in made]
            rungs = made[-1].artifact.ladder["rung"]
    yield f"| {name} | {format} | {' | '.join(found)} | {rungs} |"


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
