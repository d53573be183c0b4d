"""Boxes drawn into a picture."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nbedge.errors import needs

#: of classes, in order: Okabe and Ito's palette, which colour-blind people tell apart
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442")
#: text is a thirtieth of the shorter side high, lines a hundredth
TEXT, LINE = 1 / 30, 1 / 160
#: least width of a file, in pixels
WIDTH = 640


def drawn(
    picture: Path | io.BytesIO, found: Sequence[Mapping[str, Any]], classes: Sequence[str], width: int = WIDTH
) -> bytes:  # fmt: skip
    """Return a picture with boxes as a PNG file; one that is too small for the words on them is enlarged.

    Args:
        picture: its file.
        found: boxes, each with "class", "box" (left, top, right, bottom in shares of the picture) and perhaps "score".
        classes: names, which have a colour each.
        width: pixels that the file is wide at least.

    Raises:
        MissingDependencyError: Pillow is not installed.
    """
    with needs("train"):
        from PIL import Image, ImageDraw, ImageFont
    with Image.open(picture) as opened:
        times = max(1, math.ceil(width / opened.width))
        image = opened.convert("RGB").resize((opened.width * times, opened.height * times), Image.Resampling.BICUBIC)
    pen, side = ImageDraw.Draw(image), min(image.size)
    height = max(10, round(side * TEXT))
    font = ImageFont.load_default(height)
    for one in reversed(found):  # the surest on top
        colour = COLOURS[classes.index(one["class"]) % len(COLOURS)]
        corners = [share * size for share, size in zip(one["box"], image.size * 2, strict=True)]
        pen.rectangle(corners, outline=colour, width=max(1, round(side * LINE)))
        text = f"{one['class']} {one['score']:.2f}" if "score" in one else str(one["class"])
        place = (corners[0], max(0, corners[1] - 1.3 * height))
        pen.rectangle(pen.textbbox(place, text, font=font), fill=colour)
        pen.text(place, text, fill="white", font=font)
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()
