"""Derivatives of three orders at one point, held against differences and float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from sillar.core.functional import stack
from sillar.core.grad import grad
from sillar.core.ops import sin
from sillar.core.rng import Rng
from sillar.core.tape import no_grad
from sillar.core.tensor import Tensor
from sillar.errors import DtypeError, GradientError, ShapeError
from sillar.testing.gradients import Function, check_rules

ORDERS = (1, 2, 3)
STEP = 1e-6  # of the central differences, small beside the distance to a kink
Variables = Mapping[str, Tensor]
Make = Callable[[str], tuple[Function, Variables]]  # in a type, at the same point
Field = dict[str, Any]  # the gradient for each variable


def double_errors(make: Make) -> Iterator[float]:
    """Yield the error of each order in float64, relative to the largest number.

    The first derivative is held against central differences in a random direction for
    each variable. The others are products of the derivative of a gradient with a random
    vector, and each element is held against the difference of two gradients.
    """
    f, variables = make("float64")
    exact = fields(f, variables, ORDERS[-1])
    yield max(_slope_error(f, x, n, exact[0][n]) for n, x in variables.items())
    for order in ORDERS[:-1]:
        sides = []
        for step in (STEP, -STEP):
            with _moved(variables, order, step):
                sides.append(fields(f, variables, order)[-1])
        expected = {n: (sides[0][n] - sides[1][n]) / (2 * STEP) for n in variables}
        yield _error(expected, exact[order])


def single_errors(make: Make) -> Iterator[float]:
    """Yield the error of each order in float32, held against float64's.

    Each gradient is of type float32, and each rule on the way gives its input's type.
    """
    f, variables = make("float32")
    single = fields(f, variables, ORDERS[-1], check=check_rules)
    exact = fields(*make("float64"), ORDERS[-1])
    for expected, got in zip(exact, single, strict=True):
        for name, g in got.items():
            if g.dtype != np.float32:
                raise DtypeError(f"{name}: expected a float32 gradient, got {g.dtype}")
        yield _error(expected, got)


def fields(
    f: Function,
    variables: Variables,
    order: int,
    check: Callable[[Tensor], None] | None = None,
) -> list[Field]:
    """Return the gradients of a scalar made of f(), of orders 1 to `order`.

    The scalar is <u, sin(f())>, and after each gradient <gradient, v>, with random u
    and v: the sine lets every order of a linear function differ from zero.
    """
    y = f()
    if not y.requires_grad:
        raise GradientError("expected an output that depends on a variable")
    level = (sin(y) * _direction(y, 0, "output")).sum()
    found = []
    for n in range(1, order + 1):
        if check is not None:
            check(level)
        gradients = grad(level, dict(variables), create_graph=n < order)
        found.append({name: g.numpy() for name, g in gradients.items()})
        parts = [(g * _direction(g, n, name)).sum() for name, g in gradients.items()]
        level = stack(parts).sum()
    return found


def _error(expected: Field, got: Field) -> float:
    """Return the largest difference, relative to the largest number plus one."""
    for name, e in expected.items():
        if e.shape != got[name].shape:
            raise ShapeError(
                f"{name}: expected a gradient of shape {e.shape}, got {got[name].shape}"
            )
    scale = 1.0 + max(np.max(np.abs(e), initial=0.0) for e in expected.values())
    gaps = [np.max(np.abs(e - got[n]), initial=0.0) for n, e in expected.items()]
    return float(np.max(gaps) / scale)  # which is nan if one is


def _slope_error(f: Function, x: Tensor, name: str, g: Any) -> float:
    """Return the error of the gradient of one variable, along one direction."""
    sides = []
    for step in (STEP, -STEP):
        with no_grad(), _moved({name: x}, 0, step):
            y = f()
            sides.append(np.sin(y.data))
    u, v = _direction(y, 0, "output").data, _direction(x, 0, name).data
    expected = np.sum((sides[0] - sides[1]) * u) / (2 * STEP)
    return float(abs(expected - np.sum(g * v)) / (1.0 + np.sum(np.abs(g * v))))


def _direction(like: Tensor, order: int, name: str) -> Tensor:
    """Return the random direction of one order for one variable, in its type."""
    raw = Rng(0).split("direction", order, name).normal(like.shape, "float64")
    return Tensor(raw.astype(like.dtype))


@contextmanager
def _moved(variables: Variables, order: int, step: float) -> Iterator[None]:
    """Move the variables by `step` along the directions of `order`, then back."""
    starts = {name: x.data for name, x in variables.items()}
    try:
        for name, x in variables.items():
            x.data = starts[name] + step * _direction(x, order, name).data
        yield
    finally:
        for name, x in variables.items():
            x.data = starts[name]
