"""Whether boosting goes on, and which of the trained tiny models is the product: validation pictures decide."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbedge import files
from nbedge.evaluation import outputs_of_module
from nbedge.pipeline.context import Context
from nbedge.pipeline.overparameterized import BLOCKS
from nbedge.pipeline.stage import Outcome
from nbedge.recipe import Recipe

#: what the stages write
GIANT_GATE, PLT_GATE, CHOICE = "gates/giant.json", "gates/plt.json", "choice.json"
GATES = (GIANT_GATE, PLT_GATE)
#: models that there are only where no gate has stopped boosting
BOOSTED = ("merged", "contracted")


def gate_giant(context: Context, _state: Path) -> Outcome:
    """Let the giant pass if it leads the control by as much as the recipe asks."""
    rival, giant = _rival(context), _validation(context, "giant")
    lead, limit = round(100 * (giant - rival), 4), context.recipe.gate.lead
    why = f"the giant is {lead:+.1f} points from the control on the validation pictures, {limit:+.1f} are asked for"
    content = {"control": rival, "giant": giant, "lead": lead, "limit": limit, "passed": lead >= limit, "why": why}
    return _written(context, GIANT_GATE, content)


def gate_plt(context: Context, _state: Path) -> Outcome:
    """Let the linearized giant pass if it has not lost more than the recipe allows."""
    giant, linearized = _validation(context, "giant"), _validation(context, "linearized")
    loss, limit = round(100 * (giant - linearized), 4), context.recipe.gate.plt_loss
    why = f"the giant lost {loss:.1f} points on the validation pictures while it became linear, {limit:.1f} are allowed"
    passed = loss <= limit
    content = {"giant": giant, "linearized": linearized, "loss": loss, "limit": limit, "passed": passed, "why": why}
    return _written(context, PLT_GATE, content)


def _rival(context: Context) -> float:
    """Return the control's score; in one cosine that of the same epoch, where the learning rate is as high."""
    section = context.recipe.train
    if section.schedule == "two-phase":
        return _validation(context, "control")
    curve = json.loads((context.folder / "curves/control.json").read_text(encoding="utf-8"))
    return float(curve["epochs"][section.giant_epochs - 1]["validation_score"])


def stopped(context: Context, gates: tuple[str, ...] = GATES) -> str:
    """Return why one of these gates has stopped boosting; empty if none has."""
    for name in gates:
        path = context.folder / name
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            if not found["passed"]:
                return str(found["why"])
    return ""


def candidates(recipe: Recipe) -> tuple[str, ...]:
    """Return the models of exactly the tiny architecture, the simplest first."""
    return ("control", *recipe.baselines.train, *(("transferred",) if recipe.transfer.giant else ()), "contracted")


def present(context: Context, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of the models that the run has: none that were to come after a gate that has stopped boosting."""
    missing = BOOSTED if stopped(context) else ()
    return tuple(name for name in names if name not in missing)


def choose(context: Context, _state: Path) -> Outcome:
    """Take the best of the candidates; at a tie the simplest."""
    found = {name: _validation(context, name) for name in present(context, candidates(context.recipe))}
    best = max(found, key=lambda name: found[name])
    reason = stopped(context)
    content = {"schema_version": 1, "chosen": best, "metric": context.task.metric, "validation_score": found,
               "stopped": reason, "why": _why(best, found, reason)}  # fmt: skip
    files.write_json(context.folder / CHOICE, content)
    files.write_bytes(context.folder / "chosen.safetensors", (context.folder / f"{best}.safetensors").read_bytes())
    return Outcome((CHOICE, "chosen.safetensors"))


def _why(best: str, found: Mapping[str, float], reason: str) -> str:
    """Say which model is the product, and why."""
    shown = ", ".join(f"{name} {top1:.1%}" for name, top1 in found.items())
    tie = "; at a tie the simplest" if list(found.values()).count(found[best]) > 1 else ""
    words = f"The product is the {best} model, the best on the validation pictures ({shown}{tie})."
    if reason:
        return f"Boosting was stopped: {reason}. {words}"
    return words if best in (*BOOSTED, *BLOCKS) else f"{words} Boosting did not pay here."


def chosen(context: Context) -> str:
    """Return the name of the model that was chosen."""
    return str(json.loads((context.folder / CHOICE).read_text(encoding="utf-8"))["chosen"])


def _validation(context: Context, name: str) -> float:
    held = context.splits.validation
    return context.task.score(outputs_of_module(context.load(name), held.images, context.preprocessing), held.labels)


def _written(context: Context, name: str, content: dict[str, Any]) -> Outcome:
    files.write_json(context.folder / name, {"schema_version": 1, **content})
    return Outcome((name,))
