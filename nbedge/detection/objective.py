"""What the training of a detector minimises: a heat map of centres, and the boxes around them."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from nbedge.detection.boxes import NONE
from nbedge.detection.decoding import BOXES, SCORES


@dataclass(frozen=True, slots=True)
class CentreLoss:
    """Focal loss of the heat map + weight x (1 - GIoU) of the boxes.

    The heat map is 1 in the cell of a centre and falls off like a bell towards the edges of the box, where the focal
    loss takes a cell as less and less wrong (CenterNet, arXiv 1904.07850, equation 1). The box is learned in every cell
    of the bell, as much as the bell is high there (TTFNet, arXiv 1909.00700, section 3.3), by the generalized
    intersection over union (arXiv 1902.09630).

    Attributes:
        weight: of the boxes.
        width: standard deviation of the bell, in sizes of the box. TTFNet's 0.54 / 6 would leave one cell of a box of
            three; 1 / 6 reaches the edge at three deviations.
    """

    weight: float = 2.0
    width: float = 1 / 6

    def __call__(self, model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
        """Run `model` on x (n, c, h, w) and return its loss on boxes `labels` (n, most, 6)."""
        outputs = model(x)
        return self.of(outputs[SCORES], outputs[BOXES], labels)

    def of(self, scores: Tensor, sides: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of logits (n, classes, h, w) and sides (n, 4, h, w)."""
        height, width = scores.shape[2:]
        size = torch.tensor([width, height, width, height], dtype=scores.dtype, device=scores.device)
        boxes, counts = labels[:, :, 1:5] * size, (labels[:, :, 0] != NONE) & (labels[:, :, 5] == 0)
        bells = self._bells(boxes, counts, (height, width))
        heat = self._heat(bells, labels[:, :, 0].long(), scores.shape[1])
        number = counts.sum().clamp(min=1)
        return _focal(scores, heat, _covered(boxes, labels, (height, width))) / number + self.weight * _giou_loss(
            sides, boxes, bells
        )

    def _bells(self, boxes: Tensor, counts: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the bell of each box (n, most, 4), in cells, over all cells: (n, most, h, w); 0 for what is none."""
        axes = []
        for axis, cells in ((1, grid[0]), (0, grid[1])):
            low, high = boxes[..., axis], boxes[..., axis + 2]
            centre = ((low + high) / 2).floor().clamp(0, cells - 1)
            deviation = ((high - low) * self.width).clamp(min=0.25)
            apart = torch.arange(cells, device=boxes.device) - centre[..., None]
            axes.append(torch.exp(-(apart**2) / (2 * deviation[..., None] ** 2)))
        found: Tensor = axes[0][..., :, None] * axes[1][..., None, :] * counts[..., None, None]
        return found

    def _heat(self, bells: Tensor, classes: Tensor, number: int) -> Tensor:
        """Return (n, classes, h, w): the highest bell of each class."""
        parts = [
            (bells * (classes == label)[..., None, None]).amax(1) for label in range(number)
        ]  # fmt: skip
        return torch.stack(parts, 1)


def _covered(boxes: Tensor, labels: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return (n, 1, h, w): 1 in the cells of boxes that count neither way, which no loss is taken of."""
    rows, columns = (torch.arange(cells, device=boxes.device) + 0.5 for cells in grid)
    left, top, right, bottom = (boxes[..., side, None] for side in range(4))
    across = (columns >= left) & (columns <= right)
    down = (rows >= top) & (rows <= bottom)
    ignored = (labels[:, :, 0] != NONE) & (labels[:, :, 5] > 0)
    return (down[..., :, None] & across[..., None, :] & ignored[..., None, None]).any(1, keepdim=True)


def _focal(logits: Tensor, heat: Tensor, ignored: Tensor) -> Tensor:
    """Return the sum over cells of CenterNet's focal loss, with its exponents 2 and 4."""
    log_p, log_q = functional.logsigmoid(logits), functional.logsigmoid(-logits)
    p = logits.sigmoid()
    right = -((1 - p) ** 2) * log_p
    wrong = -((1 - heat) ** 4) * p**2 * log_q
    return (torch.where(heat == 1, right, wrong) * ~ignored).sum()


def _giou_loss(sides: Tensor, boxes: Tensor, bells: Tensor) -> Tensor:
    """Return the mean of 1 - GIoU over cells, weighted by the highest bell of each, whose box it is to learn."""
    weight, owner = bells.max(1)  # (n, h, w)
    rows, columns = (torch.arange(cells, device=boxes.device) + 0.5 for cells in weight.shape[1:])
    wanted = torch.gather(boxes, 1, owner.flatten(1)[..., None].expand(-1, -1, 4)).view(*owner.shape, 4)
    left, top, right, bottom = sides.clamp(min=0).unbind(1)
    found = torch.stack(
        [columns - left, rows[:, None] - top, columns + right, rows[:, None] + bottom], -1
    )  # fmt: skip
    return (weight * (1 - _giou(found, wanted))).sum() / weight.sum().clamp(min=1)


def _giou(found: Tensor, wanted: Tensor) -> Tensor:
    """Return the generalized intersection over union of boxes (..., 4)."""
    shared = (torch.minimum(found[..., 2:], wanted[..., 2:]) - torch.maximum(found[..., :2], wanted[..., :2])).clamp(
        min=0
    )
    hull = torch.maximum(found[..., 2:], wanted[..., 2:]) - torch.minimum(found[..., :2], wanted[..., :2])
    inside, outside = shared.prod(-1), hull.prod(-1).clamp(min=1e-6)
    together = (_area(found) + _area(wanted) - inside).clamp(min=1e-6)
    return inside / together - (outside - together) / outside


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)
