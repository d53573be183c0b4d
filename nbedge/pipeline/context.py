"""What every stage of a run works with: the recipe, the pictures, and the folder it writes to."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, reduce
from itertools import chain
from operator import getitem
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nbedge import benchmark, data
from nbedge.benchmark.machines import machine_of
from nbedge.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from nbedge.conversion import planned, require
from nbedge.data import Splits
from nbedge.errors import InputError
from nbedge.evaluation import named
from nbedge.expansion import expand
from nbedge.initialization import raise_norms_
from nbedge.narrowing import widths
from nbedge.plan import Plan
from nbedge.preprocessing import Preprocessing
from nbedge.recipe import Recipe
from nbedge.reference import ModelReference
from nbedge.task import Task, task_of
from nbedge.tracing import evaluating
from nbedge.transfer import Share, head_of

#: validation pictures on which a merge is proven; the proof of the sites needs none
PROOF_PICTURES = 128
#: stages whose checkpoint holds a plan
PLANNED = ("giant", "linearized", "merged", "contracted")


def merged_name(recipe: Recipe) -> str:
    """Return the name of the checkpoint that contraction writes: the product, unless it is tuned further."""
    return "merged" if recipe.train.tail == "contract-and-tune" else "contracted"


@dataclass
class Context:
    """One run: `recipe` says what to do, `folder` is the run directory, `shown` asks for progress bars.

    `training` is true while a stage runs in which other processes take part.
    """

    recipe: Recipe
    folder: Path
    shown: bool = False
    training: bool = False

    @cached_property
    def splits(self) -> Splits:
        """The pictures, read once."""
        section = self.recipe.data
        return data.load(
            section.source, self.recipe.model.input, seed=self.recipe.seed, validation=section.validation,
            calibration=section.calibration,
        )  # fmt: skip

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """How pictures become inputs; mean and std are measured on the training pictures unless given."""
        section = self.recipe.data
        if not (section.mean and section.std):
            mean, std = data.statistics(self.splits.train.sample())
            return Preprocessing(self.recipe.model.input, section.mean or mean, section.std or std)
        return Preprocessing(self.recipe.model.input, section.mean, section.std)

    def check(self) -> None:
        """Find out, before anything is written or trained, what would stop a later stage.

        Raises:
            InputError: the pictures, the model or the batch do not fit each other.
            ExportError: nothing makes the files that the recipe asks for.
            MissingDependencyError: a package that an exporter needs, or the emulator of bench.on, is not installed.
        """
        self.tiny()
        section = self.recipe.train
        if len(self.splits.train) < section.batch_size:
            raise InputError(
                f"train.batch_size is {section.batch_size}, but only {len(self.splits.train)} pictures are left for "
                "training; lower it"
            )
        if self.recipe.export.formats:
            files = self.recipe.export
            for step in chain.from_iterable(planned(files.formats, files.quant, files)):
                require(step.exporter)
            if not benchmark.place_of(self.recipe.bench.on).timed:
                with machine_of(self.recipe.bench.on):
                    pass  # the emulator is here

    @property
    def task(self) -> Task:
        """What the pictures are labelled for."""
        return task_of(self.splits.task)

    @property
    def reference(self) -> ModelReference:
        """Where the tiny model comes from."""
        return ModelReference(self.recipe.model.reference, self.recipe.model.arguments)

    @property
    def wider(self) -> ModelReference:
        """Where the wider model of the pruning baseline comes from."""
        section = self.recipe.model
        return ModelReference(section.reference, {**section.arguments, **self.recipe.prune.wide})

    @property
    def example(self) -> torch.Tensor:
        """An input (1, c, h, w)."""
        return torch.zeros(1, *self.recipe.model.input)

    @property
    def plan(self) -> Plan:
        """The plan that the first stage wrote."""
        return Plan.from_json((self.folder / "plan.json").read_text(encoding="utf-8"))

    @property
    def merged(self) -> str:
        """Name of the checkpoint that contraction writes."""
        return merged_name(self.recipe)

    @cached_property
    def share(self) -> Share:
        """What a transfer takes over."""
        part = self.recipe.transfer.part
        return Share(part) if part else Share(head=head_of(self.tiny(), self.example))

    def proven_on(self) -> torch.Tensor:
        """Return the validation inputs (n, c, h, w) on which each merge is proven."""
        return torch.from_numpy(self.preprocessing(self.splits.validation.spread(PROOF_PICTURES).images[:]))

    def tiny(self) -> nn.Module:
        """Return the tiny model with the weights that the seed gives.

        Raises:
            InputError: it does not take the recipe's input, or has not one output per class.
        """
        return self._network(self.reference, "model.arguments")

    def _network(self, reference: ModelReference, arguments: str) -> nn.Module:
        torch.manual_seed(self.recipe.seed)
        model = reference.build()
        with torch.inference_mode(), evaluating(model):
            try:
                found = named(model(self.example))
            except (RuntimeError, ValueError, TypeError) as error:
                raise InputError(f"the model does not take model.input {self.recipe.model.input}: {error}") from error
        wrong = self.task.unfit(found, len(self.splits.classes))
        if wrong:
            raise InputError(
                f"the model {wrong} (the data has {len(self.splits.classes)} classes); set num_classes in {arguments}"
            )
        return self._raised(model)

    def giant(self) -> nn.Module:
        """Return the giant with the weights that the seed gives."""
        return self._raised(expand(self.tiny(), self.plan, seed=self.recipe.seed))

    def _raised(self, model: nn.Module) -> nn.Module:
        bias = self.recipe.model.norm_bias
        if bias:
            raise_norms_(model, self.example, bias)
        return model

    def wide(self) -> nn.Module:
        """Return the wider model, with the weights that the seed gives.

        Raises:
            InputError: it does not take the recipe's input, or has not one output per class.
        """
        return self.network(self.recipe.prune.wide, "prune.wide")

    def network(self, arguments: Mapping[str, Any], key: str) -> nn.Module:
        """Return the model with other arguments, those of `key`, and the weights that the seed gives.

        Raises:
            InputError: it does not take the recipe's input, or has not one output per class.
        """
        section = self.recipe.model
        return self._network(ModelReference(section.reference, {**section.arguments, **arguments}), key)

    def save(self, stage: str, model: nn.Module) -> str:
        """Write the checkpoint STAGE.safetensors and return its name."""
        plan = self.plan if stage in PLANNED else None
        about = Checkpoint(stage, self.reference, self.preprocessing, self.splits.classes, plan, self.recipe.seed,
                           task=self.splits.task)  # fmt: skip
        if stage in ("wide", "pruned"):
            about = replace(about, model=self.wider, widths=widths(self.wider.build(), model))
        save_checkpoint(self.folder / f"{stage}.safetensors", model, about)
        return f"{stage}.safetensors"

    def load(self, stage: str) -> nn.Module:
        """Return the model of an earlier stage, in eval mode; the recipe's own model reference is believed."""
        model, _ = load_checkpoint(self.folder / f"{stage}.safetensors", trust=True)
        return model

    def settings(self, *sections: str) -> dict[str, Any]:
        """Return the parts of the recipe that a stage depends on: sections, or single keys such as "distill.weight"."""
        values = asdict(self.recipe)
        parts = ("name", "seed", "threads", "model", "data", *sections)
        return {part: reduce(getitem, part.split("."), values) for part in parts}
