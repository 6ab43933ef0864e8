"""The tensor: an array that remembers how it was computed."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from sillar.backends import Array, backend_of, type_named
from sillar.core.dtypes import as_array, describe, is_floating
from sillar.core.state import leave_graph
from sillar.errors import DtypeError, ShapeError

if TYPE_CHECKING:
    from sillar.core.tape import Node


class Tensor:
    """An array, and the node of the graph that made it.

    `data` is the raw array, shared with whoever gave it. A tensor made with
    `requires_grad=True` is a variable: what is computed from it can be
    differentiated with `sillar.grad`. Arithmetic never changes a tensor in place.
    """

    __slots__ = ("__weakref__", "data", "grad", "node", "requires_grad")

    data: Array
    grad: Tensor | None
    node: Node | None
    requires_grad: bool

    def __init__(
        self, data: Any, *, dtype: Any = None, requires_grad: bool = False
    ) -> None:
        self.data = as_array(data.data if isinstance(data, Tensor) else data, dtype)
        self.grad = None
        self.node = None
        self.requires_grad = requires_grad
        if requires_grad and not is_floating(self.data):
            raise DtypeError(
                "Tensor: only floating-point tensors have gradients, got"
                f" {describe(self.data)}: convert it, as in x.astype('float32')"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the length of each axis."""
        return tuple(self.data.shape)

    @property
    def dtype(self) -> Any:
        """Return the data type of the elements, NumPy's on every back end."""
        found = self.data.dtype
        return found if isinstance(found, np.dtype) else type_named(found)

    @property
    def ndim(self) -> int:
        """Return the number of axes."""
        return int(self.data.ndim)

    @property
    def size(self) -> int:
        """Return the number of elements."""
        return prod(self.data.shape)

    def numpy(self) -> Any:
        """Return the values as a NumPy array, which no gradient follows."""
        leave_graph("numpy()")
        return backend_of(self.data).to_numpy(self.data)

    def item(self) -> Any:
        """Return the only element as a Python number."""
        if self.size != 1:
            raise ShapeError(
                f"item: expected one element, got shape {self.shape}:"
                " reduce it first, as in x.sum()"
            )
        leave_graph("item()")
        return self.data.item()

    def detach(self) -> Tensor:
        """Return a tensor of the same values that no gradient follows."""
        return wrap(self.data)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if self.requires_grad:
            raise DtypeError(
                "Tensor: this conversion to NumPy would lose its gradient: use sillar's"
                " own functions, or x.numpy() to leave the graph on purpose"
            )
        array = self.numpy()
        array = array if dtype is None else array.astype(dtype, copy=False)
        return array.copy() if copy else array

    def __len__(self) -> int:
        if self.ndim == 0:
            raise ShapeError("len: a tensor without axes has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __repr__(self) -> str:
        name = type(self).__name__
        if self.data is None:
            return f"{name}(no value yet)"
        note = ", requires_grad=True" if self.requires_grad else ""
        lines = repr(self.numpy()).replace("\n", "\n" + " " * (len(name) - 5))
        return f"{name}({lines[lines.find('(') + 1 : -1]}{note})"

    __hash__ = object.__hash__  # by identity; == compares elements

    if TYPE_CHECKING:  # bound in operators.py, once every primitive exists
        T: Tensor

        def backward(self) -> None: ...
        def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def max(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def min(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def reshape(self, *shape: Any) -> Tensor: ...
        def transpose(self, *axes: Any) -> Tensor: ...
        def astype(self, dtype: Any) -> Tensor: ...
        def argmax(self, axis: int | None = None) -> Tensor: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...


def wrap(data: Array) -> Tensor:
    """Return a tensor around a raw array, unchecked: the fast way in."""
    out = Tensor.__new__(Tensor)
    out.data = data
    out.grad = None
    out.node = None
    out.requires_grad = False
    return out
