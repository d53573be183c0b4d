"""The closing words of a run: what its accuracies show, and no more than that."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan

#: blocks that are linear from the start: what is trained is what is contracted
LINEAR = ("linear", "branches")
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


@dataclass(frozen=True, slots=True)
class Sampling:
    """How far the test pictures can be trusted.

    Attributes:
        pictures: how many.
        error: standard error of the control's score, a fraction; nan where it is unknown.
        metric: that the error is of.
    """

    pictures: int
    error: float
    metric: str


def text(scores: Mapping[str, float], sampling: Sampling, choice: Choice | None = None, linear: bool = False) -> str:
    """Say what the run shows.

    Args:
        scores: model -> what it is judged by, a fraction.
        sampling: of the test pictures behind each.
        choice: which of the models is the product.
        linear: whether the giant's blocks are linear from the start.
    """
    stopped = choice is not None and bool(choice.stopped)
    if "control" not in scores or ("contracted" not in scores and not stopped):
        return "The control and the contracted model were not both evaluated: this run says nothing about accuracy."
    # in a transfer the fair rival is the tiny model that was moved likewise, not the one from scratch
    rival, name = (
        ("transferred", "tiny model transferred likewise") if "transferred" in scores else ("control", "control")
    )
    sentences = [choice.why] if choice else []
    if "contracted" in scores:
        gain = _points(scores["contracted"], scores[rival])
        sentences.append(_gain(name, scores["contracted"], scores[rival], gain, linear))
    if rival == "transferred":
        sentences.append(_from_scratch(_points(scores["contracted"], scores["control"]), scores["control"]))
    if "giant" in scores and not linear:  # else it is the same network halfway through its training
        sentences.append(_giant(_points(scores["giant"], scores["control"]), scores["giant"]))
    if {"pruned", "contracted"} <= scores.keys():
        sentences.append(_pruned(_points(scores["contracted"], scores["pruned"]), scores["pruned"]))
    others = {name: scores[name] for name in BASELINES if name in scores}
    if others:
        sentences.append(_others(others, scores.get("contracted")))
    if not isnan(sampling.error):
        sentences.append(_sampling(sampling))
    return " ".join(sentences)


def _points(score: float, other: float) -> float:
    """Return the difference of two fractions in points, rounded as it is printed: what reads 0.0 is no gain."""
    return round(100 * (score - other), 1) + 0.0


def _gain(rival: str, found: float, other: float, gain: float, linear: bool) -> str:
    if gain > 0:
        return (
            f"The contracted model gains {gain:.1f} points on the {rival} ({found:.1%} against {other:.1%}) at the "
            "same architecture. One run is one seed, not evidence: seeds differ by about 0.3 to 0.6 points; repeat the "
            "run with other seeds before relying on it."
        )
    why = (
        "Contraction has cost nothing, for its blocks are linear from the start: try other learning rates for both, "
        "or a longer training."
        if linear
        else "This is what short runs give: the giant needs many more steps before it overtakes a plainly trained tiny "
        "model, and only a part of its lead survives the contraction."
    )
    return (
        f"The contracted model is not better than the {rival}: {found:.1%} against {other:.1%} ({gain:+.1f} points). "
        f"{why} Differences below about one point are inside the spread from seed to seed."
    )


def _from_scratch(lead: float, score: float) -> str:
    return f"The control, trained from scratch on the new data, reached {score:.1%}: {lead:+.1f} points from it."


def _giant(lead: float, score: float) -> str:
    if lead > 0:
        return f"The giant itself reached {score:.1%}, {lead:.1f} points above the control."
    return f"The giant itself reached {score:.1%}, {lead:+.1f} points from the control: it has not overtaken it yet."


def _pruned(lead: float, score: float) -> str:
    return (
        f"A wider network, pruned to the same size for as much training, reached {score:.1%}: the contracted model is "
        f"{lead:+.1f} points from it."
    )


def _others(found: Mapping[str, float], contracted: float | None) -> str:
    notes = {"distilled": " (the training of its teacher, the giant, is not counted)"}
    shown = ", ".join(f"{name} {score:.1%}{notes.get(name, '')}" for name, score in found.items())
    if contracted is None:
        return f"The same network trained in other ways: {shown}."
    lead = _points(contracted, max(found.values()))
    return f"The same network trained in other ways: {shown}; the contracted model is {lead:+.1f} points from the best."


def _sampling(sampling: Sampling) -> str:
    return (
        f"The {sampling.pictures} test pictures alone leave a score ({sampling.metric}) a standard error of "
        f"{100 * sampling.error:.1f} points."
    )
