"""Layers for rows of tables: codes on the way in, units on the way out."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sillar.core.ops import astype
from sillar.core.tensor import Tensor
from sillar.errors import ConfigError, ShapeError
from sillar.nn.initializers import he_normal, small_normal, zeros
from sillar.nn.layer import Layer, Parameter
from sillar.nn.layers import Embedding, at_least


class CodedDense(Layer):
    """Dense over rows whose last columns are codes, each of which has a vector.

    x (..., n_in) -> (..., n_out), where x[..., -k:] are k codes, code i from 0 to
    sizes[i] - 1: numbers @ weight + bias + the sum of the codes' vectors. That is
    Dense over one-hot columns without making them (entity embeddings: Guo and Berkhahn
    2016). `TableTransform(codes=...)` makes such rows, and knows the `sizes`.
    """

    def __init__(self, n_in: int, n_out: int, sizes: Sequence[int]) -> None:
        self.n_in = at_least("CodedDense", "n_in", n_in, 1)
        self.n_out = at_least("CodedDense", "n_out", n_out, 1)
        self.sizes = tuple(at_least("CodedDense", "sizes", n, 1) for n in sizes)
        self.numbers = n_in - len(self.sizes)
        if self.numbers < 0 or not self.sizes:
            raise ConfigError(
                f"CodedDense: expected from 1 to {n_in} sizes of codes, as n_in is"
                f" {n_in}, got {len(self.sizes)}"
            )
        self.weight = Parameter((self.numbers, n_out), he_normal)
        self.bias = Parameter((n_out,), zeros)
        self.vectors = [Embedding(n, n_out, initializer=small_normal) for n in sizes]

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 1 or x.shape[-1] != self.n_in:
            raise ShapeError(
                f"CodedDense({self.n_in}, {self.n_out}): expected input"
                f" (..., {self.n_in}), got {x.shape}"
            )
        y = x[..., : self.numbers] @ self.weight + self.bias
        for i, vectors in enumerate(self.vectors, self.numbers):
            y = y + vectors(astype(x[..., i] + 0.5, dtype="int64"))  # the nearest
        return y


class Rescaling(Layer):
    """x * scale + offset, two numbers that are not trained.

    As the last layer of a regression it gives values their units: the deviation and the
    mean of the targets. As the first layer it scales pixels.
    """

    def __init__(self, scale: float, offset: float = 0.0) -> None:
        for name, value in (("scale", scale), ("offset", offset)):
            if type(value) not in (int, float) or not math.isfinite(value):
                raise ConfigError(
                    f"Rescaling: {name} must be a finite number, got {value!r:.40}"
                )
        self.scale, self.offset = scale, offset

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.offset
