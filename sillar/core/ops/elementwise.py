"""Elementwise primitives. Gradients are unbroadcast by the engine, never here.

Comparisons and `sign` have no rules: their derivative is zero wherever it exists.
"""

from __future__ import annotations

import math
from typing import Any

from sillar.backends import Array
from sillar.core.dtypes import SCALARS
from sillar.core.ops.shape import astype
from sillar.core.tape import primitive
from sillar.core.tensor import Tensor


@primitive
def add(xp: Any, a: Array, b: Array) -> Array:
    """Return a + b."""
    return xp.add(a, b)


add.defvjp(lambda g, y, a, b: g, lambda g, y, a, b: g)


@primitive
def negative(xp: Any, x: Array) -> Array:
    """Return -x."""
    return xp.negative(x)


negative.defvjp(lambda g, y, x: negative(g))


@primitive
def subtract(xp: Any, a: Array, b: Array) -> Array:
    """Return a - b."""
    return xp.subtract(a, b)


subtract.defvjp(lambda g, y, a, b: g, lambda g, y, a, b: negative(g))


@primitive
def multiply(xp: Any, a: Array, b: Array) -> Array:
    """Return a * b."""
    return xp.multiply(a, b)


multiply.defvjp(lambda g, y, a, b: g * b, lambda g, y, a, b: g * a)


@primitive
def divide(xp: Any, a: Array, b: Array) -> Array:
    """Return a / b."""
    return xp.divide(a, b)


divide.defvjp(lambda g, y, a, b: g / b, lambda g, y, a, b: -g * y / b)


@primitive
def greater(xp: Any, a: Array, b: Array) -> Array:
    """Return a > b."""
    return xp.greater(a, b)


@primitive
def greater_equal(xp: Any, a: Array, b: Array) -> Array:
    """Return a >= b."""
    return xp.greater_equal(a, b)


@primitive
def less(xp: Any, a: Array, b: Array) -> Array:
    """Return a < b."""
    return xp.less(a, b)


@primitive
def less_equal(xp: Any, a: Array, b: Array) -> Array:
    """Return a <= b."""
    return xp.less_equal(a, b)


@primitive
def equal(xp: Any, a: Array, b: Array) -> Array:
    """Return a == b."""
    return xp.equal(a, b)


@primitive
def not_equal(xp: Any, a: Array, b: Array) -> Array:
    """Return a != b."""
    return xp.not_equal(a, b)


@primitive
def sign(xp: Any, x: Array) -> Array:
    """Return -1, 0 or 1, without a gradient."""
    return xp.sign(x)


@primitive
def where(xp: Any, condition: Array, a: Array, b: Array) -> Array:
    """Return a where `condition` holds, else b; what was taken has the gradient."""
    return xp.where(condition, a, b)


where.defvjp(
    None,
    lambda g, y, condition, a, b: where(condition, g, 0.0),
    lambda g, y, condition, a, b: where(condition, 0.0, g),
)


@primitive
def power(xp: Any, x: Array, exponent: Array) -> Array:
    """Return x ** exponent; x ** 0 and 0 ** exponent are constant.

    The gradient for the exponent needs x >= 0.
    """
    return xp.pow(x, exponent)


def _power_base(g: Tensor, y: Tensor, x: Tensor, exponent: Any) -> Tensor:
    if isinstance(exponent, SCALARS):
        if exponent == 0:
            return g * 0.0
        return g * exponent if exponent == 1 else g * exponent * x ** (exponent - 1)
    safe = where(equal(exponent, 0), 1.0, exponent - 1)  # 0 * x ** -1 would be nan
    slope: Tensor = exponent * x**safe
    return g * slope


def _power_exponent(g: Tensor, y: Tensor, x: Any, exponent: Any) -> Tensor:
    if isinstance(x, SCALARS):
        return g * y * (math.log(x) if x > 0 else 0.0)
    return g * y * log(where(greater(x, 0), x, 1.0))  # 0 ** e does not change with e


power.defvjp(_power_base, _power_exponent)


@primitive
def exp(xp: Any, x: Array) -> Array:
    """Return e ** x."""
    return xp.exp(x)


exp.defvjp(lambda g, y, x: g * y)


@primitive
def expm1(xp: Any, x: Array) -> Array:
    """Return e ** x - 1, precise near 0."""
    return xp.expm1(x)


expm1.defvjp(lambda g, y, x: g * (y + 1.0))


@primitive
def log(xp: Any, x: Array) -> Array:
    """Return the natural logarithm."""
    return xp.log(x)


log.defvjp(lambda g, y, x: g / x)


@primitive
def log1p(xp: Any, x: Array) -> Array:
    """Return log(1 + x), precise near 0."""
    return xp.log1p(x)


log1p.defvjp(lambda g, y, x: g / (x + 1.0))


@primitive
def sqrt(xp: Any, x: Array) -> Array:
    """Return the square root."""
    return xp.sqrt(x)


sqrt.defvjp(lambda g, y, x: g * 0.5 / y)


@primitive
def sin(xp: Any, x: Array) -> Array:
    """Return the sine of x in radians."""
    return xp.sin(x)


@primitive
def cos(xp: Any, x: Array) -> Array:
    """Return the cosine of x in radians."""
    return xp.cos(x)


sin.defvjp(lambda g, y, x: g * cos(x))
cos.defvjp(lambda g, y, x: -g * sin(x))


@primitive
def tanh(xp: Any, x: Array) -> Array:
    """Return the hyperbolic tangent."""
    return xp.tanh(x)


tanh.defvjp(lambda g, y, x: g * (1.0 - y * y))


@primitive
def sigmoid(xp: Any, x: Array) -> Array:
    """Return 1 / (1 + exp(-x)), as (1 + tanh(x / 2)) / 2, which never overflows."""
    return (xp.tanh(x * 0.5) + 1.0) * 0.5


sigmoid.defvjp(lambda g, y, x: g * (y * (1.0 - y)))


@primitive
def softplus(xp: Any, x: Array) -> Array:
    """Return log(1 + exp(x)), as max(x, 0) + log1p(exp(-|x|))."""
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))


softplus.defvjp(lambda g, y, x: g * sigmoid(x))


@primitive
def erf(xp: Any, x: Array) -> Array:
    """Return the error function, 2 / sqrt(pi) times the integral of exp(-t^2)."""
    return xp.erf(x)


erf.defvjp(lambda g, y, x: g * (exp(-(x * x)) * (2.0 / math.sqrt(math.pi))))


@primitive
def normal_cdf(xp: Any, x: Array) -> Array:
    """Return P(N < x) of a standard normal N, (1 + erf(x / sqrt(2))) / 2."""
    return xp.normal_cdf(x)


@primitive
def normal_pdf(xp: Any, x: Array) -> Array:
    """Return the standard normal density, exp(-x^2 / 2) / sqrt(2 pi)."""
    return xp.normal_pdf(x)


normal_cdf.defvjp(lambda g, y, x: g * normal_pdf(x))
normal_pdf.defvjp(lambda g, y, x: -g * (x * y))


@primitive
def relu(xp: Any, x: Array) -> Array:
    """Return max(x, 0); the derivative at 0 is 0."""
    return xp.maximum(x, 0)


relu.defvjp(lambda g, y, x: g * astype(greater(x, 0), dtype=x.dtype))


@primitive
def absolute(xp: Any, x: Array) -> Array:
    """Return |x|; the derivative at 0 is 0."""
    return xp.abs(x)


absolute.defvjp(lambda g, y, x: g * sign(x))


@primitive
def maximum(xp: Any, a: Array, b: Array) -> Array:
    """Return the larger of a and b; equal values share the gradient."""
    return xp.maximum(a, b)


maximum.defvjp(
    lambda g, y, a, b: g * _share(a, b),
    lambda g, y, a, b: g * _share(b, a),
)


@primitive
def minimum(xp: Any, a: Array, b: Array) -> Array:
    """Return the smaller of a and b; equal values share the gradient."""
    return xp.minimum(a, b)


minimum.defvjp(
    lambda g, y, a, b: g * _share(b, a),
    lambda g, y, a, b: g * _share(a, b),
)


def _share(winner: Any, loser: Any) -> Tensor:
    """Return 1 where winner > loser, 1/2 where they are equal, else 0."""
    dtype = (winner if isinstance(winner, Tensor) else loser).dtype
    above = astype(greater(winner, loser), dtype=dtype)
    return above + astype(equal(winner, loser), dtype=dtype) * 0.5
