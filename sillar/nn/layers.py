"""Sequential, Dense, Flatten, Dropout, Embedding."""

from __future__ import annotations

import math
from typing import Any

from sillar.backends import backend_of
from sillar.core.dtypes import as_number
from sillar.core.ops import astype, greater_equal, reshape
from sillar.core.parameter import Initializer, Parameter
from sillar.core.share import uniform_rows
from sillar.core.tape import place
from sillar.core.tensor import Tensor
from sillar.errors import ConfigError, DataError, DtypeError, ShapeError
from sillar.nn.examine import examine
from sillar.nn.initializers import he_normal, standard_normal, zeros
from sillar.nn.layer import Layer, next_rng


def at_least(owner: str, name: str, value: int, least: int) -> int:
    """Return `value` if it is an integer >= `least`; otherwise say what is expected."""
    number = as_number(value)  # NumPy's integers count, as in y.max() + 1
    if type(number) is not int or number < least:
        raise ConfigError(
            f"{owner}: {name} must be an integer >= {least}, got {value!r:.40}"
        )
    return number


def probability(owner: str, name: str, value: float) -> float:
    """Return `value` if it is in [0, 1); otherwise say what is expected."""
    if not 0 <= value < 1:
        raise ConfigError(f"{owner}: {name} must be in [0, 1), got {value!r:.40}")
    return value


def dropout(x: Tensor, p: float) -> Tensor:
    """Return x with elements dropped as `Dropout` does it, in training."""
    rng = next_rng() if p else None
    if rng is None:
        return x
    key = place(rng.key, backend=backend_of(x.data).name)
    draws = uniform_rows(key, x.shape, x.dtype)
    kept = astype(greater_equal(draws, p), dtype=x.dtype)
    return x * (kept * (1 / (1 - p)))


class Container(Layer):
    """What holds other layers, in `layers`."""

    def __init__(self, *layers: Layer) -> None:
        for layer in layers:
            if not isinstance(layer, Layer):
                raise ConfigError(
                    f"{type(self).__name__}: expected layers, got {layer!r:.60}"
                )
        self.layers = layers

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, i: int) -> Layer:
        return self.layers[i]

    def __repr__(self) -> str:
        name = type(self).__name__
        rows = (f"  {layer!r},\n".replace("\n", "\n  ")[:-2] for layer in self.layers)
        return f"{name}(\n{''.join(rows)})" if self.layers else f"{name}()"

    def _label(self) -> str:
        return type(self).__name__


def in_turn(layers: tuple[Layer, ...], x: Tensor) -> Tensor:
    """Return what the layers make of x, one after another."""
    for layer in layers:
        x = layer(x)
    return x


class Sequential(Container):
    """Layers one after another."""

    def forward(self, x: Tensor) -> Tensor:
        return in_turn(self.layers, x)


class Dense(Layer):
    """Affine map over the last axis: x (..., n_in) @ weight + bias -> (..., n_out)."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        bias: bool = True,
        initializer: Initializer = he_normal,
    ) -> None:
        self.n_in = at_least("Dense", "n_in", n_in, 1)
        self.n_out = at_least("Dense", "n_out", n_out, 1)
        self.initializer = initializer
        self.weight = Parameter((n_in, n_out), initializer)
        self.bias = Parameter((n_out,), zeros) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 1 or x.shape[-1] != self.n_in:
            raise ShapeError(
                f"Dense({self.n_in}, {self.n_out}): expected input (..., {self.n_in}),"
                f" got {x.shape}"
            )
        y = x @ self.weight
        return y if self.bias is None else y + self.bias


class Flatten(Layer):
    """All axes but the first as one: (n, ...) -> (n, size)."""

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 1:
            raise ShapeError("Flatten: expected a batch (n, ...), got a scalar")
        return reshape(x, shape=(x.shape[0], math.prod(x.shape[1:])))


class Dropout(Layer):
    """Zero each element with probability p in training, scale the rest by 1 / (1 - p).

    At inference nothing changes (Srivastava et al. 2014, the inverted form).
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = probability("Dropout", "p", p)

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p)


class Embedding(Layer):
    """A vector for each integer: indices (...) -> (..., width)."""

    def __init__(
        self, n: int, width: int, *, initializer: Initializer = standard_normal
    ) -> None:
        self.n = at_least("Embedding", "n", n, 1)
        self.width = at_least("Embedding", "width", width, 1)
        self.initializer = initializer
        self.weight = Parameter((n, width), initializer)

    def forward(self, indices: Tensor) -> Tensor:
        if str(indices.dtype)[:3] not in ("int", "uin"):
            raise DtypeError(
                f"Embedding({self.n}, {self.width}): expected integer indices, got"
                f" {indices.dtype}: convert them, as in x.astype('int64')"
            )
        examine(self._check_range, indices)
        return self.weight[indices]

    def _check_range(self, indices: Any) -> None:
        if indices.size and not 0 <= indices.min() <= indices.max() < self.n:
            raise DataError(
                f"Embedding({self.n}, {self.width}): indices must be in [0, {self.n}),"
                f" got {indices.min()} to {indices.max()}"
            )
