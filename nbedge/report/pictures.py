"""The sample pictures, as data URIs, with what each model says of them."""

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbedge.errors import InputError, needs
from nbedge.report.formats import short_names


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


def samples(evaluation: dict[str, Any] | None, pictures: Path | None) -> tuple[Sample, ...]:
    """Join the predictions of `evaluation` with the pictures of `samples.npz`, in order.

    Raises:
        InputError: `pictures` is not what nbedge wrote.
    """
    listed = (evaluation or {}).get("samples", [])
    uris = _uris(pictures) if pictures else []
    uris += [""] * (len(listed) - len(uris))
    return tuple(Sample(uri, s["label"], _answers(s)) for s, uri in zip(listed, uris, strict=False))


def _answers(sample: dict[str, Any]) -> tuple[Answer, ...]:
    predictions: dict[str, str] = sample["predictions"]
    files = short_names([model for model in predictions if "." in model])
    models: dict[str, list[str]] = {}
    for model, predicted in predictions.items():
        models.setdefault(predicted, []).append(files.get(model, model))
    return tuple(Answer(predicted, predicted == sample["label"], tuple(names)) for predicted, names in models.items())


def _uris(path: Path) -> list[str]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images = arrays["images"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} holds no pictures of nbedge ({error}); run the evaluation again") from error
    return [_png(image) for image in images]


def _png(image: NDArray[np.uint8]) -> str:
    with needs("report"):
        from PIL import Image
    content = BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(content, "PNG")
    return "data:image/png;base64," + b64encode(content.getvalue()).decode()
