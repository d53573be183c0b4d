import numpy as np
import pytest
import torch
from torch import nn

from nbedge.evaluation import judge, logits_of_module, top_k
from nbedge.preprocessing import Preprocessing

LOGITS = np.array(
    [[9, 1, 0, 2, 3, 4, 5], [0, 9, 1, 2, 3, 4, 5], [0, 9, 8, 2, 3, 4, 5], [9, 8, 7, 6, 5, 4, 3]], np.float32
)
LABELS = np.array([0, 1, 2, 6])
CLASSES = tuple("abcdefg")


def test_top1_and_top5_are_what_the_hand_counts() -> None:
    assert (top_k(LOGITS, LABELS, 1), top_k(LOGITS, LABELS, 2), top_k(LOGITS, LABELS, 5)) == (0.5, 0.75, 0.75)


def test_of_equal_logits_the_first_class_counts() -> None:
    equal = np.zeros((3, 6))
    assert [top_k(equal, np.array([0, 1, 5]), k) for k in (1, 2, 5, 6)] == [1 / 3, 2 / 3, 2 / 3, 1.0]


def test_the_confusion_has_labels_in_rows() -> None:
    found = judge(LOGITS, LABELS, CLASSES)
    assert found.confusion[2][1] == 1
    assert found.confusion[6][0] == 1
    assert sum(map(sum, found.confusion)) == found.pictures == 4


def test_a_class_without_pictures_has_the_accuracy_0() -> None:
    found = judge(LOGITS, LABELS, CLASSES)
    assert found.per_class == {"a": 1.0, "b": 1.0, "c": 0.0, "d": 0.0, "e": 0.0, "f": 0.0, "g": 0.0}


def test_flips_are_counted_against_a_reference() -> None:
    assert judge(LOGITS, LABELS, CLASSES).flips is None
    assert judge(LOGITS, LABELS, CLASSES, LOGITS).flips == 0
    assert judge(LOGITS, LABELS, CLASSES, -LOGITS).flips == 4


def test_fewer_than_five_classes_are_all_in_the_top_5() -> None:
    found = judge(np.eye(3), np.array([1, 2, 0]), ("a", "b", "c"))
    assert (found.top1, found.top5) == (0.0, 1.0)


@pytest.mark.parametrize("size", [1, 3, 500])
def test_a_module_answers_the_same_in_pieces_and_keeps_its_modes(size: int) -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(16, 3)).train()
    model[0].eval()
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 1), np.uint8)
    preprocessing = Preprocessing((1, 4, 4), (0.5,), (0.5,))
    logits = logits_of_module(model, images, preprocessing, size)
    assert [module.training for module in model.modules()] == [True, False, True, True, True]
    with torch.no_grad():
        wanted = model.eval()(torch.from_numpy(preprocessing(images))).numpy()
    np.testing.assert_allclose(logits, wanted, rtol=1e-5, atol=1e-6)
