import json
from typing import Any

import numpy as np
import pytest

from nbedge.errors import InputError
from nbedge.preprocessing import Preprocessing

COLOUR = Preprocessing((3, 4, 5), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PICTURES = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), np.uint8)


def test_a_picture_is_normalised_channel_by_channel() -> None:
    x = COLOUR(PICTURES)
    assert x.shape == (6, 3, 4, 5)
    assert x.dtype == np.float32
    assert x.flags.c_contiguous
    for channel in range(3):
        wanted = (PICTURES[..., channel] / 255 - COLOUR.mean[channel]) / COLOUR.std[channel]
        np.testing.assert_allclose(x[:, channel], wanted, rtol=1e-5, atol=1e-6)


def test_scale_and_shift_are_the_same_map() -> None:
    scale, shift = COLOUR.scale_shift()
    assert np.array_equal(COLOUR(PICTURES), (PICTURES * scale + shift).transpose(0, 3, 1, 2))


def test_it_survives_json() -> None:
    assert Preprocessing.from_dict(json.loads(json.dumps(COLOUR.to_dict()))) == COLOUR


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (((2, 4, 4), (0.5, 0.5), (1.0, 1.0)), "first number is channels"),
        (((4, 4, 3), (0.5,) * 4, (1.0,) * 4), "first number is channels"),
        (((3, 4, 4), (0.5,), (1.0, 1.0, 1.0)), "mean has 1 values for 3 channels"),
        (((1, 4, 4), (0.5,), (1.0, 1.0)), "std has 2 values for 1 channels"),
        (((3, 4, 4), (0.5,) * 3, (1.0, 0.0, 1.0)), "above 0"),
    ],
)
def test_what_cannot_be_applied_is_refused(arguments: tuple[Any, Any, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Preprocessing(*arguments)
