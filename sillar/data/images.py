"""Images that differ a little each time they are seen: turned, moved, lit differently.

Every change of an example is drawn from a key of its own, made of seed, epoch and row.
So it does not depend on workers, on the batch, or on resuming. An image is (height,
width, channels), of floats or of integers; its shape and type stay.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from sillar.core.rng import Rng
from sillar.describe import label
from sillar.errors import ConfigError, ShapeError, missing

_OPENCV_TYPES = ("uint8", "int16", "uint16", "float32", "float64")  # all it can turn
_OPENCV_CHANNELS = 4  # the most it can turn


class Augmentation(ABC):
    """One change of an image, drawn anew each time."""

    def __repr__(self) -> str:
        return label(self)

    @abstractmethod
    def apply(self, image: np.ndarray, draw: np.random.Generator, cv2: Any) -> Any:
        """Return the image changed; `cv2` is OpenCV, or None to do without."""


class Flip(Augmentation):
    """The mirror image with probability p; `vertical` changes up and down."""

    def __init__(self, p: float = 0.5, *, vertical: bool = False) -> None:
        _check("Flip", "p", p, 0, 1)
        self.p, self.vertical = p, vertical

    def apply(self, image: np.ndarray, draw: np.random.Generator, cv2: Any) -> Any:
        if draw.random() >= self.p:
            return image
        if cv2 is not None:
            return cv2.flip(image, 0 if self.vertical else 1)
        return image[::-1] if self.vertical else image[:, ::-1]


class Crop(Augmentation):
    """A window of the image's own size, after `padding` mirrored pixels on each side.

    He et al. 2016, section 4.2, who pad with zeros; for that see `Shift`.
    """

    def __init__(self, padding: int = 4) -> None:
        _check_pixels("Crop", "padding", padding)
        self.padding = padding

    def apply(self, image: np.ndarray, draw: np.random.Generator, cv2: Any) -> Any:
        pad, (height, width) = self.padding, image.shape[:2]
        if pad >= min(height, width):
            raise ShapeError(
                f"Crop: padding must be below the {height} by {width} pixels of the"
                f" image, which are mirrored, got {pad}"
            )
        top, left = (int(n) for n in draw.integers(0, 2 * pad + 1, 2))
        if cv2 is not None:
            wide = cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_REFLECT_101)
        else:
            sides = [(pad, pad), (pad, pad), (0, 0)]
            wide = np.pad(image, sides, mode="reflect")
        return wide[top : top + height, left : left + width]


class Shift(Augmentation):
    """The image moved by up to `pixels` up or down, left or right; `fill` comes in."""

    def __init__(self, pixels: int = 2, *, fill: float = 0.0) -> None:
        _check_pixels("Shift", "pixels", pixels)
        self.pixels, self.fill = pixels, fill

    def apply(self, image: np.ndarray, draw: np.random.Generator, cv2: Any) -> Any:
        down, right = (int(n) for n in draw.integers(-self.pixels, self.pixels + 1, 2))
        height, width = image.shape[:2]
        moved = np.full_like(image, self.fill)
        into = _overlap(down, height), _overlap(right, width)
        moved[into] = image[_overlap(-down, height), _overlap(-right, width)]
        return moved


class Rotation(Augmentation):
    """The image turned about its middle by up to `degrees` either way.

    Values between pixels are bilinear; `fill` comes in at the corners.
    """

    def __init__(self, degrees: float = 10.0, *, fill: float = 0.0) -> None:
        _check("Rotation", "degrees", degrees, 0, 180)
        self.degrees, self.fill = degrees, fill

    def apply(self, image: np.ndarray, draw: np.random.Generator, cv2: Any) -> Any:
        angle = draw.uniform(-self.degrees, self.degrees)
        height, width, channels = image.shape
        if cv2 is None or channels > _OPENCV_CHANNELS:
            return rotated(image, angle, self.fill)
        middle = (width - 1) / 2, (height - 1) / 2
        matrix = cv2.getRotationMatrix2D(middle, angle, 1.0)
        fill = (self.fill,) * 4
        return cv2.warpAffine(image, matrix, (width, height), borderValue=fill)


class Noise(Augmentation):
    """Normal noise of deviation `std`, where white is 1 for floats, 255 for uint8."""

    def __init__(self, std: float = 0.05) -> None:
        _check("Noise", "std", std, 0, np.inf)
        self.std = std

    def apply(self, image: np.ndarray, draw: np.random.Generator, cv2: Any) -> Any:
        noise = draw.standard_normal(image.shape, dtype=np.float32)
        return _in_type(image + noise * np.float32(self.std * _white(image)), image)


class Brightness(Augmentation):
    """The image lighter or darker by up to `limit` of white, the same everywhere."""

    def __init__(self, limit: float = 0.2) -> None:
        _check("Brightness", "limit", limit, 0, 1)
        self.limit = limit

    def apply(self, image: np.ndarray, draw: np.random.Generator, cv2: Any) -> Any:
        light = draw.uniform(-self.limit, self.limit) * _white(image)
        return _in_type(image + np.float32(light), image)


class Augment:
    """Changes one after the other, drawn for each example from (seed, epoch, row).

    `opencv` says whether OpenCV (extra `vision`) turns and mirrors; None: if it is
    installed. Without it only `Rotation` differs: in the last bits for float32, uint8
    and uint16, and where OpenCV (for other types, and before release 5) rounds places
    to 1/32 of a pixel.
    """

    def __init__(
        self,
        changes: Sequence[Augmentation],
        *,
        seed: int = 0,
        opencv: bool | None = None,
    ) -> None:
        self.changes, self.seed = tuple(changes), seed
        for change in self.changes:
            if not isinstance(change, Augmentation):
                raise ConfigError(
                    "Augment: expected changes such as Flip(), got"
                    f" {type(change).__name__}; write augment=[Flip(), Shift(2)]"
                )
        self._rng = Rng(seed)
        self.opencv = _opencv(opencv) is not None

    def __repr__(self) -> str:
        return f"Augment({list(self.changes)}, seed={self.seed}, opencv={self.opencv})"

    def alone(self) -> None:
        """Turn OpenCV's threads off in this process: workers run beside one another."""
        if self.opencv:
            _opencv(True).setNumThreads(0)

    def __call__(self, image: np.ndarray, epoch: int, row: int) -> np.ndarray:
        if image.ndim != 3:
            raise ShapeError(
                "Augment: expected images (height, width, channels), got an example"
                f" {image.shape}; reshape x to (n, height, width, channels)"
            )
        draw = self._rng.split("augment", epoch, row).generator()
        kind = image.dtype.name in _OPENCV_TYPES
        cv2 = _opencv(True) if self.opencv and kind and image.size else None
        for change in self.changes:
            image = np.ascontiguousarray(change.apply(image, draw, cv2)).reshape(
                image.shape
            )
        return image


def rotated(image: np.ndarray, degrees: float, fill: float = 0.0) -> np.ndarray:
    """Return the image (h, w, c) turned counter-clockwise, bilinear between pixels."""
    height, width = image.shape[:2]
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    y, x = np.indices((height, width), dtype=np.float64)
    y, x = y - (height - 1) / 2, x - (width - 1) / 2
    from_x = cos * x - sin * y + (width - 1) / 2
    from_y = sin * x + cos * y + (height - 1) / 2
    wide = np.pad(
        image.astype(np.float64), [(1, 1), (1, 1), (0, 0)], constant_values=fill
    )
    top = np.clip(np.floor(from_y), -1, height - 1)  # beyond there is `fill` alone
    left = np.clip(np.floor(from_x), -1, width - 1)
    below = np.clip(from_y - top, 0, 1)[..., np.newaxis]
    beside = np.clip(from_x - left, 0, 1)[..., np.newaxis]
    i, j = top.astype(int) + 1, left.astype(int) + 1
    upper = wide[i, j] * (1 - beside) + wide[i, j + 1] * beside
    lower = wide[i + 1, j] * (1 - beside) + wide[i + 1, j + 1] * beside
    return _in_type(upper * (1 - below) + lower * below, image)


def _opencv(wanted: bool | None) -> Any:
    """Return OpenCV, or None where it shall not or cannot be used."""
    if wanted is False:
        return None
    try:
        import cv2
    except ImportError:
        if wanted is None:
            return None
        raise missing("opencv-python-headless", "vision", "opencv=True") from None
    return cv2


def _overlap(shift: int, size: int) -> slice:
    """Return the places that hold something after a shift."""
    return slice(min(max(shift, 0), size), max(min(size + shift, size), 0))


def _white(image: np.ndarray) -> float:
    kind = image.dtype
    return 1.0 if kind.kind == "f" else float(np.iinfo(kind).max)


def _in_type(values: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Return values in the image's type, rounded and within its range."""
    if image.dtype.kind == "f":
        return values.astype(image.dtype)
    limits = np.iinfo(image.dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(image.dtype)


def _check(owner: str, name: str, value: float, low: float, high: float) -> None:
    usual = isinstance(value, int | float) and not isinstance(value, bool)
    if not usual or not low <= value <= high:
        raise ConfigError(
            f"{owner}: {name} must be a number in [{low}, {high}], got {value!r:.40}"
        )


def _check_pixels(owner: str, name: str, value: int) -> None:
    if type(value) is not int or value < 0:
        raise ConfigError(
            f"{owner}: {name} must be pixels, an integer >= 0, got {value!r:.40}"
        )
