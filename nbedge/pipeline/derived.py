"""Recipes that nobody writes: the transfer of a giant to new data, and the rehearsal of a long run."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nbedge import files
from nbedge.checkpoint import read_metadata
from nbedge.data import anchored, load
from nbedge.recipe import DataSection, ExportSection, GateSection, ModelSection, Recipe, TrainSection, TransferSection

#: of a rehearsal
CLASSES = 10
BATCH = 10


def transfer(
    giant: Path, control: Path | None, data: str, arguments: Mapping[str, Any], settings: Mapping[str, Any],
    model: str = "", shape: tuple[int, int, int] | None = None, part: str = "",
) -> Recipe:  # fmt: skip
    """Return the recipe that moves a giant to new data.

    Args:
        giant: its checkpoint, which says what the model is and how pictures are normalised.
        control: checkpoint of the tiny model that was trained plainly on the giant's data.
        data: the new pictures.
        arguments: of the model's factory, where the number of outputs is not called num_classes.
        settings: epochs, ramp, batch_size, learning_rate, seed, and formats separated by commas.
        model: reference of the new network, if it is another one: a detector on the backbone of a classifier.
        shape: (c, h, w) of its pictures; None: those of the giant.
        part: path of the module that both have; empty: all but the last layer.

    Raises:
        InputError: the data cannot be read, or the settings are no settings.
    """
    about = read_metadata(files.existing(giant, "the giant"))
    shape = shape or about.preprocessing.shape
    classes = len(load(data, shape).classes)
    formats = tuple(filter(None, settings["formats"].split(",")))
    places = [str(path.resolve()) if path else "" for path in (giant, control)]
    train = TrainSection(
        batch_size=settings["batch_size"], learning_rate=settings["learning_rate"], plt_epochs=settings["epochs"],
        ramp=settings["ramp"],
    )  # fmt: skip
    return Recipe(
        name=f"{giant.stem}_transfer", seed=settings["seed"], train=train,
        model=ModelSection(
            model or about.model.text, shape,
            {**({} if model else about.model.arguments), "num_classes": classes, **arguments},
        ),
        data=DataSection(anchored(data, Path.cwd()), mean=about.preprocessing.mean, std=about.preprocessing.std),
        export=ExportSection(formats=formats), transfer=TransferSection(places[0], places[1], part),
    )  # fmt: skip


def rehearsal(recipe: Recipe) -> Recipe:
    """Return `recipe` with a few steps on generated pictures of ten classes: it shows what would stop a long run."""
    train = replace(
        recipe.train, batch_size=BATCH * recipe.train.accumulate, giant_epochs=1, plt_epochs=2, ramp=0.5,
        warmup_epochs=0.0, reestimate=min(recipe.train.reestimate, BATCH), workers=0,
    )  # fmt: skip
    # a name of its own, so that a rehearsal never takes the place of the run
    return replace(
        recipe, name=f"{recipe.name}_rehearsal", train=train,
        data=DataSection(f"{_rehearsed(recipe.data.source)}:{CLASSES}", calibration=CLASSES),
        model=replace(recipe.model, arguments={**recipe.model.arguments, "num_classes": CLASSES}),
        gate=GateSection(lead=-100, plt_loss=100), plt=replace(recipe.plt, fall=min(recipe.plt.fall, 0.25)),
    )  # fmt: skip


def _rehearsed(source: str) -> str:
    """Return the kind of generated pictures that stand for those of a recipe."""
    return "generated-boxes" if source.partition(":")[0] in ("voc", "coco") else "generated"
