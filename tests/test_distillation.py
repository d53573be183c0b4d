import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nbedge import samples
from nbedge.distillation import CrossEntropy, Distillation, TeacherFree
from nbedge.errors import InputError
from nbedge.expansion import expand
from nbedge.proposal import propose

X, LABELS = torch.randn(8, 5, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3


def linear(seed: int) -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(5, 3)


def soft(logits: Tensor, temperature: float) -> Tensor:
    return functional.softmax(logits / temperature, 1)


def test_without_a_teacher_it_is_cross_entropy() -> None:
    model = linear(0)
    wanted = functional.cross_entropy(model(X), LABELS, label_smoothing=0.1)
    assert torch.equal(CrossEntropy(0.1)(model, X, LABELS), wanted)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_distillation_is_the_formula_of_hinton(weight: float, temperature: float) -> None:
    model, teacher = linear(0), linear(1)
    found = Distillation(teacher, weight, temperature)(model, X, LABELS)
    p, q = soft(teacher(X), temperature), soft(model(X), temperature)
    divergence = (p * (p / q).log()).sum(1).mean() * temperature**2
    wanted = (1 - weight) * functional.cross_entropy(model(X), LABELS) + weight * divergence
    torch.testing.assert_close(found, wanted)


def test_a_model_that_answers_like_its_teacher_has_nothing_to_learn_from_it() -> None:
    assert Distillation(linear(0), 1.0)(linear(0), X, LABELS).item() == pytest.approx(0, abs=1e-6)


def test_the_teacher_is_frozen_and_in_eval_mode() -> None:
    teacher = nn.Sequential(linear(1), nn.Dropout()).train()
    model = linear(0)
    Distillation(teacher)(model, X, LABELS).backward()  # type: ignore[no-untyped-call]
    assert not teacher.training
    assert all(p.grad is None for p in teacher.parameters())
    assert model.weight.grad is not None


def test_features_are_compared_where_giant_and_tuned_giant_have_the_same_layers() -> None:
    torch.manual_seed(0)
    tiny, x = samples.mobilenet_v2_tiny(width_mult=0.5), torch.randn(4, 1, 28, 28)
    plan = propose(tiny, x)
    at = tuple(site.norm or site.layer for site in plan.sites)
    same, other = (expand(tiny, plan, seed=seed).eval() for seed in (0, 1))
    labels = torch.arange(4)
    plain = Distillation(expand(tiny, plan, seed=0), 0.5)
    watched = Distillation(expand(tiny, plan, seed=0), 0.5, features=2.0, at=at)
    torch.testing.assert_close(watched(same, x, labels), plain(same, x, labels))
    assert watched(other, x, labels) > plain(other, x, labels) + 0.1
    assert not any(m._forward_hooks for m in other.modules())


def test_the_virtual_teacher_is_right_by_design() -> None:
    model, (weight, temperature, correct) = linear(0), (0.4, 20.0, 0.9)
    p = torch.full((8, 3), (1 - correct) / 2)
    p[torch.arange(8), LABELS] = correct
    p = soft(p.log(), temperature)
    q = soft(model(X), temperature)
    wanted = (1 - weight) * functional.cross_entropy(model(X), LABELS)
    wanted = wanted + weight * temperature**2 * (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(TeacherFree(weight, temperature, correct)(model, X, LABELS), wanted)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Distillation(linear(0), 1.5), "weight of distillation is 1.5"),
        (lambda: Distillation(linear(0), math.nan), "weight of distillation is nan"),
        (lambda: TeacherFree(temperature=0), "temperature of distillation is 0"),
        (lambda: TeacherFree(correct=1.0), "right with probability 1.0"),
        (lambda: Distillation(linear(0), features=1.0), "1.0 at 0 places"),
    ],
)
def test_what_is_no_mixture_is_refused(make: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()  # type: ignore[operator]
