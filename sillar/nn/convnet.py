"""Convolutional networks in stages: a base that asks for the cell, and two of them."""

from __future__ import annotations

from abc import abstractmethod

from sillar.core.ops import relu
from sillar.core.tensor import Tensor
from sillar.errors import ConfigError
from sillar.nn.activations import ReLU
from sillar.nn.images import Conv2D, GlobalAvgPool2D, check_images
from sillar.nn.layer import Layer
from sillar.nn.layers import Dense, Sequential, at_least
from sillar.nn.normalization import BatchNorm


class Convolutional(Layer):
    """Stages of equal cells, then the mean of each channel, then a Dense.

    Images (n, h, w, c_in) -> logits (n, n_out). A stage has one of the `widths` and
    `depth` cells, or as many as `depth` says for each. Every stage but the first
    begins with `stride`. A subclass names the cell, and a stem if it wants one.
    """

    def __init__(
        self,
        c_in: int,
        n_out: int,
        *,
        widths: tuple[int, ...] = (16, 32, 64),
        depth: int | tuple[int, ...] = 1,
        stride: int = 2,
    ) -> None:
        owner = type(self).__name__
        self.c_in = at_least(owner, "c_in", c_in, 1)
        self.n_out = at_least(owner, "n_out", n_out, 1)
        self.widths = _sizes(owner, "widths", widths)
        depths = depth if isinstance(depth, tuple | list) else (depth,) * len(widths)
        depths = _sizes(owner, "depth", depths)
        if len(depths) != len(self.widths):
            raise ConfigError(
                f"{owner}: depth must be one number, or one for each of the widths"
                f" {self.widths}, got {depths}"
            )
        self.depth = depth if isinstance(depth, int) else depths
        self.stride = at_least(owner, "stride", stride, 1)
        self.start = self.stem(c_in, self.widths[0])
        c = c_in if self.start is None else self.widths[0]
        self.stages: list[Layer] = []
        for i, (width, count) in enumerate(zip(self.widths, depths, strict=True)):
            first = self.cell(c, width, 1 if i == 0 else stride)
            others = (self.cell(width, width, 1) for _ in range(count - 1))
            self.stages.append(Sequential(first, *others))
            c = width
        self.pool, self.head = GlobalAvgPool2D(), Dense(c, n_out)

    @abstractmethod
    def cell(self, c_in: int, c_out: int, stride: int) -> Layer:
        """Return one cell: images (n, h, w, c_in) -> (n, h / stride, ..., c_out)."""

    def stem(self, c_in: int, c_out: int) -> Layer | None:
        """Return what stands before the first stage, or None for nothing."""
        return None

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, self.c_in)
        if self.start is not None:
            x = self.start(x)
        for stage in self.stages:
            x = stage(x)
        return self.head(self.pool(x))


class ConvNet(Convolutional):
    """Convolutions of 3 x 3, each with BatchNorm and ReLU: images -> logits."""

    def cell(self, c_in: int, c_out: int, stride: int) -> Layer:
        return Sequential(*_normed(c_in, c_out, stride), ReLU())


class ResNet(Convolutional):
    """Residual blocks after a convolution of 3 x 3: images -> logits.

    With depth=n the network of 6n + 2 layers for small images (He et al. 2016, section
    4.2), but with 1 x 1 convolutions where a shortcut must change shape (option B).
    """

    def cell(self, c_in: int, c_out: int, stride: int) -> Layer:
        return ResidualBlock(c_in, c_out, stride=stride)

    def stem(self, c_in: int, c_out: int) -> Layer:
        return Sequential(*_normed(c_in, c_out, 1), ReLU())


class ResidualBlock(Layer):
    """relu(branch(x) + shortcut(x)): x (n, h, w, c_in) -> (n, h', w', c_out).

    The branch is two convolutions of 3 x 3 with BatchNorm, ReLU between them; the
    shortcut is x itself, or a convolution of 1 x 1 with BatchNorm if channels or
    size change (He et al. 2016, fig. 2 and eq. 2). h' is h / stride, rounded up.
    """

    def __init__(self, c_in: int, c_out: int, *, stride: int = 1) -> None:
        self.c_in, self.c_out = c_in, c_out
        self.stride = at_least("ResidualBlock", "stride", stride, 1)
        first, second = _normed(c_in, c_out, stride), _normed(c_out, c_out, 1)
        self.branch = Sequential(*first, ReLU(), *second)
        same = c_in == c_out and stride == 1
        self.shortcut = (
            None if same else Sequential(*_normed(c_in, c_out, stride, kernel=1))
        )

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, self.c_in)
        kept = x if self.shortcut is None else self.shortcut(x)
        return relu(self.branch(x) + kept)


def _normed(c_in: int, c_out: int, stride: int, kernel: int = 3) -> tuple[Layer, Layer]:
    """Return a convolution that keeps the size up to its stride, and a BatchNorm."""
    options = {"stride": stride, "padding": kernel // 2}
    return Conv2D(c_in, c_out, kernel, bias=False, **options), BatchNorm(c_out)


def _sizes(owner: str, name: str, values: tuple[int, ...]) -> tuple[int, ...]:
    if not isinstance(values, tuple | list) or not values:
        raise ConfigError(
            f"{owner}: {name} must be one integer or more, as in (16, 32), got"
            f" {values!r:.40}"
        )
    return tuple(at_least(owner, name, value, 1) for value in values)
