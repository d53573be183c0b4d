"""From logits to accuracy: what a model answers on labelled pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge.errors import InputError
from nbedge.preprocessing import Images, Preprocessing

Logits = NDArray[np.floating[Any]]
#: name of an output -> (n, ...)
Outputs = Mapping[str, NDArray[Any]]
#: name of the output of a module where there is only one
OUTPUT = "output"


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


def single(outputs: Outputs) -> Logits:
    """Return the one output.

    Raises:
        InputError: there are several.
    """
    if len(outputs) != 1:
        raise InputError(f"the model has the outputs {', '.join(outputs)}; one output a class is expected")
    (logits,) = outputs.values()
    return logits


def named(answer: Any) -> dict[str, NDArray[np.float32]]:
    """Return the tensors that a torch module answered, by name, as float32 arrays.

    One tensor is called "output", those of a tuple "output0", "output1", ...; a dict keeps its keys.

    Raises:
        InputError: there are none.
    """
    import torch

    if isinstance(answer, torch.Tensor):
        answer = {OUTPUT: answer}
    elif isinstance(answer, tuple | list):
        answer = {f"{OUTPUT}{index}": value for index, value in enumerate(answer)}
    tensors = answer if isinstance(answer, Mapping) else {}
    if not tensors or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise InputError(
            f"the model gives a {type(answer).__name__}; one tensor, a tuple or a dict of them is expected"
        )
    return {str(name): value.detach().float().cpu().numpy() for name, value in tensors.items()}


def outputs_of_module(model: Any, images: Images, preprocessing: Preprocessing, size: int = 500) -> Outputs:
    """Run a torch module in eval mode over pictures (n, h, w, c), `size` at a time; its mode is restored.

    Raises:
        InputError: it gives no tensors.
    """
    import torch

    from nbedge.tracing import evaluating

    device = next(model.parameters()).device
    with evaluating(model), torch.inference_mode():
        parts = [
            named(model(torch.from_numpy(preprocessing(images[start : start + size])).to(device)))
            for start in range(0, len(images), size)
        ]
    return joined(parts)


def joined(parts: Sequence[Outputs]) -> Outputs:
    """Return the outputs of several batches, one behind the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def logits_of_module(model: Any, images: Images, preprocessing: Preprocessing, size: int = 500) -> Logits:
    """Do as `outputs_of_module` for a module of one output, and return that: (n, classes)."""
    return single(outputs_of_module(model, images, preprocessing, size))
