"""ModelReference: where a model's class comes from, in words that can be written into a file."""

import importlib
import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from nbedge import samples
from nbedge.errors import InputError, needs

FORMS = "sample:NAME, timm:NAME, package.module:factory or path/to/file.py:factory"


@dataclass(frozen=True, slots=True)
class ModelReference:
    """A model factory and its arguments.

    Attributes:
        text: `sample:NAME`, `timm:NAME`, `package.module:factory` or `path/to/file.py:factory`.
        arguments: keyword arguments of the factory, plain JSON values.
    """

    text: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trusted(self) -> bool:
        """Whether building it runs no code of the file that names it."""
        return self.text.rpartition(":")[0] in ("sample", "timm")  # as `_factory` splits it

    def build(self) -> nn.Module:
        """Call the factory.

        Raises:
            InputError: the reference cannot be resolved, or the factory does not return a module.
            MissingDependencyError: it is a timm model and timm is not installed.
        """
        factory = self._factory()
        try:
            model = factory(**self.arguments)
        except Exception as error:  # whatever the user's code raises
            shown = json.dumps(dict(self.arguments))
            raise InputError(
                f"the model {self.text} cannot be built with the arguments {shown}: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(model, nn.Module):
            raise InputError(f"the model {self.text} is a {type(model).__name__}, not a torch.nn.Module")
        return model

    def _factory(self) -> Callable[..., Any]:
        kind, separator, name = self.text.rpartition(":")
        if not separator or not kind or not name:
            raise InputError(f"{self.text!r} names no model; write {FORMS}")
        if kind == "timm":
            with needs("timm"):
                timm = _timm()
            return lambda **arguments: timm.create_model(name, **arguments)
        module = samples if kind == "sample" else _module(kind)
        factory = vars(module).get(name)
        if not callable(factory):
            raise InputError(f"the model {self.text!r}: {kind} holds no function or class {name!r}")
        return factory  # type: ignore[no-any-return]


def _timm() -> ModuleType:
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError:
        raise
    except Exception as error:  # a torchvision built for another torch raises what it likes
        raise InputError(f"timm is installed but does not load ({error}); reinstall it with its torchvision") from error


def _module(place: str) -> ModuleType:
    if place.endswith(".py"):
        return _module_of_file(Path(place))
    try:
        return importlib.import_module(place)
    except (ImportError, TypeError, ValueError) as error:
        raise InputError(f"the model's module {place} cannot be imported ({error}); write {FORMS}") from error


def _module_of_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"_nbedge_model_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise InputError(f"the model's file {path} does not exist; check the path")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's file raises
        raise InputError(f"the model's file {path} raises {type(error).__name__}: {error}") from error
    return module
