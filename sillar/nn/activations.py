"""Activations as layers."""

from __future__ import annotations

import math
from numbers import Real

from sillar.core import functional, ops
from sillar.core.tensor import Tensor
from sillar.errors import ConfigError
from sillar.nn.layer import Layer


class ReLU(Layer):
    """max(x, 0); the derivative at 0 is 0."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu(x)


class LeakyReLU(Layer):
    """x where x > 0, else slope * x; the derivative at 0 is `slope`."""

    def __init__(self, slope: float = 0.01) -> None:
        self.slope = _finite("LeakyReLU", "slope", slope)

    def forward(self, x: Tensor) -> Tensor:
        return functional.leaky_relu(x, self.slope)


class ELU(Layer):
    """x where x > 0, else alpha * (exp(x) - 1) (Clevert et al. 2016).

    As from below, the derivative at 0 is `alpha`.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = _finite("ELU", "alpha", alpha)

    def forward(self, x: Tensor) -> Tensor:
        return functional.elu(x, self.alpha)


class GELU(Layer):
    """x * P(N(0, 1) <= x), exactly or in its tanh form (Hendrycks & Gimpel 2016)."""

    def __init__(self, *, approximate: bool = False) -> None:
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        return functional.gelu(x, approximate=self.approximate)


class SiLU(Layer):
    """x * sigmoid(x), also called swish."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(x)


class Sigmoid(Layer):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.sigmoid(x)


class Tanh(Layer):
    """The hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.tanh(x)


class Softplus(Layer):
    """log(1 + exp(x))."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.softplus(x)


class Softmax(Layer):
    """exp(x) / sum(exp(x)) along `axis`."""

    def __init__(self, axis: int = -1) -> None:
        if isinstance(axis, bool) or not isinstance(axis, int):
            raise ConfigError(f"Softmax: axis must be an integer, got {axis!r:.40}")
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return functional.softmax(x, self.axis)


def _finite(owner: str, name: str, value: float) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, Real)
        or not math.isfinite(value)
    ):
        raise ConfigError(f"{owner}: {name} must be a finite number, got {value!r:.40}")
    return value
