"""The section [baselines] of a recipe: other ways to train the tiny model, beside the control."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbedge.errors import InputError

#: name, which is that of the stage and of its checkpoint too
BASELINES = ("two-phase", "same-macs", "distilled", "teacher-free", "linear", "branches", "netaug")


@dataclass(frozen=True, slots=True)
class BaselinesSection:
    """Other ways to train the tiny model; the best of all is exported.

    Attributes:
        train: any of "two-phase" (the control with the schedule of giant and tuning), "same-macs" (the control for as
            many multiply-accumulates as giant and tuning take), "distilled" (from the trained giant, whose cost is not
            counted; weight and temperature are those of [distill]), "teacher-free" (CVPR 2020, arXiv 1909.11723),
            "linear" (chains of linear layers that contract: ExpandNets, NeurIPS 2020, arXiv 1811.10495), "branches"
            (parallel ones that do: RepVGG, CVPR 2021, arXiv 2101.03697, and MobileOne, CVPR 2023, arXiv 2206.04040) and
            "netaug" (width augmentation, ICLR 2022, arXiv 2110.08890).
        wide: of "netaug": arguments of the factory that make the model wider, one table a network, rising.
    """

    train: tuple[str, ...] = ()
    wide: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is no baseline."""
        for name, times in Counter(self.train).items():
            if name not in BASELINES:
                raise InputError(f"train holds {name!r}; choose from {', '.join(BASELINES)}")
            if times > 1:
                raise InputError(f"train holds {name!r} {times} times; once is enough")
        if ("netaug" in self.train) != bool(self.wide):
            raise InputError(
                "netaug goes with wide, the arguments of wider networks, such as wide = [{ width_mult = 1.5 }]; one of "
                "the two is missing"
            )
