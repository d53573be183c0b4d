"""Subject: whatever a verb is pointed at, a model reference, a checkpoint or an exported file, ready to run."""

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nbedge.errors import InputError, needs
from nbedge.preprocessing import Preprocessing
from nbedge.subject import Subject

if TYPE_CHECKING:
    from torch import nn

    from nbedge.artifact import Artifact
    from nbedge.checkpoint import Checkpoint
    from nbedge.plan import Plan
    from nbedge.runtime import Runner

SHAPE_RANK = 3
#: suffixes of exported files, and of answers that were written down
FILES = (".onnx", ".tflite", ".pt2", ".npz")


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """What the user says of a model that does not say it of itself.

    Attributes:
        model: reference of the class, instead of the one in a checkpoint.
        weights: state dict to load.
        arguments: of the factory.
        shape: of one input, (channels, height, width) for pictures, or None.
        mean: per channel, in [0, 1] units.
        std: likewise.
        trust: run the reference that a checkpoint names.
    """

    model: str | None = None
    weights: Path | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    trust: bool = False


def model_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Add the options that describe a model, and give the verb a `ModelOptions`."""

    @click.option("--model", help="Reference of the model's class, instead of the one in a checkpoint.")
    @click.option("--weights", type=click.Path(path_type=Path), help="State dict: .safetensors, .pt, .pth or .ckpt.")
    @click.option("--model-args", default="{}", help="Arguments of the model's factory, a JSON object.")
    @click.option("--input", "shape", help="Size of the input, for example 1x3x96x96 or 3x96x96.")
    @click.option("--mean", help="Per channel in [0,1] units, for example 0.5,0.5,0.5.")
    @click.option("--std", help="Likewise.")
    @click.option("--trust", is_flag=True, help="Run the model code that a checkpoint names.")
    @functools.wraps(verb)
    def wrapped(
        model: str | None, weights: Path | None, model_args: str, shape: str | None, mean: str | None, std: str | None,
        trust: bool, **rest: Any,
    ) -> None:  # fmt: skip
        normalisation = _numbers("--mean", mean), _numbers("--std", std)
        described = ModelOptions(
            model, weights, _arguments(model_args), parse_shape(shape), *normalisation, trust=trust
        )
        verb(options=described, **rest)

    return wrapped


def _arguments(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise InputError(f"--model-args is no JSON ({error}); write for example '{{\"num_classes\": 10}}'") from error
    if not isinstance(values, dict):
        raise InputError("--model-args must be a JSON object, for example '{\"num_classes\": 10}'")
    return values


def described(
    subject: Subject, name: str, options: ModelOptions, stage: str, plan: "Plan | None", seed: int
) -> "Checkpoint":  # fmt: skip
    """Return the record of a checkpoint made from a subject: what its own file says of it, or what the user said."""
    from nbedge.checkpoint import CLASSIFICATION, Checkpoint, read_metadata
    from nbedge.reference import ModelReference

    if name.endswith(".safetensors"):
        about = read_metadata(Path(name))
        reference = ModelReference(options.model, about.model.arguments) if options.model else about.model
        return replace(about, stage=stage, model=reference, plan=plan or about.plan, seed=seed)
    reference = ModelReference(name, options.arguments)
    return Checkpoint(
        stage, reference, subject.prepared(), subject.classes, plan, seed, task=subject.task or CLASSIFICATION
    )


def parse_shape(text: str | None) -> tuple[int, ...] | None:
    """Read 1x3x96x96 or 3x96x96 as (channels, height, width); 640 and 16x100 are no pictures.

    Raises:
        InputError: it is neither.
    """
    if text is None:
        return None
    try:
        sizes = [int(part) for part in text.split("x")]
    except ValueError:
        sizes = []
    if len(sizes) > SHAPE_RANK + 1 or min(sizes, default=0) < 1:
        raise InputError(f"--input is {text!r}; write channels x height x width, for example 3x96x96")
    return tuple(sizes[-SHAPE_RANK:])


def pictured(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return what --input says as (channels, height, width).

    Raises:
        InputError: it says something else.
    """
    if len(shape) != SHAPE_RANK:
        said = "x".join(map(str, shape))
        raise InputError(f"--input is {said!r}; write channels x height x width, for example 3x96x96")
    channels, height, width = shape
    return channels, height, width


def _numbers(option: str, text: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise InputError(f"{option} is {text!r}; write one number a channel, for example 0.5,0.5,0.5") from error


def open_subject(text: str, options: ModelOptions | None = None) -> Subject:
    """Open a model reference, a checkpoint or an exported file.

    Raises:
        InputError: there is no such thing, or it cannot be opened.
    """
    options = options or ModelOptions()
    suffix = Path(text).suffix
    if suffix in FILES or (suffix not in ("", ".safetensors") and suffix in _plugged()):
        return _exported(Path(text), options)
    with needs("train"):
        if suffix == ".safetensors":
            return _checkpoint(Path(text), options)
        if ":" not in text:
            raise InputError(_unknown(text, suffix))
        return _reference(text, options)


def _plugged() -> set[str]:
    """Return the suffixes of the formats that plug-ins add."""
    from nbedge.exporter import exporters

    return {f".{exporter.produces}" for exporter in exporters().values()}


def _unknown(text: str, suffix: str) -> str:
    from nbedge.reference import FORMS

    if suffix in (".pt", ".pth", ".ckpt"):
        return f"{text} can hold weights, but no model that is safe to open; name the model, and pass --weights {text}"
    return (
        f"{text!r} is no checkpoint (.safetensors), no exported file ({', '.join(FILES)}) and no model; write {FORMS}"
    )


def _checkpoint(path: Path, options: ModelOptions) -> Subject:
    from nbedge.checkpoint import load_checkpoint

    model, about = load_checkpoint(path, model=options.model, trust=options.trust)
    return Subject(
        path.name, model, about.preprocessing, about.classes, "fp32", about.preprocessing.shape, head="logits",
        task=about.task,
    )  # fmt: skip


def refuse_contradiction(subject: Subject, options: ModelOptions) -> None:
    """Refuse options that say other than what a file knows of itself: they would change nothing.

    Raises:
        InputError: they do.
    """
    known = subject.preprocessing
    held = {} if known is None else {"--mean": (options.mean, known.mean), "--std": (options.std, known.std)}
    for option, (said, own) in {"--input": (options.shape, subject.shape), **held}.items():
        if said and tuple(said) != tuple(own):
            shown = ("x" if option == "--input" else ",").join(map(str, own))
            raise InputError(f"{option} contradicts {subject.name}, which was trained with {shown}; leave it out")


def _reference(text: str, options: ModelOptions) -> Subject:
    from nbedge.checkpoint import load_weights
    from nbedge.reference import ModelReference

    if options.shape is None:
        raise InputError(f"{text} does not say what it takes; pass --input, for example --input 3x96x96")
    model = ModelReference(text, options.arguments).build().eval()
    tried(model, text, options.shape)
    if options.weights:
        load_weights(model, options.weights)
    return Subject(text, model, _preprocessing(options, options.shape), (), "fp32", options.shape)


def tried(model: "nn.Module", text: str, shape: tuple[int, ...]) -> Any:
    """Return what `model`, which is called `text`, answers to an input of zeros.

    Raises:
        InputError: it does not take inputs of this shape.
    """
    import torch

    try:
        with torch.inference_mode():
            return model(torch.zeros(1, *shape))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        size = "x".join(map(str, shape))
        raise InputError(f"{text} does not take --input {size} ({error}); change --input or --model-args") from error


def _exported(path: Path, options: ModelOptions) -> Subject:
    from nbedge import artifact
    from nbedge.runtime import open_file, picture_shape

    runner = open_file(path)
    if artifact.sidecar(path).exists():
        about = artifact.read(path)
        _refuse_other_signature(about, runner)
        shape = about.preprocessing.shape if about.preprocessing else picture_shape(runner.inputs[0])
        return Subject(
            path.name, runner, about.preprocessing, about.classes, about.scheme, shape, path,
            about.derived_from, about.calibration, about.head, about.remedies, about.exempt,
            about.task,
        )  # fmt: skip
    shape = _filled(picture_shape(runner.inputs[0]), options.shape)
    scheme = "int8" if runner.inputs[0].scale else _unclaimed(path)
    return Subject(path.name, runner, _preprocessing(options, shape), (), scheme, shape, path)


def _refuse_other_signature(about: "Artifact", runner: "Runner") -> None:
    for said, found in ((about.inputs, runner.inputs), (about.outputs, runner.outputs)):
        differing = [(s, f) for s, f in zip(said, found, strict=False) if s != f]
        if differing or len(said) != len(found):
            one, other = differing[0] if differing else (f"{len(said)} tensors", f"{len(found)}")
            raise InputError(f"{about.path} is not what its sidecar says ({one}, but {other}); export it again")


def _unclaimed(path: Path) -> str:
    """Return the scheme of a file that claims none and takes floats: that of its weights."""
    from nbedge.graph import READABLE, read, weights_type

    kind = weights_type(read(path)) if path.suffix in READABLE else "fp32"
    return "dynamic" if kind == "int8" else kind  # which of its activations are integers is not promised


def _filled(shape: tuple[int, ...], said: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the shape of a file, with the sizes that it leaves open as the user said."""
    return tuple(a or b for a, b in zip(shape, said, strict=True)) if said and len(said) == len(shape) else shape


def _preprocessing(options: ModelOptions, shape: tuple[int, ...]) -> Preprocessing | None:
    if not (options.mean and options.std):
        return None
    if len(shape) != SHAPE_RANK:
        raise InputError(f"--mean and --std belong to pictures; the model takes inputs of shape {shape}")
    return Preprocessing(pictured(shape), options.mean, options.std)
