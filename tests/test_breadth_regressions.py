"""What boosting timm's architectures (docs/breadth.md) has uncovered, each on the smallest model that shows it."""

import torch
from torch import Tensor, nn

import nbedge
from nbedge.survey import survey
from nbedge.tracing import trace

X = torch.zeros(1, 3, 8, 8)


class Positions(nn.Module):
    """As in EdgeNeXt: the forward asks a layer's weight for its device and type."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)
        self.other = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.layer.weight
        result: Tensor = self.other(self.layer(x.to(weight.device, weight.dtype)))
        return result


def test_a_layer_whose_weight_is_asked_for_its_attributes_is_refused() -> None:
    found = survey(Positions(), X)
    assert [c.site.layer for c in found.candidates] == ["other"]
    (refused,) = found.refused
    assert refused.layer == "layer"
    assert refused.reason in {f"a function ({name}) reads its weights too" for name in ("device", "dtype")}


def test_the_giant_of_such_a_model_runs() -> None:
    tiny = Positions()
    giant = nbedge.expand(tiny, nbedge.propose(tiny, X))
    assert giant(X).shape == (1, 4, 8, 8)


def test_reading_an_attribute_is_no_call() -> None:
    tiny = Positions()
    assert [call.name for call in trace(tiny, X).calls if call.module] == ["layer", "other"]
    assert trace(tiny, X).readers[id(tiny.layer.weight)] == "dtype"
