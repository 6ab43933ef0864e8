"""Gradients held against central differences, to any order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sillar.core.dtypes import SCALARS
from sillar.core.functional import stack
from sillar.core.grad import grad, recorded
from sillar.core.rng import Rng
from sillar.core.tape import no_grad
from sillar.core.tensor import Tensor
from sillar.errors import DtypeError, GradientError, ShapeError
from sillar.testing.compare import variable

STEP = 1e-5  # of the central differences; the error of order h^2 meets that of 1 / h
TOLERANCE = 1e-6  # relative to the size of what is compared
DIRECTIONS = 3

Function = Callable[[], Tensor]


def check_grads(
    f: Callable[..., Tensor], args: Sequence[Any], *, order: int = 2, seed: int = 0
) -> None:
    """Raise unless the derivatives of f(*args) match central differences.

    Floating-point tensors and arrays are taken in float64, in random directions, up to
    `order`. Keep them away from kinks. Other arguments are passed as they are.
    """
    inputs = [a if type(a) in SCALARS else variable(a, "float64") for a in args]
    variables = {f"argument {i}": x for i, x in enumerate(inputs) if is_variable(x)}
    check_variables(lambda: f(*inputs), variables, order=order, seed=seed)


def check_variables(
    f: Function, variables: Mapping[str, Tensor], *, order: int = 2, seed: int = 0
) -> None:
    """Raise unless the derivatives of f() for the named variables match differences.

    The variables, float64, are moved in place while f is called, and put back.
    """
    if not variables:
        raise GradientError("check: expected a floating-point argument, got none")
    rng, level = Rng(seed), f
    for n in range(1, order + 1):
        check_rules(level())
        _check_first(level, variables, rng.split("order", n), n)
        level = projected(level, variables, rng.split("project", n))


def check_rules(y: Tensor) -> None:
    """Raise unless every rule behind `y` returns its input's shape and type.

    A shape may still be broadcast, and a type wider if the output's is: these the
    engine undoes. Anything else it would undo as well, in silence.
    """
    for out in recorded([y]):
        with no_grad():
            inputs = out.node.inputs
            places = [i for i, x in enumerate(inputs) if is_variable(x)]
            g = Tensor(np.ones_like(out.data))
            parts = out.node.primitive.gradients(places, g, out)
        for i, part in zip(places, parts, strict=True):
            if part is not None:
                _check_part(
                    f"{out.node.primitive.name}: rule {i}", part, inputs[i], out
                )


def projected(f: Function, variables: Mapping[str, Tensor], rng: Rng) -> Function:
    """Return the function () -> <gradient of <u, f()>, w> with random u and w."""
    xs = list(variables.values())

    def projection() -> Tensor:
        y = f()
        gradients = grad(y, xs, cotangents=draw(rng, "u", y), create_graph=True)
        parts = [(g * draw(rng, f"w{i}", g)).sum() for i, g in enumerate(gradients)]
        return stack(parts).sum()

    return projection


def draw(rng: Rng, name: str, like: Tensor) -> Tensor:
    """Return a random float64 tensor of the same shape."""
    return Tensor(rng.split(name).normal(like.shape, "float64"))


def is_variable(x: Any) -> bool:
    """Say whether `x` is a tensor that gradients follow."""
    return isinstance(x, Tensor) and x.requires_grad


def _check_part(what: str, part: Any, x: Tensor, y: Tensor) -> None:
    try:
        fits = np.broadcast_shapes(part.shape, x.shape) == tuple(part.shape)
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(
            f"{what}: expected a gradient of shape {x.shape}, or one that broadcasting"
            f" made of it, got {tuple(part.shape)}"
        )
    if y.dtype == x.dtype != part.dtype:
        raise DtypeError(f"{what}: expected a gradient {x.dtype}, got {part.dtype}")


def _check_first(
    f: Function, variables: Mapping[str, Tensor], rng: Rng, order: int
) -> None:
    y = f()
    u = draw(rng, "u", y)
    gradients = grad(y, dict(variables), cotangents=u)
    for name, x in variables.items():
        g = gradients[name]
        if g.shape != x.shape:
            raise ShapeError(
                f"order {order}, {name}: expected a gradient of shape {x.shape}, got"
                f" {g.shape}"
            )
        for k in range(DIRECTIONS):
            v = rng.split("v", name, k).normal(x.shape, "float64")
            expected = _difference(f, x, v, u.data)
            got = float(np.sum(np.asarray(g.data) * v))
            scale = 1.0 + abs(expected) + float(np.sum(np.abs(g.data * v)))
            if not abs(expected - got) <= TOLERANCE * scale:
                raise GradientError(
                    f"order {order}, {name} of shape {x.shape}: the gradient in a"
                    f" random direction is {got:.9g}, differences give {expected:.9g}"
                )


def _difference(f: Function, x: Tensor, v: Any, u: Any) -> float:
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
