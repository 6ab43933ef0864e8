"""Where in a sequence each token stands: learned, sinusoidal and rotary."""

from __future__ import annotations

from typing import Any

import numpy as np

from sillar.backends import backend_of
from sillar.core.functional import stack
from sillar.core.ops import reshape
from sillar.core.parameter import Initializer, Parameter
from sillar.core.tensor import Tensor, wrap
from sillar.errors import ConfigError, ShapeError
from sillar.nn.initializers import small_normal
from sillar.nn.layer import Layer
from sillar.nn.layers import at_least

BASE = 10_000.0  # of the slowest wave's length, in both papers


class LearnedPositions(Layer):
    """A trained vector for each place, added: x (batch, n, width), n <= length."""

    def __init__(
        self, length: int, width: int, *, initializer: Initializer = small_normal
    ) -> None:
        self.length = at_least("LearnedPositions", "length", length, 1)
        self.width = at_least("LearnedPositions", "width", width, 1)
        self.initializer = initializer
        self.weight = Parameter((length, width), initializer)

    def forward(self, x: Tensor) -> Tensor:
        check_tokens(self, x, self.width)
        n = x.shape[1]
        if n > self.length:
            raise ShapeError(
                f"{self!r}: expected at most {self.length} tokens, got {x.shape}:"
                " shorten the sequences, or make a layer of more places"
            )
        return x + (self.weight if n == self.length else self.weight[:n])


class SinusoidalPositions(Layer):
    """Waves of each place added: x (batch, n, width) + p (Vaswani et al. 2017, 3.5).

    p(t, 2i) = sin(t / 10000^(2i / width)), p(t, 2i + 1) = cos of the same.
    """

    def __init__(self, width: int) -> None:
        self.width = even("SinusoidalPositions", "width", width)

    def forward(self, x: Tensor) -> Tensor:
        check_tokens(self, x, self.width)
        sine, cosine = _waves(x, x.shape[1], self.width)
        return x + reshape(stack([sine, cosine], -1), shape=(x.shape[1], self.width))


def rotate(x: Tensor) -> Tensor:
    """Turn each pair of x (..., n, d) by an angle that grows with its place.

    The pair (2i, 2i + 1) at place t turns by t / 10000^(2i / d), so that a product of
    two vectors depends on their distance alone (RoFormer, Su et al. 2021, eq. 34).
    """
    *batch, n, d = x.shape
    sine, cosine = _waves(x, n, d)
    pairs = reshape(x, shape=(*batch, n, d // 2, 2))
    a, b = pairs[..., 0], pairs[..., 1]
    turned = stack([a * cosine - b * sine, a * sine + b * cosine], -1)
    return reshape(turned, shape=x.shape)


def _waves(like: Tensor, n: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the sines and cosines (n, width / 2) of every place and wave length."""
    lengths = BASE ** (np.arange(0, width, 2) / width)
    angles = np.arange(n)[:, None] / lengths
    return _constant(like, np.sin(angles)), _constant(like, np.cos(angles))


def _constant(like: Tensor, values: Any) -> Tensor:
    return wrap(backend_of(like.data).asarray(values, dtype=like.dtype))


def even(owner: str, name: str, value: int) -> int:
    """Return `value` if it is an even integer >= 2."""
    if at_least(owner, name, value, 2) % 2:
        raise ConfigError(f"{owner}: {name} must be even, got {value}")
    return value


def check_tokens(layer: Layer, x: Tensor, width: int, what: str = "input") -> None:
    """Raise unless x is (batch, tokens, width)."""
    if x.ndim != 3 or x.shape[-1] != width:
        raise ShapeError(
            f"{layer!r}: expected {what} (batch, tokens, {width}), got {x.shape}"
        )
