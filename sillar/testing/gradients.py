"""Gradients held against central differences, to any order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sillar.core.functional import stack
from sillar.core.grad import grad
from sillar.core.rng import Rng
from sillar.core.tensor import Tensor
from sillar.errors import GradientError

STEP = 1e-5  # of the central differences; the error of order h^2 meets that of 1 / h
TOLERANCE = 1e-6  # relative to the size of what is compared
DIRECTIONS = 3


def check_grads(
    f: Callable[..., Tensor], args: Sequence[Any], *, order: int = 2, seed: int = 0
) -> None:
    """Raise GradientError unless the derivatives of f(*args) match differences.

    Floating-point arguments are taken in float64, in random directions, up to `order`.
    Keep them away from kinks. Other arguments are passed as they are.
    """
    arrays = [np.asarray(a.data if isinstance(a, Tensor) else a) for a in args]
    inputs = [
        Tensor(a.astype("float64"), requires_grad=True) if a.dtype.kind == "f" else a
        for a in arrays
    ]
    variables = [x for x in inputs if isinstance(x, Tensor)]
    check_variables(lambda: f(*inputs), variables, order=order, seed=seed)


def check_variables(
    f: Callable[[], Tensor],
    variables: Sequence[Tensor],
    *,
    order: int = 2,
    seed: int = 0,
) -> None:
    """Raise GradientError unless the derivatives of f() for `variables` match.

    The variables, float64, are moved in place while f is called, and put back.
    """
    rng = Rng(seed)
    level = f
    for n in range(1, order + 1):
        _check_first(level, variables, rng.split("order", n), n)
        level = _projected(level, variables, rng.split("project", n))


def _projected(
    f: Callable[[], Tensor], variables: Sequence[Tensor], rng: Rng
) -> Callable[[], Tensor]:
    """Return the function () -> <gradient of <u, f>, w> with random u and w."""

    def projection() -> Tensor:
        y = f()
        gradients = grad(
            y, list(variables), cotangents=_draw(rng, "u", y), create_graph=True
        )
        parts = [
            (g * _draw(rng, f"w{i}", g)).sum() for i, g in enumerate(gradients)
        ]
        return stack(parts).sum()

    return projection


def _check_first(
    f: Callable[[], Tensor], variables: Sequence[Tensor], rng: Rng, order: int
) -> None:
    y = f()
    u = _draw(rng, "u", y)
    gradients = grad(y, list(variables), cotangents=u)
    for i, (x, g) in enumerate(zip(variables, gradients, strict=True)):
        if g.shape != x.shape or g.dtype != x.dtype:
            raise GradientError(
                f"order {order}, variable {i}: expected a gradient {x.dtype} {x.shape},"
                f" got {g.dtype} {g.shape}"
            )
        for k in range(DIRECTIONS):
            v = rng.split("v", i, k).normal(x.shape, "float64")
            expected = _difference(f, x, v, u.data)
            got = float(np.sum(np.asarray(g.data) * v))
            scale = 1.0 + abs(expected) + float(np.sum(np.abs(g.data * v)))
            if not abs(expected - got) <= TOLERANCE * scale:
                raise GradientError(
                    f"order {order}, variable {i} of shape {x.shape}: the gradient in a"
                    f" random direction is {got:.9g}, differences give {expected:.9g}"
                )


def _difference(f: Callable[[], Tensor], x: Tensor, v: Any, u: Any) -> float:
    """Return the derivative of <u, f()> when x moves along v, by differences."""
    start = x.data
    values = []
    try:
        for step in (STEP, -STEP):
            x.data = start + step * v
            values.append(np.asarray(f().data))
    finally:
        x.data = start
    return float(np.sum((values[0] - values[1]) * u) / (2 * STEP))


def _draw(rng: Rng, name: str, like: Tensor) -> Tensor:
    return Tensor(rng.split(name).normal(like.shape, "float64"))
