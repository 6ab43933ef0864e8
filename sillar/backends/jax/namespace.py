"""The Array API's functions for cells; types mix as NumPy's do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
from jax import numpy as jnp

from sillar.backends.jax.cell import Cell, wrapped


@cache
def _common(*types: Any) -> Any:
    """Return the type that NumPy gives to a result of these types."""
    if any(t.name == "bfloat16" for t in types):
        return jnp.promote_types(types[0], types[-1])
    return np.result_type(*types)


def in_one_type(arrays: Iterable[Any]) -> list[Any]:
    """Return JAX's arrays, all in the type that holds them."""
    found = [jnp.asarray(x) for x in arrays]
    common = _common(*dict.fromkeys(np.dtype(x.dtype) for x in found))
    return [x.astype(common) for x in found]


def alike(a: Any, b: Any) -> tuple[Any, Any]:
    """Return two operands in their common type; Python numbers take the other's."""
    if type(a) in (bool, int, float):
        b = _weak(jnp.asarray(b), a)
        return jnp.asarray(a, b.dtype), b
    if type(b) in (bool, int, float):
        a = _weak(jnp.asarray(a), b)
        return a, jnp.asarray(b, a.dtype)
    a, b = jnp.asarray(a), jnp.asarray(b)
    if a.dtype == b.dtype:
        return a, b
    if a.weak_type or b.weak_type:  # a number of a program's argument
        kind = b.dtype if a.weak_type else a.dtype
        return a.astype(kind), b.astype(kind)
    common = _common(np.dtype(a.dtype), np.dtype(b.dtype))
    return a.astype(common), b.astype(common)


def _weak(x: Any, number: Any) -> Any:
    """Return `x`, of a type that can hold what it gives with a Python number."""
    floating = jnp.issubdtype(x.dtype, jnp.floating)
    if type(number) is float and not floating:
        return x.astype("float64")
    return x.astype("int64") if type(number) is int and x.dtype == bool else x


def real(x: Any) -> Any:
    """Return whole numbers as float64, as NumPy does before it divides."""
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype("float64")


def _binary(function: Callable[..., Any]) -> Callable[..., Any]:
    return wrapped(lambda a, b: function(*alike(a, b)))


def _unary(function: Callable[..., Any]) -> Callable[..., Any]:
    return wrapped(lambda x: function(real(x)))


def _where(condition: Any, a: Any, b: Any) -> Any:
    plain = type(a) in (int, float) and type(b) in (int, float)
    if plain:
        common = "float64" if float in (type(a), type(b)) else "int64"
        a, b = jnp.asarray(a, common), jnp.asarray(b, common)
    return jnp.where(condition.astype(bool), *alike(a, b))


def _sum(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    kind = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else None
    return jnp.sum(x, axis=axis, keepdims=keepdims, dtype=kind)


def _extreme(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, axis=None, keepdims=False: function(
        x, axis=axis, keepdims=keepdims
    )


_BINARY = "add subtract multiply matmul minimum maximum greater greater_equal less"
_UNARY = "exp expm1 log log1p sqrt sin cos tanh"
TYPES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64"
NAMESPACE: dict[str, Any] = {
    **{name: jnp.dtype(name) for name in TYPES.split()},
    "bfloat16": jnp.dtype("bfloat16"),
    **{name: _binary(getattr(jnp, name)) for name in _BINARY.split()},
    **{name: _unary(getattr(jnp, name)) for name in _UNARY.split()},
    "pow": _binary(jnp.power),
    "equal": _binary(jnp.equal),
    "not_equal": _binary(jnp.not_equal),
    "less_equal": _binary(jnp.less_equal),
    "divide": _binary(lambda a, b: jnp.divide(real(a), real(b))),
    "negative": wrapped(jnp.negative),
    "abs": wrapped(jnp.abs),
    "sign": wrapped(jnp.sign),
    "isfinite": wrapped(jnp.isfinite),
    "copy": wrapped(jnp.copy),
    "clip": wrapped(jnp.clip),
    "logical_and": wrapped(jnp.logical_and),
    "where": wrapped(_where),
    "sum": wrapped(_sum),
    "mean": wrapped(jnp.mean),
    "max": wrapped(_extreme(jnp.max)),
    "min": wrapped(_extreme(jnp.min)),
    "any": wrapped(jnp.any),
    "all": wrapped(jnp.all),
    "argmax": wrapped(lambda x, axis=None: jnp.argmax(x, axis=axis)),
    "cumulative_sum": wrapped(lambda x, axis=0: jnp.cumsum(x, axis=axis)),
    "reshape": wrapped(lambda x, shape: jnp.reshape(x, shape)),
    "permute_dims": wrapped(jnp.transpose),
    "matrix_transpose": wrapped(lambda x: jnp.swapaxes(x, -1, -2)),
    "expand_dims": wrapped(lambda x, axis: jnp.expand_dims(x, axis)),
    "squeeze": wrapped(lambda x, axis: jnp.squeeze(x, axis)),
    "flip": wrapped(lambda x, axis=None: jnp.flip(x, axis)),
    "stack": wrapped(lambda xs, axis=0: jnp.stack(in_one_type(xs), axis)),
    "concat": wrapped(lambda xs, axis=0: jnp.concatenate(in_one_type(xs), axis)),
    "broadcast_to": wrapped(jnp.broadcast_to),
    "zeros_like": wrapped(jnp.zeros_like),
    "ones_like": wrapped(jnp.ones_like),
    "astype": wrapped(lambda x, dtype, copy=True: jnp.asarray(x).astype(dtype)),
}
SHORT = {"subtract": "sub", "multiply": "mul", "divide": "truediv"}
for _name in ("add", "subtract", "multiply", "divide", "pow", "matmul"):
    _function = NAMESPACE[_name]
    _short = SHORT.get(_name, _name)
    setattr(Cell, f"__{_short}__", lambda a, b, f=_function: f(a, b))
    setattr(Cell, f"__r{_short}__", lambda a, b, f=_function: f(b, a))
for _name, _short in {
    **{"less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge"},
    **{"equal": "eq", "not_equal": "ne"},
}.items():
    setattr(Cell, f"__{_short}__", lambda a, b, f=NAMESPACE[_name]: f(a, b))
for _name, _method in {
    "__hash__": object.__hash__,
    "__neg__": NAMESPACE["negative"],
    "__abs__": NAMESPACE["abs"],
}.items():
    setattr(Cell, _name, _method)
