"""From logits to accuracy: what a model answers on labelled pictures."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge.preprocessing import Images, Preprocessing

Logits = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Accuracy on `pictures` labelled pictures; shares are fractions in [0, 1].

    Attributes:
        pictures: how many.
        top1: share whose first answer is right.
        top5: share whose label is among the first five answers.
        per_class: class name -> share of its pictures answered right.
        confusion: rows are labels, columns answers, cells counts.
        flips: pictures whose first answer differs from the reference's; None without a reference.
    """

    pictures: int
    top1: float
    top5: float
    per_class: dict[str, float]
    confusion: list[list[int]]
    flips: int | None = None


def judge(
    logits: Logits, labels: NDArray[np.int64], classes: tuple[str, ...], reference: Logits | None = None
) -> Accuracy:
    """Compare logits (n, classes) with labels (n,), and with the logits of a reference if there is one."""
    answers = logits.argmax(1)
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (labels, answers), 1)
    counts = np.maximum(confusion.sum(1), 1)
    return Accuracy(
        pictures=len(labels),
        top1=top_k(logits, labels, 1),
        top5=top_k(logits, labels, 5),
        per_class={name: float(confusion[i, i] / counts[i]) for i, name in enumerate(classes)},
        confusion=confusion.tolist(),
        flips=None if reference is None else int((answers != reference.argmax(1)).sum()),
    )


def top_k(logits: Logits, labels: NDArray[np.int64], k: int) -> float:
    """Return the share of labels (n,) that are among the k largest logits (n, classes)."""
    if k == 1:
        return float((logits.argmax(1) == labels).mean())
    first = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    return float((first == labels[:, None]).any(1).mean())


def logits_of_module(model: Any, images: Images, preprocessing: Preprocessing, size: int = 500) -> NDArray[np.float32]:
    """Run a torch module in eval mode over pictures (n, h, w, c), `size` at a time; its mode is restored."""
    import torch

    from nbedge.tracing import evaluating

    device = next(model.parameters()).device
    with evaluating(model), torch.inference_mode():
        parts = [
            model(torch.from_numpy(preprocessing(images[start : start + size])).to(device)).cpu().numpy()
            for start in range(0, len(images), size)
        ]
    return np.concatenate(parts)
