"""The networks: trained ones of the samples, and two whose channels were spoiled on purpose."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from nbedge.cli.subject import open_subject
from nbedge.data import Pictures, load
from nbedge.preprocessing import Preprocessing
from peers.training import trained

SAMPLES = Path(__file__).parent.parent.parent / "sample_models"
DATA = {"fashion_mnist": f"npz:{SAMPLES / 'fashion_mnist' / 'data.npz'}",
        "blood_cells": f"folder:{SAMPLES / 'blood_cells' / 'data'}"}  # fmt: skip
#: how much larger one channel is made
OUTLIER = 100.0
#: deviation of log2 of the factors by which channels are spread
SPREAD = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Net:
    """A trained network, and its pictures."""

    name: str
    model: nn.Module
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    calibration: Pictures
    validation: Pictures
    test: Pictures


def nets(pictures: Path | None = None, runs: Path | None = None) -> Iterator[Net]:
    """Yield every network; those of CIFAR-10 if its pictures are given, trained into the folder `runs`."""
    for sample, data in DATA.items():
        for stage in ("contracted", "control"):
            about = open_subject(str(SAMPLES / sample / f"{stage}.safetensors"))
            assert isinstance(about.model, nn.Module)
            splits = load(data, about.pictured())
            held = (splits.calibration, splits.validation, splits.test)
            yield Net(f"{sample}, {stage}", about.model, about.prepared(), about.classes, *held)
            if (sample, stage) == ("fashion_mnist", "contracted"):
                yield Net(f"{sample}, spread", spread(about.model), about.prepared(), about.classes, *held)
                yield Net(f"{sample}, outlier", outlier(about.model), about.prepared(), about.classes, *held)

    if pictures is not None and runs is not None:
        for name, checkpoint in trained(pictures, runs).items():
            about = open_subject(str(checkpoint))
            assert isinstance(about.model, nn.Module)
            splits = load(f"folder:{pictures}", about.pictured())
            held = (splits.calibration, splits.validation, splits.test)
            yield Net(name, about.model, about.prepared(), about.classes, *held)


def spread(model: nn.Module, seed: int = 0) -> nn.Module:
    """Return a MobileNetV2 that computes the same, with channels between its blocks of very different sizes.

    Those that a residual sum joins get the same factors: gamma and beta of each projection are multiplied, the weights
    that read them divided.
    """
    model = copy.deepcopy(model).eval()
    generator = torch.Generator().manual_seed(seed)
    factors: torch.Tensor | None = None
    with torch.no_grad():
        for block in list(model.features)[1:]:  # type: ignore[arg-type]
            layers = [m for m in block.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
            convolutions = [m for m in layers if isinstance(m, nn.Conv2d)]
            if factors is not None and convolutions[0].groups == 1:
                convolutions[0].weight /= factors.view(1, -1, 1, 1)
            last = layers[-1]
            if last is layers[1]:  # the head: its activation is clipped
                continue
            if not getattr(block, "use_res_connect", False) or factors is None:
                joined = getattr(block, "use_res_connect", False)
                new = torch.exp2(SPREAD * torch.randn(convolutions[-1].out_channels, generator=generator))
                factors = torch.ones_like(new) if joined else new
            assert isinstance(last, nn.BatchNorm2d)
            last.weight.mul_(factors)
            last.bias.mul_(factors)
    return model


def outlier(model: nn.Module) -> nn.Module:
    """Return a MobileNetV2 with one channel between two blocks far larger than the others.

    What a ReLU6 gives is added to that channel, unscaled: so it computes something else, and no factor can undo it.
    """
    model = copy.deepcopy(model).eval()
    before, after = list(model.features)[1:3]  # type: ignore[arg-type]
    *_, norm = (m for m in before.modules() if isinstance(m, nn.BatchNorm2d))
    reader = next(m for m in after.modules() if isinstance(m, nn.Conv2d))
    with torch.no_grad():
        norm.weight[0] *= OUTLIER
        norm.bias[0] *= OUTLIER
        reader.weight[:, 0] /= OUTLIER
    return model
