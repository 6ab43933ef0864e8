"""Derivatives of functions: products with Jacobians and Hessians, and whole ones.

All come from reverse mode: a vector-Jacobian product is linear in its vector, so
its own gradient is a Jacobian-vector product.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sillar.core.functional import stack
from sillar.core.grad import grad
from sillar.core.ops.shape import reshape
from sillar.core.tape import enable_grad, lift
from sillar.core.tensor import Tensor
from sillar.errors import GradientError, ShapeError


def vjp(f: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Return f(*primals) and the function that maps a cotangent to its gradients.

    The function returns one gradient per primal (a tuple unless there is one primal).
    """
    xs = _variables(primals)
    with enable_grad():
        y = f(*xs)

    def pullback(cotangent: Any) -> Any:
        gradients = grad(y, xs, cotangents=_lifted(cotangent), create_graph=True)
        return gradients[0] if len(gradients) == 1 else gradients

    return y, pullback


def jvp(f: Callable[..., Any], primals: Any, tangents: Any) -> tuple[Any, Any]:
    """Return f(*primals) and its derivative in the direction `tangents`.

    `primals` and `tangents` are tuples of equal shapes, or one tensor each.
    """
    primals, tangents = _tuple(primals), _tuple(tangents)
    xs, vs = _variables(primals), tuple(map(lift, tangents))
    _same_shapes("jvp", xs, vs)
    with enable_grad():
        y = f(*xs)
    single = isinstance(y, Tensor)
    ys = (y,) if single else tuple(y)
    us = tuple(Tensor(out.data * 0, requires_grad=True) for out in ys)
    gradients = grad(ys, xs, cotangents=us, create_graph=True)
    tangent = grad(gradients, us, cotangents=vs, create_graph=True)
    return y, tangent[0] if single else tangent


def hvp(f: Callable[..., Tensor], primals: Any, vectors: Any) -> Any:
    """Return the Hessian of the scalar function f, times `vectors`.

    `primals` and `vectors` are tuples of equal shapes, or one tensor each.
    """
    single = not isinstance(primals, list | tuple)
    xs, vs = _variables(_tuple(primals)), tuple(map(lift, _tuple(vectors)))
    _same_shapes("hvp", xs, vs)
    with enable_grad():
        gradients = grad(f(*xs), xs, create_graph=True)
    products = grad(gradients, xs, cotangents=vs, create_graph=True)
    return products[0] if single else products


def jacobian(f: Callable[[Tensor], Tensor], x: Any) -> Tensor:
    """Return all partial derivatives of f at x: shape (*y.shape, *x.shape)."""
    (variable,) = _variables((x,))
    with enable_grad():
        y = f(variable)
        rows = [
            grad(part, variable, create_graph=True)
            for part in (reshape(y, shape=(y.size,))[i] for i in range(y.size))
        ]
        if not rows:
            return Tensor(variable.data[None][:0].reshape(y.shape + variable.shape))
        return reshape(stack(rows), shape=y.shape + variable.shape)


def hessian(f: Callable[[Tensor], Tensor], x: Any) -> Tensor:
    """Return the second derivatives of the scalar function f: (*x.shape, *x.shape)."""

    def gradient(variable: Tensor) -> Tensor:
        result: Tensor = grad(f(variable), variable, create_graph=True)
        return result

    return jacobian(gradient, x)


def _variables(primals: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """Return fresh variables, still part of the graph around them if there is one."""
    fresh = []
    for primal in primals:
        x = lift(primal)
        with enable_grad():
            tracked = x.requires_grad
            fresh.append(reshape(x, shape=x.shape) if tracked else _variable(x))
    return tuple(fresh)


def _variable(x: Tensor) -> Tensor:
    return Tensor(x.data, requires_grad=True)


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _lifted(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(map(lift, value))
    return lift(value)


def _same_shapes(name: str, xs: tuple[Tensor, ...], vs: tuple[Tensor, ...]) -> None:
    if len(xs) != len(vs):
        raise GradientError(f"{name}: got {len(xs)} primals and {len(vs)} vectors")
    for x, v in zip(xs, vs, strict=True):
        if x.shape != v.shape:
            raise ShapeError(
                f"{name}: expected a vector of the shape {x.shape} of its primal,"
                f" got {v.shape}"
            )
