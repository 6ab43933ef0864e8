"""Convolution and pooling over images (n, height, width, channels)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sillar.backends import Pair, Window
from sillar.core import ops
from sillar.core.functional import mean
from sillar.core.parameter import Buffer, Initializer, Parameter
from sillar.core.rng import Rng
from sillar.core.tensor import Tensor
from sillar.errors import ConfigError, ShapeError
from sillar.nn.initializers import he_normal, zeros
from sillar.nn.layer import Layer
from sillar.nn.layers import at_least

Sizes = int | tuple[int, int]


def pair(owner: str, name: str, value: Any, least: int) -> Pair:
    """Return (rows, columns) from one integer or two, each >= `least`."""
    parts = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(parts) != 2:
        raise ConfigError(
            f"{owner}: {name} must be one integer or (rows, columns), got {value!r:.40}"
        )
    return at_least(owner, name, parts[0], least), at_least(
        owner, name, parts[1], least
    )


def grouped(owner: str, c_in: int, c_out: int, groups: int) -> tuple[int, int, int]:
    """Return the three numbers if the channels can be cut into so many groups."""
    at_least(owner, "c_in", c_in, 1)
    at_least(owner, "c_out", c_out, 1)
    at_least(owner, "groups", groups, 1)
    if c_in % groups or c_out % groups:
        raise ConfigError(
            f"{owner}: groups must divide c_in and c_out, got {groups} groups for"
            f" {c_in} and {c_out} channels"
        )
    return int(c_in), int(c_out), int(groups)


def conv_window(
    owner: str, kernel: Any, stride: Any, padding: Any, dilation: Any
) -> Window:
    """Return the window of a convolution; padding "same" is worked out."""
    size = pair(owner, "kernel", kernel, 1)
    step = pair(owner, "stride", stride, 1)
    spread = pair(owner, "dilation", dilation, 1)
    if isinstance(padding, str):
        if padding != "same" or step != (1, 1):
            raise ConfigError(
                f"{owner}: padding must be integers, or 'same' with stride 1, got"
                f" {padding!r:.40} with stride {step}"
            )
        total = [(k - 1) * d for k, d in zip(size, spread, strict=True)]
        margins = tuple((t // 2, t - t // 2) for t in total)
    else:
        margins = tuple((m, m) for m in pair(owner, "padding", padding, 0))
    return Window(size, step, (margins[0], margins[1]), spread)


def check_images(layer: Layer, x: Tensor, channels: int | str = "channels") -> None:
    """Raise unless x is images, with so many channels if a number is given."""
    if x.ndim != 4 or channels not in (x.shape[-1], "channels"):
        raise ShapeError(
            f"{layer!r}: expected images (n, height, width, {channels}), got {x.shape}"
        )


class Conv2D(Layer):
    """Cross-correlation: x (n, h, w, c_in) -> (n, h', w', c_out).

    `padding` is cells of zeros on each side, or "same" (stride 1: h' = h, w' = w).
    `fixed` takes kernels (kh, kw, c_in / groups, c_out) that are saved, not trained.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: Sizes,
        *,
        stride: Sizes = 1,
        padding: Sizes | str = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        initializer: Initializer = he_normal,
        fixed: Any = False,
    ) -> None:
        self.c_in, self.c_out, self.groups = grouped("Conv2D", c_in, c_out, groups)
        self.kernel, self.stride, self.dilation = kernel, stride, dilation
        self.padding, self.initializer = padding, initializer
        self.window = conv_window("Conv2D", kernel, stride, padding, dilation)
        shape = (*self.window.kernel, c_in // groups, c_out)
        self.fixed = fixed is not False
        self.weight = (
            _fixed(shape, fixed) if self.fixed else Parameter(shape, initializer)
        )
        self.bias = Parameter((c_out,), zeros) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, self.c_in)
        y = ops.conv(x, self.weight, window=self.window, groups=self.groups)
        return y if self.bias is None else y + self.bias


class _Pool(Layer):
    """What the two poolings share: a window that moves by its own size by default."""

    outside = 0.0  # the value of padded cells

    def __init__(
        self, size: Sizes, *, stride: Sizes | None = None, padding: Sizes = 0
    ) -> None:
        owner = type(self).__name__
        self.size, self.stride, self.padding = size, stride, padding
        kernel = pair(owner, "size", size, 1)
        step = kernel if stride is None else pair(owner, "stride", stride, 1)
        self.window = Window(kernel, step)
        self.margins = pair(owner, "padding", padding, 0)
        if any(m * 2 > k for m, k in zip(self.margins, kernel, strict=True)):
            raise ConfigError(
                f"{owner}: padding must be at most half the window {kernel}, got"
                f" {self.margins}"
            )

    def padded(self, x: Tensor) -> Tensor:
        """Return x with the margins that `padding` asks for."""
        check_images(self, x)
        rows, columns = self.margins
        if rows == columns == 0:
            return x
        widths = ((0, 0), (rows, rows), (columns, columns), (0, 0))
        return ops.pad(x, widths=widths, value=self.outside)


class MaxPool2D(_Pool):
    """The largest value of each window; of equal ones the first has the gradient."""

    outside = -math.inf

    def forward(self, x: Tensor) -> Tensor:
        return ops.max_pool(self.padded(x), window=self.window)


class AvgPool2D(_Pool):
    """The mean of each window, padded zeros included."""

    def forward(self, x: Tensor) -> Tensor:
        scale = 1 / math.prod(self.window.kernel)
        return ops.sum_pool(self.padded(x), window=self.window) * scale


class GlobalAvgPool2D(Layer):
    """The mean of each channel: x (n, h, w, c) -> (n, c)."""

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x)
        return mean(x, (1, 2))


class GlobalMaxPool2D(Layer):
    """The largest value of each channel; equal ones share the gradient.

    x (n, h, w, c) -> (n, c)
    """

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x)
        return largest(self, x, (1, 2))


def largest(layer: Layer, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Return the largest value along `axes`, of which there must be one."""
    if not all(x.shape[axis] for axis in axes):
        raise ShapeError(f"{layer!r}: nothing to choose the largest from in {x.shape}")
    return ops.max_(x, axis=axes)


def _fixed(shape: tuple[int, ...], kernels: Any) -> Buffer:
    """Return the kernels as a buffer; `True` waits for them to come from a file."""
    if kernels is True:
        return Buffer(shape, _missing)
    values = np.asarray(kernels)
    if values.shape != shape:
        raise ShapeError(f"Conv2D: expected fixed kernels {shape}, got {values.shape}")
    return Buffer(shape, lambda rng, shape, dtype: values.astype(dtype))


def _missing(rng: Rng, shape: tuple[int, ...], dtype: Any) -> Any:
    raise ConfigError(
        f"Conv2D: fixed=True has no kernels yet: load them from a file, or give an"
        f" array of shape {shape}"
    )
