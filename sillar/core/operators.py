"""Binds operators, methods and NumPy's own functions onto `Tensor`, last of all."""

from __future__ import annotations

from typing import Any

from sillar.core import functional, ops
from sillar.core.dtypes import SCALARS
from sillar.core.grad import backward
from sillar.core.tape import Primitive, lift
from sillar.core.tensor import Tensor
from sillar.errors import DtypeError

_OPERANDS = (Tensor, list, *SCALARS)


def _operators(name: str, primitive: Primitive) -> None:
    def forward(self: Tensor, other: Any) -> Any:
        return primitive(self, other) if _numeric(other) else NotImplemented

    def reflected(self: Tensor, other: Any) -> Any:
        return primitive(other, self) if _numeric(other) else NotImplemented

    setattr(Tensor, f"__{name}__", forward)
    setattr(Tensor, f"__r{name}__", reflected)


def _numeric(other: Any) -> bool:
    return isinstance(other, _OPERANDS) or hasattr(other, "dtype")


for _name, _primitive in {
    "add": ops.add,
    "sub": ops.subtract,
    "mul": ops.multiply,
    "truediv": ops.divide,
    "pow": ops.power,
}.items():
    _operators(_name, _primitive)

for _name, _primitive in {
    "gt": ops.greater,
    "ge": ops.greater_equal,
    "lt": ops.less,
    "le": ops.less_equal,
    "eq": ops.equal,
    "ne": ops.not_equal,
}.items():
    _operators(_name, _primitive)


def _reshape(x: Tensor, *shape: Any) -> Tensor:
    return ops.reshape(x, shape=_sizes(shape))


def _transpose(x: Tensor, *axes: Any) -> Tensor:
    return ops.transpose(x, axes=_sizes(axes) or tuple(reversed(range(x.ndim))))


def _sizes(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """Accept both f(2, 3) and f((2, 3))."""
    nested = len(sizes) == 1 and isinstance(sizes[0], tuple | list)
    return tuple(sizes[0]) if nested else sizes


def _sum(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    return ops.sum_(x, axis=axis, keepdims=keepdims)


def _max(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    return ops.max_(x, axis=axis, keepdims=keepdims)


def _min(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    return ops.min_(x, axis=axis, keepdims=keepdims)


def _argmax(x: Tensor, axis: int | None = None) -> Tensor:
    return ops.argmax(x, axis=axis)


for _name, _method in {
    "__neg__": lambda x: ops.negative(x),
    "__abs__": lambda x: ops.absolute(x),
    "__matmul__": lambda a, b: ops.product(a, lift(b)),
    "__rmatmul__": lambda b, a: ops.product(lift(a), b),
    "__getitem__": ops.index,
    "T": property(_transpose),
    "reshape": _reshape,
    "transpose": _transpose,
    "sum": _sum,
    "max": _max,
    "mean": functional.mean,
    "min": _min,
    "argmax": _argmax,
    "astype": lambda x, dtype: ops.astype(x, dtype=dtype),
    "backward": backward,
}.items():
    setattr(Tensor, _name, _method)


_UFUNCS = {
    primitive.name: primitive
    for primitive in (
        *(ops.add, ops.subtract, ops.multiply, ops.divide, ops.power, ops.negative),
        *(ops.exp, ops.expm1, ops.log, ops.log1p, ops.sqrt, ops.sin, ops.cos),
        *(ops.tanh, ops.absolute, ops.sign, ops.maximum, ops.minimum, ops.greater),
        *(ops.greater_equal, ops.less, ops.less_equal, ops.equal, ops.not_equal),
    )
} | {"matmul": lambda a, b: ops.product(lift(a), lift(b))}


def _array_ufunc(
    self: Tensor, ufunc: Any, method: str, *inputs: Any, **options: Any
) -> Tensor:
    """Answer `np.exp(tensor)` and `array + tensor` with the primitive of that name."""
    if "out" in options:
        raise DtypeError(
            f"numpy.{ufunc.__name__}: an array cannot take a tensor's values in place:"
            " write a = a + x, not a += x, or use x.numpy() to leave the graph"
        )
    known = _UFUNCS.get(ufunc.__name__)
    if known is None or method != "__call__" or options:
        raise DtypeError(
            f"numpy.{ufunc.__name__}: no such function for tensors (method {method!r},"
            f" options {sorted(options)}): use sillar's own, or x.numpy() to leave the"
            " graph"
        )
    return known(*inputs)


Tensor.__array_ufunc__ = _array_ufunc  # type: ignore[attr-defined]
