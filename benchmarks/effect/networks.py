"""The networks of the studies, of 1 000 to 500 000 parameters, for grey pictures of 28x28 and colour ones of 32x32."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nbedge.errors import InputError
from nbedge.samples import ConvNormActivation, InvertedResidual, MobileNetV2
from nbedge.samples.layers import PooledClassifier


@dataclass(frozen=True, slots=True)
class Task:
    """What a network is built for: pictures (channels, height, width), and so many classes."""

    shape: tuple[int, int, int]
    classes: int

    @property
    def example(self) -> Tensor:
        """An input (1, c, h, w)."""
        return torch.zeros(1, *self.shape)


#: task, factor on every number of channels -> network
Builder = Callable[[Task, float], nn.Module]


def build(name: str, task: Task, seed: int, wider: float = 1.0) -> nn.Module:
    """Return the network `name` with the weights that `seed` gives, its hidden channels `wider` times as many."""
    if name not in NETWORKS:
        raise InputError(f"there is no network {name!r}; choose from {', '.join(NETWORKS)}")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return NETWORKS[name](task, wider)


def _quick(expansion: int, *widths: int) -> Builder:
    """Return the builder of a 5x5 stem of stride 4, and an inverted residual for each further width."""

    def built(task: Task, wider: float) -> nn.Module:
        stem, *others = (round(width * wider) for width in widths)
        features: list[nn.Module] = [ConvNormActivation(task.shape[0], stem, kernel_size=5, stride=4)]
        before = stem
        for width in others:
            features.append(InvertedResidual(before, width, 1, expansion))
            before = width
        return PooledClassifier(features, before, task.classes)

    return built


def _mobilenet(settings: tuple[tuple[int, int, int, int], ...], stem: int, last: int) -> Builder:
    """Return the builder of a MobileNetV2; `settings` has rows of (expansion, channels, repeats, first stride)."""

    def built(task: Task, wider: float) -> nn.Module:
        return MobileNetV2(
            task.classes, task.shape[0], task.shape[1], wider, settings, round(last * min(1.0, wider)), stem, divisor=2
        )

    return built


class Separable(nn.Sequential):
    """Depthwise 3x3 and 1x1, each with BatchNorm and ReLU6: the block of MobileNetV1 and DS-CNN."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__(
            ConvNormActivation(before, before, stride=stride, groups=before),
            ConvNormActivation(before, after, kernel_size=1),
        )


def _separable(*rows: tuple[int, int]) -> Builder:
    """Return the builder of a 3x3 stem and separable blocks, one for each row of (channels, stride)."""

    def built(task: Task, wider: float) -> nn.Module:
        (stem, stride), *others = ((round(width * wider), stride) for width, stride in rows)
        features: list[nn.Module] = [ConvNormActivation(task.shape[0], stem, stride=stride)]
        before = stem
        for width, stride in others:
            features.append(Separable(before, width, stride))
            before = width
        return PooledClassifier(features, before, task.classes)

    return built


def _plain(channels: int, layers: int) -> Builder:
    """Return the builder of `layers` narrow 3x3 convolutions without shortcuts: optimisation is the limit."""

    def built(task: Task, wider: float) -> nn.Module:
        width = round(channels * wider)
        strides = [2 if index in (0, layers // 3, 2 * layers // 3) else 1 for index in range(layers)]
        sizes = [task.shape[0], *[width] * layers]
        features = [ConvNormActivation(sizes[i], sizes[i + 1], stride=stride) for i, stride in enumerate(strides)]
        return PooledClassifier(features, width, task.classes)

    return built


class Residual(nn.Module):
    """The basic block of ResNet (arXiv 1512.03385): two 3x3 convolutions and a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = ConvNormActivation(before, after, stride=stride)
        self.second = nn.Sequential(nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after))
        same = stride == 1 and before == after
        point = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        self.shortcut = nn.Identity() if same else point
        self.last = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c', h', w')."""
        result: Tensor = self.last(self.second(self.first(x)) + self.shortcut(x))
        return result


def _resnet(channels: int, repeats: int) -> Builder:
    """Return the builder of the ResNet for small pictures: three stages of `channels`, twice and four times as many."""

    def built(task: Task, wider: float) -> nn.Module:
        width = round(channels * wider)
        features: list[nn.Module] = [ConvNormActivation(task.shape[0], width)]
        before = width
        for stage in range(3):
            after = width * 2**stage
            for index in range(repeats):
                features.append(Residual(before, after, 2 if stage and not index else 1))
                before = after
        return PooledClassifier(features, before, task.classes)

    return built


_SMALL = ((1, 8, 1, 1), (3, 12, 2, 2), (3, 16, 2, 1), (3, 24, 2, 2))
_LARGE = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 3, 1))

#: name -> builder; the README lists parameters and multiply-accumulates
NETWORKS: dict[str, Builder] = {
    "q1": _quick(2, 4, 4, 4, 6, 6),
    "q3": _quick(3, 6, 6, 6, 8, 8),
    "q6": _quick(3, 10, 12, 14, 16, 20),
    "ds16": _separable((16, 2), (16, 1), (24, 2), (32, 1), (48, 2)),
    "ds23": _separable((16, 2), (24, 2), *[(24, 1)] * 5, (32, 2), *[(32, 1)] * 4),
    "ds45": _separable((16, 2), (24, 2), *[(24, 1)] * 10, (32, 2), *[(32, 1)] * 10),
    "plain16": _plain(8, 16),
    "plain24": _plain(8, 24),
    "mb15": _mobilenet(_SMALL, 8, 64),
    "mb120": _mobilenet(_LARGE, 16, 128),
    "res20": _resnet(8, 3),
    "res20w": _resnet(20, 3),
}
