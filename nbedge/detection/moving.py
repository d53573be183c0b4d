"""Boxes that go with pictures which are moved or mirrored."""

import torch
from torch import Tensor

from nbedge.detection.boxes import NONE

#: share of a box that must be left in the picture; what shows less of an object is no longer to be found
LEFT_OVER = 0.25


def moved_boxes(labels: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Return boxes (n, most, 6) moved by shares (n, 1) of the picture; those that are mostly outside are gone."""
    boxes = labels[:, :, 1:5] + torch.stack([right, down, right, down], 2)
    inside = boxes.clamp(0, 1)
    kept = _areas(inside) >= LEFT_OVER * _areas(boxes)
    names = torch.where(kept, labels[:, :, 0], NONE)
    return torch.cat([names[:, :, None], inside, labels[:, :, 5:]], 2)


def flipped_boxes(labels: Tensor) -> Tensor:
    """Return boxes (n, most, 6) with left and right exchanged."""
    names, left, top, right, bottom, ignored = labels.unbind(2)
    return torch.stack([names, 1 - right, top, 1 - left, bottom, ignored], 2)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, :, 2:] - boxes[:, :, :2]).clamp(min=0).prod(2)
