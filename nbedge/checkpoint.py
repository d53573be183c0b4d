"""Checkpoint: one `.safetensors` file that holds weights and all that is needed to build the model again. No pickle."""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from nbedge import __version__, files
from nbedge.errors import CheckpointError
from nbedge.expansion import expand
from nbedge.narrowing import Width, narrowed
from nbedge.plan import Plan
from nbedge.preprocessing import Preprocessing
from nbedge.reference import ModelReference

SCHEMA_VERSION = 1
KEY = "nbedge"
#: task of a checkpoint that names none
CLASSIFICATION = "classification"
#: what a checkpoint can be; "giant" and "linearized" hold expanded blocks
STAGES = (
    "control", "transferred", "giant", "linearized", "merged", "contracted", "weights", "wide", "pruned", "first-phase",
    "two-phase", "same-macs", "distilled", "teacher-free", "linear", "branches", "netaug",
)  # fmt: skip
EXPANDED = ("giant", "linearized")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint says of its weights.

    Attributes:
        stage: one of `STAGES`.
        model: where the tiny model's class comes from.
        preprocessing: how a picture becomes the input.
        classes: names of the outputs, in order.
        plan: of the giant; kept in the contracted model's file too.
        seed: of the training run.
        versions: package -> version that wrote it.
        widths: of the layers that pruning has made narrower than the model's class does.
        task: what the outputs mean, "classification" or "detection".
    """

    stage: str
    model: ModelReference
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    plan: Plan | None = None
    seed: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    widths: tuple[Width, ...] = ()
    task: str = CLASSIFICATION

    def build(self) -> nn.Module:
        """Return the module with fresh weights: the tiny model, or its giant if the stage is an expanded one."""
        tiny = narrowed(self.model.build(), self.widths) if self.widths else self.model.build()
        if self.stage not in EXPANDED:
            return tiny
        if self.plan is None:
            raise CheckpointError(f"the checkpoint of stage {self.stage} holds no plan, so the giant cannot be built")
        return expand(tiny, self.plan, seed=self.seed)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "schema_version": SCHEMA_VERSION,
            "stage": self.stage,
            "model": self.model.text,
            "model_args": dict(self.model.arguments),
            "preprocessing": self.preprocessing.to_dict(),
            "classes": list(self.classes),
            "plan": self.plan.to_dict() if self.plan else None,
            "seed": self.seed,
            "versions": dict(self.versions),
            # left out where they say nothing: such a file has the bytes that it always had
            **({"widths": [width.to_dict() for width in self.widths]} if self.widths else {}),
            **({"task": self.task} if self.task != CLASSIFICATION else {}),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Checkpoint":
        """Read what `to_dict` wrote."""
        if values["schema_version"] != SCHEMA_VERSION or values["stage"] not in STAGES:
            found = f"schema_version {values['schema_version']!r}, stage {values['stage']!r}"
            known = f"{SCHEMA_VERSION}, {', '.join(STAGES)}"
            raise CheckpointError(f"the checkpoint has {found}; this nbedge reads {known}")
        return cls(
            stage=values["stage"],
            model=ModelReference(values["model"], values["model_args"]),
            preprocessing=Preprocessing.from_dict(values["preprocessing"]),
            classes=tuple(values["classes"]),
            plan=Plan.from_dict(values["plan"]) if values["plan"] else None,
            seed=values["seed"],
            versions=values["versions"],
            widths=tuple(Width.from_dict(width) for width in values.get("widths", ())),
            task=values.get("task", CLASSIFICATION),
        )


def refuse_target(path: Path, overwrite: bool) -> None:
    """Refuse a path that no checkpoint can be written to, before the work is done.

    Raises:
        InputError: something is there already, it cannot be written, or the name says that it is another kind of file.
    """
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path} is to be a checkpoint; call it NAME.safetensors")
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; choose another name")
    files.refuse_existing(path, overwrite)


def save_checkpoint(path: Path | str, model: nn.Module, about: Checkpoint) -> None:
    """Write the weights of `model` and `about` to `path`, whole or not at all; equal content gives equal bytes."""
    about = replace(about, versions=versions())
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    # one metadata key only: safetensors writes several in no fixed order
    files.write_bytes(Path(path), save(state, {KEY: json.dumps(about.to_dict(), sort_keys=True)}))


def versions() -> dict[str, str]:
    """Return the versions that a checkpoint records."""
    return {"nbedge": __version__, "torch": str(torch.__version__)}


def load_checkpoint(
    path: Path | str, *, model: str | None = None, trust: bool = False
) -> tuple[nn.Module, Checkpoint]:  # fmt: skip
    """Build the model that `path` describes, load its weights strictly, and return it in eval mode.

    Args:
        path: a `.safetensors` file written by nbedge.
        model: reference of the model's class, if the one in the file is not to be used.
        trust: run the reference found in the file even if it names code outside `sample:` and `timm:`.

    Raises:
        CheckpointError: the file is missing, cut short, a pickle, not nbedge's, or belongs to another model.
    """
    path = Path(path)
    about = read_metadata(path)
    if model is not None:
        about = replace(about, model=ModelReference(model, about.model.arguments))
    elif not (about.model.trusted or trust):
        raise CheckpointError(
            f"{path} names the model {about.model.text}, which is code outside nbedge; name it yourself with --model, "
            "or pass --trust to run it"
        )
    module = about.build()
    _load_strictly(module, tensors(path), path)
    return module.eval(), about


def read_metadata(path: Path) -> Checkpoint:
    """Return what the checkpoint at `path` says of itself, without building the model.

    Raises:
        CheckpointError: as `load_checkpoint`.
    """
    _refuse_foreign(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        return Checkpoint.from_dict(json.loads(metadata[KEY]))
    except SafetensorError as error:
        raise CheckpointError(f"{path} is cut short or damaged ({error}); copy or train it again") from error
    except KeyError as error:
        raise CheckpointError(
            f"{path} holds weights but no nbedge checkpoint (no {error}); pass it as --weights beside a model"
        ) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} holds a damaged record of itself ({error!r}); train it again") from error


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a plain state dict strictly: .safetensors, or .pt/.pth/.ckpt read with `weights_only=True`.

    Raises:
        CheckpointError: the file is missing or damaged, a pickled module, or belongs to another model.
    """
    if files.existing(path, "the weights").suffix == ".safetensors":
        _load_strictly(model, tensors(path), path)
        return
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises UnpicklingError, RuntimeError, EOFError, ... for one and the same cause
        raise CheckpointError(_PICKLED.format(path=path)) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(_PICKLED.format(path=path))
    _load_strictly(model, state, path)


_PICKLED = (
    "{path} is damaged, or a pickled module, which can run any code when it is opened; save the weights alone with "
    "torch.save(model.state_dict(), PATH) or safetensors"
)


def _refuse_foreign(path: Path) -> None:
    files.existing(path, "the checkpoint")
    head = b""
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(16)
    if head[:2] in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05"):
        raise CheckpointError(_PICKLED.format(path=path))
    if len(head) < 9 or struct.unpack("<Q", head[:8])[0] + 8 > path.stat().st_size:
        raise CheckpointError(f"{path} is cut short or no .safetensors file; copy or train it again")


def tensors(path: Path) -> dict[str, Tensor]:
    """Return name -> tensor of everything in a .safetensors file.

    Raises:
        CheckpointError: the file is cut short or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is cut short or damaged ({error}); copy or train it again") from error


def _load_strictly(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    differing = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if differing:
        name = differing[0]
        raise CheckpointError(
            f"{path} belongs to another model: {len(differing)} of {len(wanted)} tensors differ, first {name} "
            f"({found.get(name, 'missing')} in the file, {wanted.get(name, 'missing')} in the model); name its model"
        )
    model.load_state_dict(state, strict=True)
