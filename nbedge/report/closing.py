"""The closing words of a run: what its accuracies show, and no more than that."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

#: rows of a recipe's [baselines]
BASELINES = ("two-phase", "same-macs", "distilled", "teacher-free", "linear", "branches", "netaug")


@dataclass(frozen=True, slots=True)
class Choice:
    """Which model is the product of a run.

    Attributes:
        chosen: its name.
        why: in whole sentences.
        stopped: why a gate has stopped boosting; empty if none has.
    """

    chosen: str
    why: str
    stopped: str


def text(top1: Mapping[str, float], pictures: int, choice: Choice | None = None) -> str:
    """Say what the run shows.

    Args:
        top1: model -> accuracy, a fraction.
        pictures: number of test pictures behind each.
        choice: which of the models is the product.
    """
    stopped = choice is not None and bool(choice.stopped)
    if "control" not in top1 or ("contracted" not in top1 and not stopped):
        return "The control and the contracted model were not both evaluated: this run says nothing about accuracy."
    # in a transfer the fair rival is the tiny model that was moved likewise, not the one from scratch
    rival, name = (
        ("transferred", "tiny model transferred likewise") if "transferred" in top1 else ("control", "control")
    )
    sentences = [choice.why] if choice else []
    if "contracted" in top1:
        gain = _points(top1["contracted"], top1[rival])
        sentences.append(_gain(name, top1["contracted"], top1[rival], gain))
    if rival == "transferred":
        sentences.append(_from_scratch(_points(top1["contracted"], top1["control"]), top1["control"]))
    if "giant" in top1:
        sentences.append(_giant(_points(top1["giant"], top1["control"]), top1["giant"]))
    if {"pruned", "contracted"} <= top1.keys():
        sentences.append(_pruned(_points(top1["contracted"], top1["pruned"]), top1["pruned"]))
    others = {name: top1[name] for name in BASELINES if name in top1}
    if others:
        sentences.append(_others(others, top1.get("contracted")))
    if pictures:
        sentences.append(_sampling(top1["control"], pictures))
    return " ".join(sentences)


def _points(top1: float, other: float) -> float:
    """Return the difference of two fractions in points, rounded as it is printed: what reads 0.0 is no gain."""
    return round(100 * (top1 - other), 1) + 0.0


def _gain(rival: str, found: float, other: float, gain: float) -> str:
    if gain > 0:
        return (
            f"The contracted model gains {gain:.1f} points on the {rival} ({found:.1%} against {other:.1%}) at the "
            "same architecture. One run is one seed, not evidence: seeds differ by about 0.3 to 0.6 points; repeat the "
            "run with other seeds before relying on it."
        )
    return (
        f"The contracted model is not better than the {rival}: {found:.1%} against {other:.1%} ({gain:+.1f} points). "
        "This is what short runs give: the giant needs many more steps before it overtakes a plainly trained tiny "
        "model, and only a part of its lead survives the contraction. Differences below about one point are inside the "
        "spread from seed to seed."
    )


def _from_scratch(lead: float, top1: float) -> str:
    return f"The control, trained from scratch on the new data, reached {top1:.1%}: {lead:+.1f} points from it."


def _giant(lead: float, top1: float) -> str:
    if lead > 0:
        return f"The giant itself reached {top1:.1%}, {lead:.1f} points above the control."
    return f"The giant itself reached {top1:.1%}, {lead:+.1f} points from the control: it has not overtaken it yet."


def _pruned(lead: float, top1: float) -> str:
    return (
        f"A wider network, pruned to the same size for as much training, reached {top1:.1%}: the contracted model is "
        f"{lead:+.1f} points from it."
    )


def _others(found: Mapping[str, float], contracted: float | None) -> str:
    notes = {"distilled": " (the training of its teacher, the giant, is not counted)"}
    shown = ", ".join(f"{name} {top1:.1%}{notes.get(name, '')}" for name, top1 in found.items())
    if contracted is None:
        return f"The same network trained in other ways: {shown}."
    lead = _points(contracted, max(found.values()))
    return f"The same network trained in other ways: {shown}; the contracted model is {lead:+.1f} points from the best."


def _sampling(top1: float, pictures: int) -> str:
    error = 100 * sqrt(top1 * (1 - top1) / pictures)
    return f"The {pictures} test pictures alone leave each accuracy a standard error of {error:.1f} points."
