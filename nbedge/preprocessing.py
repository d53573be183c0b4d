"""What turns a picture into a network's input: one record for training, calibration and the device."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nbedge.errors import InputError


class Images(Protocol):
    """Pictures (n, h, w, c) uint8: an array, or what decodes them when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The (n, h, w, c)."""

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """The type of a pixel."""

    def __len__(self) -> int:
        """Return the number of pictures."""

    def __getitem__(self, rows: slice | NDArray[np.int64], /) -> NDArray[np.uint8]:
        """Return the pixels of a slice, or of the numbers `rows` (n,)."""

    def take(self, indices: NDArray[np.int64], /, axis: int) -> "Images":
        """Return the pictures at `indices`; `axis` is 0."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Picture (uint8, NHWC) to input (float32, NCHW): x = (picture / 255 - mean) / std.

    Attributes:
        shape: (channels, height, width) of the input; pictures of another size are resized to it.
        mean: per channel, in [0, 1] units.
        std: per channel, in [0, 1] units.
        resize: interpolation of the resize, a Pillow filter name.
    """

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: str = "bilinear"

    def __post_init__(self) -> None:
        """Refuse what cannot be applied."""
        channels = self.shape[0]
        if channels not in (1, 3):
            raise InputError(f"input shape {self.shape}: the first number is channels, 1 (grey) or 3 (RGB)")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != channels:
                raise InputError(f"{name} has {len(values)} values for {channels} channels; give one a channel")
        if not all(0 <= value <= 1 for value in self.mean):
            raise InputError(f"mean {self.mean} must lie between 0 and 1: pixels are counted from 0 (black) to 1")
        if not all(0 < value <= 1 for value in self.std):
            raise InputError(f"std {self.std} must be above 0, up to 1: pixels are counted from 0 (black) to 1")

    def __call__(self, pictures: Images) -> NDArray[np.float32]:
        """Normalise `pictures` (n, h, w, c) into an input (n, c, h, w), contiguous."""
        scale, shift = self.scale_shift()
        x = pictures[:].astype(np.float32) * scale + shift
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2))

    def scale_shift(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return (scale, shift), each (c,), with x = picture * scale + shift."""
        mean, std = np.asarray(self.mean), np.asarray(self.std)
        return (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)

    def of_pixels(self) -> "Preprocessing":
        """Return that of a network which normalises by itself: the input is the picture, 0 to 255."""
        channels = self.shape[0]
        return replace(self, mean=(0.0,) * channels, std=(1 / 255,) * channels)

    @property
    def takes_pixels(self) -> bool:
        """Whether the input is the picture, 0 to 255."""
        return self == self.of_pixels()

    def pixels(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the pixels (n, c, h, w), whole numbers from 0 to 255, of inputs x of the same shape."""
        scale, shift = (values.reshape(-1, 1, 1) for values in self.scale_shift())
        whole: NDArray[np.float32] = np.clip(np.rint((x - shift) / scale), 0, 255).astype(np.float32)
        return whole

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Preprocessing":
        """Read what `to_dict` wrote."""
        channels, height, width = values["shape"]
        return cls((channels, height, width), tuple(values["mean"]), tuple(values["std"]), values["resize"])
