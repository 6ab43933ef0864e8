"""Convolution and pooling along series (n, length, channels)."""

from __future__ import annotations

from typing import ClassVar

from sillar.core import ops
from sillar.core.functional import mean
from sillar.core.parameter import Initializer, Parameter
from sillar.core.tensor import Tensor
from sillar.errors import ConfigError, ShapeError
from sillar.nn.images import AvgPool2D, MaxPool2D, conv_window, grouped, largest
from sillar.nn.initializers import he_normal, zeros
from sillar.nn.layer import Layer
from sillar.nn.layers import at_least


class Conv1D(Layer):
    """Cross-correlation along a series: x (n, length, c_in) -> (n, length', c_out).

    `padding` is cells of zeros on each side, or with stride 1 "same" (length' =
    length) or "causal": the same, but all before the start, so that no output sees
    what comes after it.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int | str = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        initializer: Initializer = he_normal,
    ) -> None:
        self.c_in, self.c_out, self.groups = grouped("Conv1D", c_in, c_out, groups)
        self.kernel = at_least("Conv1D", "kernel", kernel, 1)
        self.stride = at_least("Conv1D", "stride", stride, 1)
        self.dilation = at_least("Conv1D", "dilation", dilation, 1)
        self.padding, self.initializer = padding, initializer
        before, after = self._margins()
        window = conv_window("Conv1D", (1, kernel), (1, stride), 0, (1, dilation))
        self.window = window._replace(padding=((0, 0), (before, after)))
        self.weight = Parameter((kernel, c_in // groups, c_out), initializer)
        self.bias = Parameter((c_out,), zeros) if bias else None

    def _margins(self) -> tuple[int, int]:
        """Return how many cells of zeros stand before and after the series."""
        if not isinstance(self.padding, str):
            margin = at_least("Conv1D", "padding", self.padding, 0)
            return margin, margin
        if self.padding not in ("same", "causal") or self.stride != 1:
            raise ConfigError(
                "Conv1D: padding must be an integer, or 'same' or 'causal' with stride"
                f" 1, got {self.padding!r:.40} with stride {self.stride}"
            )
        total = (self.kernel - 1) * self.dilation
        before = total if self.padding == "causal" else total // 2
        return before, total - before

    def forward(self, x: Tensor) -> Tensor:
        _check_series(self, x, self.c_in)
        kernels = ops.reshape(self.weight, shape=(1, *self.weight.shape))
        y = ops.conv(as_rows(x), kernels, window=self.window, groups=self.groups)
        y = from_rows(y)
        return y if self.bias is None else y + self.bias


class _Pool(Layer):
    """A pooling along series, done by that over images of one row."""

    images: ClassVar[type[MaxPool2D] | type[AvgPool2D]]

    def __init__(
        self, size: int, *, stride: int | None = None, padding: int = 0
    ) -> None:
        owner = type(self).__name__
        self.size = at_least(owner, "size", size, 1)
        self.stride, self.padding = stride, at_least(owner, "padding", padding, 0)
        step = size if stride is None else at_least(owner, "stride", stride, 1)
        if padding * 2 > size:
            raise ConfigError(
                f"{owner}: padding must be at most half the window {size}, got"
                f" {padding}"
            )
        self.rows = self.images((1, size), stride=(1, step), padding=(0, padding))

    def forward(self, x: Tensor) -> Tensor:
        _check_series(self, x)
        return from_rows(self.rows(as_rows(x)))


class MaxPool1D(_Pool):
    """The largest value of each window; of equal ones the first has the gradient."""

    images = MaxPool2D


class AvgPool1D(_Pool):
    """The mean of each window, padded zeros included."""

    images = AvgPool2D


class GlobalAvgPool1D(Layer):
    """The mean of each channel: x (n, length, c) -> (n, c)."""

    def forward(self, x: Tensor) -> Tensor:
        _check_series(self, x)
        return mean(x, 1)


class GlobalMaxPool1D(Layer):
    """The largest value of each channel; equal ones share the gradient.

    x (n, length, c) -> (n, c)
    """

    def forward(self, x: Tensor) -> Tensor:
        _check_series(self, x)
        return largest(self, x, (1,))


def as_rows(x: Tensor) -> Tensor:
    """Return a series as images of one row: (n, length, c) -> (n, 1, length, c)."""
    return ops.reshape(x, shape=(x.shape[0], 1, *x.shape[1:]))


def from_rows(x: Tensor) -> Tensor:
    """Return images of one row as series: (n, 1, length, c) -> (n, length, c)."""
    return ops.reshape(x, shape=(x.shape[0], *x.shape[2:]))


def _check_series(layer: Layer, x: Tensor, channels: int | str = "channels") -> None:
    if x.ndim != 3 or channels not in (x.shape[-1], "channels"):
        raise ShapeError(
            f"{layer!r}: expected series (n, length, {channels}), got {x.shape}"
        )
