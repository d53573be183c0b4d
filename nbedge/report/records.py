"""The files of a run directory, read as they are; a part that was not run is None or empty."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbedge import files
from nbedge.errors import InputError

Json = dict[str, Any]

#: in the order in which they are trained
STAGES = ("control", "transferred", "giant", "linearized", "tuned")


@dataclass(frozen=True, slots=True)
class Records:
    """What lies in a run directory, as plain JSON values.

    Attributes:
        path: the run directory.
        recipe: text of the recipe.
        manifest: name, versions and stages.
        data: classes and number of pictures in each split.
        plan: which layers are expanded.
        curves: stage -> its record; only those that were trained.
        evaluation: accuracies and sample predictions.
        edges: what verification found, one record an edge, by file name.
        sidecars: of the exported files, by file name.
        bench: conditions and measurements.
        choice: which model is the product, and why boosting was stopped, if it was.
        pictures: `samples.npz`, where it exists.
    """

    path: Path
    recipe: str | None
    manifest: Json | None
    data: Json | None
    plan: Json | None
    curves: dict[str, Json]
    evaluation: Json | None
    edges: tuple[Json, ...]
    sidecars: tuple[Json, ...]
    bench: Json | None
    choice: Json | None
    pictures: Path | None


def read(run: Path) -> Records:
    """Read the run directory `run`.

    Raises:
        InputError: `run` is no run directory, or a file in it is not the JSON that nbedge wrote.
    """
    files.existing(run, "the run directory")
    recipe, pictures = run / "recipe.toml", run / "samples.npz"
    found = Records(
        path=run,
        recipe=recipe.read_text(encoding="utf-8") if recipe.exists() else None,
        manifest=_json(run / "manifest.json"),
        data=_json(run / "data.json"),
        plan=_json(run / "plan.json"),
        curves={stage: curve for stage in STAGES if (curve := _json(run / "curves" / f"{stage}.json"))},
        evaluation=_json(run / "evaluation.json"),
        edges=_all(run / "verification"),
        sidecars=_all(run / "exports"),
        bench=_json(run / "bench.json"),
        choice=_json(run / "choice.json"),
        pictures=pictures if pictures.exists() else None,
    )
    if found.recipe is None and found.manifest is None:
        raise InputError(f"{run} holds no run (neither recipe.toml nor manifest.json); give the folder of `nbedge run`")
    return found


def _all(folder: Path) -> tuple[Json, ...]:
    return tuple(record for path in sorted(folder.glob("*.json")) if (record := _json(path)))


def _json(path: Path) -> Json | None:
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); run the stage that writes it again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object; run the stage that writes it again")
    return content
