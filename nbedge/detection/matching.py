"""Do two detectors find the same? Box by box, where no right answer is known."""

from collections.abc import Sequence

from nbedge.detection.boxes import Detections, overlaps
from nbedge.detection.decoding import SHOWN

#: intersection over union from which two boxes are the same object
SAME = 0.5


def differing(wanted: Sequence[Detections], found: Sequence[Detections]) -> tuple[int, int]:
    """Return how many boxes that one side shows the other has not, and how many both show, over all pictures.

    A box is shown from a score of 0.3 on. The other side has it if a box of its class and place has half of that score:
    a box that is just above the limit here and just below it there is no other answer.
    """
    alone = sum(_alone(a, b) + _alone(b, a) for a, b in zip(wanted, found, strict=True))
    return alone, sum(len(side.above(SHOWN)) for side in (*wanted, *found))


def _alone(side: Detections, other: Detections) -> int:
    """Return how many of the boxes that one side shows have no partner on the other; no box is partner of two."""
    shown, partners = side.above(SHOWN), other.above(SHOWN / 2)
    free, alone = [True] * len(partners), 0
    shared = overlaps(shown.boxes, partners.boxes)
    for row in range(len(shown)):
        able = [
            (float(shared[row, i]), -i) for i, is_free in enumerate(free)
            if is_free and partners.classes[i] == shown.classes[row] and shared[row, i] >= SAME
        ]  # fmt: skip
        if able:
            free[-max(able)[1]] = False
        alone += not able
    return alone
