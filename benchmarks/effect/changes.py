"""What is done to a network between two phases of training: expand, squeeze, contract, prune, measure BatchNorms."""

import copy
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

import effect.networks
from effect.batches import Feeder, normalised
from effect.networks import Task
from effect.pictures import Dataset
from nbedge import contract, expand, propose, prune_channels, verify
from nbedge.blocks import Squeezed, expanded_blocks, squeeze_
from nbedge.errors import GateError
from nbedge.initialization import raise_norms_
from nbedge.selection import parse
from nbedge.slopes import fix_slopes_, learn_slopes_, set_slope_
from nbedge.statistics import reestimate_
from nbedge.tracing import cost
from nbedge.transfer import head_of

#: validation pictures on which each contraction is proven
PROVEN = 64


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """What one phase of one run works with."""

    network: str
    seed: int
    dataset: Dataset
    batch: int

    @property
    def task(self) -> Task:
        """Shape and classes of the pictures."""
        _, height, width, channels = self.dataset.train.images.shape
        return Task((channels, height, width), self.dataset.classes)

    def tiny(self, wider: float = 1.0) -> nn.Module:
        """Return the tiny network, or one `wider` times as wide, with the weights that the seed gives."""
        return effect.networks.build(self.network, self.task, self.seed, wider)

    def macs(self, model: nn.Module) -> int:
        """Return the multiply-accumulates of `model` for one input; a squeezed giant runs as the tiny network.

        What merging its factors takes, once a step, is not counted.
        """
        squeezed = any(isinstance(block, Squeezed) for _, block in expanded_blocks(model))
        return cost(self.tiny() if squeezed else model, self.task.example).macs

    def seen(self, count: int) -> tuple[Tensor, Tensor]:
        """Return `count` training inputs (n, c, h, w), evenly spaced, and their labels, on the CPU."""
        part = self.dataset.train
        step = max(1, len(part) // count)
        return normalised(self.dataset, part.images[::step][:count]).cpu(), part.labels[::step][:count].cpu()

    def held(self, count: int) -> Tensor:
        """Return `count` validation inputs (n, c, h, w), evenly spaced, on the CPU."""
        images = self.dataset.validation.images
        return normalised(self.dataset, images[:: max(1, len(images) // count)][:count]).cpu()


class Change(Protocol):
    """Something done to a network, on the CPU; it is frozen, and its words are part of what identifies a run."""

    def __call__(self, model: nn.Module | None, setting: Setting) -> nn.Module:
        """Return the changed network; `model` is what the phase before left, None in the first phase."""


def _present(model: nn.Module | None) -> nn.Module:
    assert model is not None, "the first phase of a method must begin with a network of its own"
    return model


@dataclass(frozen=True, slots=True)
class Keep:
    """Go on with the network as it is."""

    def __call__(self, model: nn.Module | None, setting: Setting) -> nn.Module:
        """Return `model`."""
        return _present(model)


@dataclass(frozen=True, slots=True)
class Fresh:
    """Begin with a fresh tiny network, or one `wider` times as wide."""

    wider: float = 1.0

    def __call__(self, model: nn.Module | None, setting: Setting) -> nn.Module:
        """Return the new network; what was there is the teacher at most."""
        return setting.tiny(self.wider)


@dataclass(frozen=True, slots=True)
class Sites:
    """Where a network is expanded, and by what: the arguments of `nbedge.propose`.

    Attributes:
        choose: every:N, all, name:PATTERN, macs:SHARE or budget:TIMES.
    """

    block: str = "inverted_residual"
    ratio: float = 6
    choose: str = "every:2"
    start: str = "random"


@dataclass(frozen=True, slots=True)
class Expand:
    """Put blocks in place of layers, of a fresh tiny network in the first phase; all slopes are set to `slope`."""

    sites: Sites = Sites()
    slope: float = 0.0

    def __call__(self, model: nn.Module | None, setting: Setting) -> nn.Module:
        """Return the giant."""
        tiny, sites = model or setting.tiny(), self.sites
        plan = propose(
            tiny, setting.task.example, ratio=sites.ratio, choose=parse(sites.choose), block=sites.block,
            start=sites.start,
        )  # fmt: skip
        giant = expand(tiny, plan, seed=setting.seed)
        if sites.start != "factorized":  # which begins at slope 1 and falls
            set_slope_(giant, self.slope)
        return giant


@dataclass(frozen=True, slots=True)
class Raise:
    """Let the BatchNorms in front of activations, of a fresh tiny network in the first phase, start with `bias`."""

    bias: float = 1.0

    def __call__(self, model: nn.Module | None, setting: Setting) -> nn.Module:
        """Return the same network."""
        raised = model or setting.tiny()
        raise_norms_(raised, setting.task.example, self.bias)
        return raised


@dataclass(frozen=True, slots=True)
class Learn:
    """Let the slopes of a giant be learned, from where they are."""

    def __call__(self, model: nn.Module | None, setting: Setting) -> nn.Module:
        """Return the same network."""
        learn_slopes_(_present(model))
        return _present(model)


@dataclass(frozen=True, slots=True)
class Fix:
    """End the learning of slopes: the giant has the keys of its plan again."""

    def __call__(self, model: nn.Module | None, setting: Setting) -> nn.Module:
        """Return the same network."""
        fix_slopes_(_present(model))
        return _present(model)


@dataclass(frozen=True, slots=True)
class Squeeze:
    """Let each block of a giant at slope 1 run as the one layer that it has become, its factors trained on."""

    def __call__(self, model: nn.Module | None, setting: Setting) -> nn.Module:
        """Return the same network, squeezed."""
        squeeze_(_present(model))
        return _present(model)


@dataclass(frozen=True, slots=True)
class Chain:
    """Several changes, one after the other."""

    changes: tuple[Change, ...]

    def __call__(self, model: nn.Module | None, setting: Setting) -> nn.Module:
        """Return what the last one makes."""
        for change in self.changes:
            model = change(model, setting)
        return _present(model)


@dataclass(frozen=True, slots=True)
class Contract:
    """Contract a giant at slope 1, prove the merge, and hold it to the architecture of the tiny network."""

    def __call__(self, model: nn.Module | None, setting: Setting) -> nn.Module:
        """Return the tiny network.

        Raises:
            GateError: the merge cannot be proven, or the result is not of the tiny network's keys and shapes.
        """
        giant = _present(model).eval()
        tiny = contract(giant)
        judged = verify(giant, tiny, setting.held(PROVEN))
        if not judged:
            raise GateError(f"{setting.network}, seed {setting.seed}: the contraction is {judged.verdict}")
        refuse_other(tiny, setting)
        return tiny


def refuse_other(model: nn.Module, setting: Setting) -> None:
    """Refuse a network that is not of exactly the tiny one's keys and shapes.

    Raises:
        GateError: it differs; the message names the first tensor.
    """
    found, wanted = (
        {name: tuple(value.shape) for name, value in net.state_dict().items()} for net in (model, setting.tiny())
    )
    if found != wanted:
        name = min(found.items() ^ wanted.items())[0]
        raise GateError(f"the result is no {setting.network}: {name} is {found.get(name)}, not {wanted.get(name)}")


@dataclass(frozen=True, slots=True)
class Reestimate:
    """Measure the BatchNorm statistics anew on `pictures` augmented training pictures, at slope 1 if there is one."""

    pictures: int = 2048

    def __call__(self, model: nn.Module | None, setting: Setting) -> nn.Module:
        """Return the same network."""
        feeder = Feeder(setting.dataset, setting.seed, setting.batch)
        number = max(1, self.pictures // feeder.size)
        reestimate_(_present(model), (feeder.batch(step)[0].cpu() for step in range(number)))
        return _present(model)


@dataclass(frozen=True, slots=True)
class Prune:
    """Prune channels until the network costs no more multiply-accumulates than the tiny one.

    Attributes:
        spread: uniform or global.
        multiple: of which every width is one.
    """

    spread: str = "uniform"
    multiple: int = 1

    def __call__(self, model: nn.Module | None, setting: Setting) -> nn.Module:
        """Return the narrower network."""
        limit = setting.macs(setting.tiny())
        return prune_channels(_present(model), setting.task.example, limit, spread=self.spread, multiple=self.multiple)


@dataclass(frozen=True, slots=True)
class NewHead:
    """Give a network, a giant too, that was trained on other pictures a fresh head for these."""

    def __call__(self, model: nn.Module | None, setting: Setting) -> nn.Module:
        """Return a copy with the head of the seed's tiny network."""
        changed, tiny = copy.deepcopy(_present(model)), setting.tiny()
        head = head_of(tiny, setting.task.example)
        changed.set_submodule(head, tiny.get_submodule(head))
        return changed
