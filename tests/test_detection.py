"""Boxes: from outputs to detections, how right they are, what training minimises, and boxes that are moved along."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from nbedge.detection import (
    BOXES,
    SCORES,
    Decoding,
    Detections,
    average_precision,
    decode,
    differing,
    overlaps,
    padded,
    rarest,
)
from nbedge.detection.precision import Evaluated, loss
from nbedge.task import DETECTION
from nbedge.verification import REAL, Limits, Verdict, agreement

pytest.importorskip("pycocotools")
GRID = (6, 8)
FAR = -20.0


def outputs(
    cells: Sequence[tuple[int, int, int, float, tuple[float, float, float, float]]],
) -> dict[str, NDArray[np.float32]]:
    """Return the outputs of one picture: (class, row, column, logit, sides), nothing elsewhere."""
    scores = np.full((1, 3, *GRID), FAR, np.float32)
    boxes = np.zeros((1, 4, *GRID), np.float32)
    for label, row, column, logit, sides in cells:
        scores[0, label, row, column] = logit
        boxes[0, :, row, column] = sides
    return {SCORES: scores, BOXES: boxes}


def some(*rows: tuple[int, float, tuple[float, float, float, float]]) -> Detections:
    return Detections(
        np.array([row[2] for row in rows], np.float32).reshape(-1, 4), np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.float32),
    )  # fmt: skip


def test_a_cell_becomes_the_box_that_the_hand_computes() -> None:
    (found,) = decode(outputs([(1, 2, 3, 2.0, (1.5, 0.5, 0.5, 1.0))]))
    # the middle of the cell is (3.5, 2.5) of 8 x 6 cells
    np.testing.assert_allclose(found.boxes, [[2.0 / 8, 2.0 / 6, 4.0 / 8, 3.5 / 6]], rtol=1e-6)
    assert found.classes.tolist() == [1]
    assert found.scores[0] == pytest.approx(1 / (1 + math.exp(-2)))


def test_a_box_stays_within_the_picture_and_no_side_is_below_0() -> None:
    (found,) = decode(outputs([(0, 0, 0, 1.0, (9.0, 9.0, -3.0, 9.0))]))
    np.testing.assert_allclose(found.boxes, [[0.0, 0.0, 0.5 / 8, 1.0]])


def test_the_weaker_of_two_boxes_of_a_class_is_left_out() -> None:
    wide = (2.0, 2.0, 2.0, 2.0)
    cells = [(0, 2, 3, 1.0, wide), (0, 2, 4, 2.0, wide), (1, 2, 3, 0.5, wide), (0, 3, 0, 3.0, (0.4, 0.4, 0.4, 0.4))]
    (found,) = decode(outputs(cells))
    assert [(int(c), round(float(s), 3)) for c, s in zip(found.classes, found.scores, strict=True)] == [
        (0, 0.953), (0, 0.881), (1, 0.622),
    ]  # fmt: skip
    (all_,) = decode(outputs(cells), Decoding(overlap=0.99))
    assert len(all_) == 4
    (few,) = decode(outputs(cells), Decoding(most=1))
    assert few.scores.tolist() == found.scores[:1].tolist()


def test_suppression_is_that_of_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    answer = {SCORES: rng.normal(-1, 2, (4, 3, *GRID)).astype(np.float32),
              BOXES: rng.uniform(0, 3, (4, 4, *GRID)).astype(np.float32)}  # fmt: skip
    every = decode(answer, Decoding(overlap=1.0, most=1000))
    for whole, found in zip(every, decode(answer), strict=True):
        kept: list[int] = []
        for i in range(len(whole)):
            rivals = [k for k in kept if whole.classes[k] == whole.classes[i]]
            if not rivals or overlaps(whole.boxes[[i]], whole.boxes[rivals]).max() <= 0.5:
                kept.append(i)
        np.testing.assert_array_equal(found.boxes, whole.boxes[kept[:100]])


def test_nothing_above_the_limit_is_nothing() -> None:
    (found,) = decode(outputs([]))
    assert (len(found), found.boxes.shape) == (0, (0, 4))


def test_overlaps_are_those_of_the_hand() -> None:
    one = np.array([[0, 0, 1, 1], [0.5, 0.5, 0.5, 0.5]], np.float32)
    other = np.array([[0, 0, 1, 1], [0.5, 0, 1.5, 1], [2, 2, 3, 3]], np.float32)
    assert overlaps(one, other).tolist() == [[1, pytest.approx(1 / 3), 0], [0, 0, 0]]


TRUTH = padded([
    np.array([[0, 0.1, 0.1, 0.3, 0.3, 0], [1, 0.5, 0.5, 0.9, 0.9, 0]], np.float32),
    np.array([[0, 0.2, 0.2, 0.6, 0.6, 0]], np.float32),
])  # fmt: skip


def test_the_precision_of_a_perfect_answer_is_1() -> None:
    found = [some((0, 0.9, (0.1, 0.1, 0.3, 0.3)), (1, 0.8, (0.5, 0.5, 0.9, 0.9))), some((0, 0.7, (0.2, 0.2, 0.6, 0.6)))]
    judged = average_precision(found, TRUTH, ("a", "b", "c"))
    assert judged.map == pytest.approx(1)
    assert judged.map50 == pytest.approx(1)
    assert (judged.pictures, judged.boxes) == (2, 3)
    assert judged.per_class["a"] == pytest.approx(1)
    assert math.isnan(judged.per_class["c"])


def test_the_precision_is_that_of_the_hand() -> None:
    # of class a: a wrong one is the surest, then a right one; the second box is not found
    found = [some((0, 0.9, (0.6, 0.6, 0.9, 0.9)), (0, 0.8, (0.1, 0.1, 0.3, 0.3))), some()]
    judged = average_precision(found, TRUTH, ("a", "b"))
    # precision 1/2 up to a recall of 1/2: 51 of the 101 points that COCO takes
    assert judged.per_class["a"] == pytest.approx(0.5 * 51 / 101)
    assert judged.per_class["b"] == 0
    assert judged.map == pytest.approx(0.25 * 51 / 101)
    # without the first picture nothing is found, without the second one half
    assert judged.map_error == pytest.approx(math.sqrt(0.5 * 2 * 0.125**2))
    assert math.isnan(average_precision(found[:1], TRUTH[:1], ("a", "b")).map_error)


def test_a_loose_box_counts_at_small_overlaps_only() -> None:
    # 0.8 of the side: an overlap of 0.64, which is enough for 0.5, 0.55 and 0.6 of ten
    found = [some((0, 0.9, (0.1, 0.1, 0.26, 0.26))), some((0, 0.9, (0.2, 0.2, 0.52, 0.52)))]
    judged = average_precision(found, TRUTH, ("a",))
    assert judged.map50 == pytest.approx(1)
    assert judged.map == pytest.approx(0.3)


def test_what_counts_neither_way_is_no_error() -> None:
    truth = TRUTH.copy()
    truth[0, 1, 5] = 1
    found = [some((0, 0.9, (0.1, 0.1, 0.3, 0.3)), (1, 0.8, (0.5, 0.5, 0.9, 0.9))), some((0, 0.7, (0.2, 0.2, 0.6, 0.6)))]
    judged = average_precision(found, truth, ("a", "b"))
    assert judged.boxes == 2
    assert judged.map == pytest.approx(1)
    assert math.isnan(judged.per_class["b"])


def test_the_error_of_a_loss_is_that_of_a_jackknife() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(TRUTH[1:], 30, axis=0)
    right, wrong = some((0, 0.7, (0.2, 0.2, 0.6, 0.6))), some((0, 0.7, (0.7, 0.7, 0.9, 0.9)))
    before = [right] * 30
    after = [wrong if i in rng.permutation(30)[:6] else right for i in range(30)]
    sides = [Evaluated(found, truth, 1) for found in (before, after)]
    whole, error = loss(*sides)
    assert whole == pytest.approx(sides[0].score() - sides[1].score())
    assert 0 < error < 0.3
    assert loss(sides[0], sides[0]) == (0, 0)


def test_precisions_of_some_pictures_are_those_of_them_alone() -> None:
    truth = np.repeat(TRUTH[1:], 4, axis=0)
    right, wrong = some((0, 0.7, (0.2, 0.2, 0.6, 0.6))), some((0, 0.7, (0.7, 0.7, 0.9, 0.9)))
    judged = Evaluated([wrong, right, right, wrong], truth, 1)
    assert judged.score(np.array([1, 2])) == pytest.approx(1)
    assert judged.score(np.array([0, 3])) == 0
    assert judged.score() == pytest.approx(Evaluated([wrong, right, right, wrong], truth, 1).score())


def test_an_error_that_one_picture_does_not_tell_fails_no_file() -> None:
    answered = outputs([(0, 2, 3, 3.0, (1, 1, 1, 1))])
    judged = agreement(
        {REAL: answered}, {REAL: answered}, quantized=True, limits=Limits(), task=DETECTION, labels=TRUTH[:1]
    )
    assert [check.name for check in judged if check.verdict is not Verdict.PASS] == []
    assert "accuracy loss" in {check.name for check in judged}


def test_boxes_that_one_side_has_alone_are_counted() -> None:
    one = some((0, 0.9, (0.1, 0.1, 0.3, 0.3)), (1, 0.31, (0.5, 0.5, 0.9, 0.9)))
    same = some((0, 0.8, (0.1, 0.1, 0.31, 0.3)), (1, 0.29, (0.5, 0.5, 0.9, 0.9)))  # just below the limit
    assert differing([one], [same]) == (0, 3)
    assert differing([one], [some((1, 0.9, (0.1, 0.1, 0.3, 0.3)))]) == (3, 3)
    twice = some((0, 0.9, (0.1, 0.1, 0.3, 0.3)), (0, 0.8, (0.1, 0.1, 0.3, 0.3)))
    assert differing([twice], [some((0, 0.9, (0.1, 0.1, 0.3, 0.3)))]) == (1, 3)
    assert differing([some()], [some()]) == (0, 0)


def test_outputs_of_another_kind_are_named() -> None:
    fine = outputs([])
    assert DETECTION.unfit(fine, 3) == ""
    assert "scores (1, 5, h, w) and boxes (1, 4, h, w) are expected" in DETECTION.unfit(fine, 5)
    assert "gives (1, 10) for one picture" in DETECTION.unfit({"output": np.zeros((1, 10))}, 3)


def test_answers_that_are_no_numbers_find_nothing() -> None:
    broken = {name: y * np.nan for name, y in outputs([]).items()}
    assert DETECTION.score(broken, TRUTH[:1]) == 0
    assert DETECTION.lost(outputs([]), broken, TRUTH[:1]) is None
    assert dict(DETECTION.differing(outputs([]), broken)) == {}


def test_the_rarest_class_of_each_picture() -> None:
    none = np.full((1, 2, 6), -1, np.float32)
    assert rarest(np.concatenate([TRUTH, none])).tolist() == [1, 0, -1]


def test_boxes_are_drawn_into_the_picture() -> None:
    image = pytest.importorskip("PIL.Image")
    from nbedge.detection.drawing import COLOURS, drawn

    plain = io.BytesIO()
    image.new("RGB", (64, 48), "white").save(plain, "PNG")
    content = drawn(plain, [{"class": "cell", "score": 0.5, "box": [0.25, 0.5, 0.75, 1.0]}], ("dirt", "cell"), 200)
    found = image.open(io.BytesIO(content))
    assert found.size == (256, 192)
    assert found.getpixel((64, 150)) == tuple(bytes.fromhex(COLOURS[1][1:]))


# training

torch = pytest.importorskip("torch")


def test_the_loss_falls_to_the_right_answer() -> None:
    from nbedge.detection.objective import CentreLoss

    truth = torch.from_numpy(TRUTH)
    scores = torch.full((2, 2, *GRID), -4.0, requires_grad=True)
    sides = torch.full((2, 4, *GRID), 2.0, requires_grad=True)
    optimizer = torch.optim.Adam([scores, sides], 0.2)
    first = 0.0
    for _ in range(300):
        value = CentreLoss().of(scores, sides, truth)
        first = first or value.item()
        optimizer.zero_grad()
        torch.autograd.backward(value)
        optimizer.step()
    assert value.item() < 0.1 * first
    found = decode({SCORES: scores.detach().numpy(), BOXES: sides.detach().numpy()})
    assert average_precision(found, TRUTH, ("a", "b")).map > 0.9


def test_the_loss_takes_no_notice_of_what_counts_neither_way() -> None:
    from nbedge.detection.objective import CentreLoss

    ignored = torch.from_numpy(TRUTH.copy())
    ignored[:, :, 5] = 1
    scores = torch.full((2, 2, *GRID), -4.0, requires_grad=True)
    sides = torch.full((2, 4, *GRID), 2.0, requires_grad=True)
    torch.autograd.backward(CentreLoss().of(scores, sides, ignored))
    assert scores.grad is not None
    inside = scores.grad[0, :, 3:5, 4:7]  # cells of the second box
    assert bool((inside == 0).all())
    assert bool((scores.grad[0, :, 0, 5:] != 0).all())
    assert sides.grad is None or bool((sides.grad == 0).all())


def test_pictures_without_boxes_have_a_loss() -> None:
    from nbedge.detection.objective import CentreLoss

    nothing = torch.full((2, 1, 6), -1.0)
    value = CentreLoss().of(torch.zeros(2, 2, *GRID), torch.ones(2, 4, *GRID), nothing)
    assert math.isfinite(value.item())
    assert value.item() > 0


def test_boxes_are_moved_and_mirrored_with_their_pictures() -> None:
    from nbedge.data import Pictures
    from nbedge.preprocessing import Preprocessing
    from nbedge.training import batches

    # one bright square: after any augmentation it lies where the box says
    images = np.zeros((8, 40, 40, 1), np.uint8)
    images[:, 10:20, 24:32] = 255
    labels = padded([np.array([[1, 24 / 40, 10 / 40, 32 / 40, 20 / 40, 0]], np.float32)] * 8)
    how = Preprocessing((1, 40, 40), (0.0,), (1.0,))
    seen = set()
    for x, boxes in batches(Pictures(images, labels), how, 8, seed=3, augment=("shift", "flip")):
        for picture, (box,) in zip(x.numpy(), boxes.numpy(), strict=True):
            rows, columns = np.nonzero(picture[0])
            corners = [columns.min() / 40, rows.min() / 40, (columns.max() + 1) / 40, (rows.max() + 1) / 40]
            np.testing.assert_allclose(box[1:5], corners, atol=1e-6)
            assert box[0] == 1
            seen.add(tuple(corners))
    assert len(seen) > 3


def test_a_box_that_has_left_the_picture_is_gone() -> None:
    from nbedge.detection.moving import moved_boxes

    boxes = torch.tensor([[[1.0, 0.8, 0.4, 1.0, 0.6, 0.0], [2.0, 0.1, 0.1, 0.3, 0.3, 0.0]]])
    moved = moved_boxes(boxes, torch.tensor([[0.18]]), torch.tensor([[0.0]]))
    assert moved[0, :, 0].tolist() == [-1, 2]
    np.testing.assert_allclose(moved[0, 1, 1:5], [0.28, 0.1, 0.48, 0.3], atol=1e-6)


# data

SAMPLE = Path(__file__).parent.parent / "sample_models" / "blood_smears"


def test_the_sample_is_read_and_split() -> None:
    from nbedge.data import load

    splits = load(f"coco:{SAMPLE / 'data'}", (3, 120, 160), calibration=20)
    assert splits.classes == ("platelet", "red", "white")
    assert splits.task == "detection"
    assert (len(splits.train) + len(splits.calibration), len(splits.validation), len(splits.test)) == (192, 81, 72)
    assert len(splits.calibration) == 20
    boxes = splits.test.labels[splits.test.labels[:, :, 0] >= 0]
    assert ((boxes[:, 1:5] >= 0) & (boxes[:, 1:5] <= 1)).all()
