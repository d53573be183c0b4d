"""The sample pictures, as data URIs, with what each model says of them."""

import io
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge.detection.drawing import drawn
from nbedge.errors import InputError, needs
from nbedge.report.formats import short_names

#: pixels that a picture with boxes is wide at least
WIDTH = 480


@dataclass(frozen=True, slots=True)
class Answer:
    """A predicted class, whether it is the label, and the models that predict it."""

    predicted: str
    right: bool
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """A test picture (a data URI, "" if it is missing), its label, and the answers, each once."""

    uri: str
    label: str
    answers: tuple[Answer, ...]


def samples(
    evaluation: dict[str, Any] | None, pictures: Path | None, product: str = "", classes: Sequence[str] = ()
) -> tuple[Sample, ...]:  # fmt: skip
    """Join the predictions of `evaluation` with the pictures of `samples.npz`, in order.

    Into the pictures of a detector the boxes are drawn that the model `product` has found.

    Raises:
        InputError: `pictures` is not what nbedge wrote.
    """
    listed = (evaluation or {}).get("samples", [])
    files = [_png(image) for image in _images(pictures)] if pictures else []
    files += [b""] * (len(listed) - len(files))
    return tuple(_sample(s, file, product, classes) for s, file in zip(listed, files, strict=False))


def _sample(sample: dict[str, Any], file: bytes, product: str, classes: Sequence[str]) -> Sample:
    if isinstance(sample["label"], str):
        return Sample(_uri(file), sample["label"], _answers(sample))
    boxes = sample["predictions"].get(product, [])
    label = _counted(sample["label"])
    told = {model: _counted(found) for model, found in sample["predictions"].items()}
    uri = _uri(drawn(io.BytesIO(file), boxes, classes, WIDTH)) if file else ""
    return Sample(uri, label, _answers({"label": label, "predictions": told}))


def _counted(boxes: list[dict[str, Any]]) -> str:
    """Return how many boxes there are of each class, in words."""
    counts = Counter(str(box["class"]) for box in boxes)
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items())) or "nothing"


def _answers(sample: dict[str, Any]) -> tuple[Answer, ...]:
    predictions: dict[str, str] = sample["predictions"]
    files = short_names([model for model in predictions if "." in model])
    models: dict[str, list[str]] = {}
    for model, predicted in predictions.items():
        models.setdefault(predicted, []).append(files.get(model, model))
    return tuple(Answer(predicted, predicted == sample["label"], tuple(names)) for predicted, names in models.items())


def _images(path: Path) -> NDArray[np.uint8]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images: NDArray[np.uint8] = arrays["images"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} holds no pictures of nbedge ({error}); run the evaluation again") from error
    return images


def _png(image: NDArray[np.uint8]) -> bytes:
    with needs("report"):
        from PIL import Image
    content = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(content, "PNG")
    return content.getvalue()


def _uri(file: bytes) -> str:
    return "data:image/png;base64," + b64encode(file).decode() if file else ""
