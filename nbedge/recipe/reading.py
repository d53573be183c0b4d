"""From TOML to a recipe: every key is known and of its type, or the file is refused."""

import difflib
import json
import tomllib
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from nbedge import files
from nbedge.data import anchored
from nbedge.errors import InputError
from nbedge.recipe.records import Recipe


def read(path: Path) -> Recipe:
    """Read a recipe; a relative data path or model file is taken from where the recipe lies.

    Raises:
        InputError: the file is missing or no TOML, or a key is unknown, missing, or of the wrong type.
    """
    try:
        table = tomllib.loads(files.existing(path, "the recipe").read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} is no TOML: {error}") from error
    recipe: Recipe = record(Recipe, table, str(path), "")
    _, separator, source = recipe.data.source.partition(":")
    if not (separator and source):
        raise InputError(f"{path}: data.source is {recipe.data.source!r}; write KIND:PATH, for example folder:pictures")
    recipe = replace(recipe, **_anchored(recipe, path.parent))
    pictures = replace(recipe.data, source=anchored(recipe.data.source, path.parent))
    file, _, factory = recipe.model.reference.rpartition(":")
    if not file.endswith(".py"):
        return replace(recipe, data=pictures)
    return replace(
        recipe, data=pictures, model=replace(recipe.model, reference=f"{(path.parent / file).resolve()}:{factory}")
    )


def _anchored(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Return the sections that name checkpoints, with paths that start at the recipe made absolute."""
    giant, control = (
        str((folder / p).resolve()) if p else "" for p in (recipe.transfer.giant, recipe.transfer.control)
    )
    distill = recipe.distill
    if distill.teacher not in ("", "giant", "virtual"):
        distill = replace(distill, teacher=str((folder / distill.teacher).resolve()))
    return {"transfer": replace(recipe.transfer, giant=giant, control=control), "distill": distill}


def record(kind: type[Any], table: Any, place: str, prefix: str) -> Any:
    """Read `table` into the dataclass `kind`; `place` and `prefix` say where, for the messages."""
    if not isinstance(table, dict):
        raise InputError(f"{place}: {prefix.rstrip('.')} is {table!r}; write a table [{prefix.rstrip('.')}]")
    hints = get_type_hints(kind)
    known = [f.name for f in fields(kind)]
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known are {', '.join(known)}"
            raise InputError(f"{place}: unknown key {prefix}{key}; {hint}")
    values = {name: _value(hints[name], table[name], place, prefix + name) for name in known if name in table}
    try:
        return kind(**values)
    except TypeError as error:
        missing = next(name for name in known if name not in values and _required(kind, name))
        raise InputError(f"{place}: the key {prefix}{missing} is missing; add it") from error
    except InputError as error:
        raise InputError(f"{place}: {prefix}{error}") from error


def _required(kind: type[Any], name: str) -> bool:
    found = next(f for f in fields(kind) if f.name == name)
    return found.default is MISSING and found.default_factory is MISSING


def _value(kind: Any, value: Any, place: str, key: str) -> Any:
    """Return `value` as `kind`, or say what was expected."""
    if is_dataclass(kind) and isinstance(kind, type):
        return record(kind, value, place, key + ".")
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple and isinstance(value, list):
        wanted = [arguments[0]] * len(value) if arguments[-1] is ... else list(arguments)
        if len(wanted) == len(value):
            return tuple(_value(wanted[i], item, place, f"{key}[{i}]") for i, item in enumerate(value))
    elif origin in (Union, types.UnionType):
        return _value(next(k for k in arguments if k is not type(None)), value, place, key)
    elif kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif (isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, dict)) or (
        isinstance(kind, type) and type(value) is kind
    ):
        return value
    raise InputError(f"{place}: {key} is {json.dumps(value, default=str)}, expected {_expected(kind)}")


def _expected(kind: Any) -> str:
    words = {int: "a whole number", float: "a number", str: "a text in quotes", bool: "true or false"}
    if get_origin(kind) is tuple:
        arguments = get_args(kind)
        count = "a list" if arguments[-1] is ... else f"a list of {len(arguments)}"
        return f"{count}, each {_expected(arguments[0])}"
    return words.get(kind, "a table")
