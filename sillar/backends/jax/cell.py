"""An array that can be written to, around JAX's, which cannot."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp


class Cell:
    """An array of JAX that can be replaced; with `base` a stretch of another's.

    `shared` says that others may hold the array, too: it was given or handed out.
    """

    __slots__ = ("_value", "base", "shape", "shared", "start")
    __array_ufunc__ = None  # NumPy leaves operators to it

    def __init__(
        self, value: Any, base: Any = None, start: int = 0, shape: Any = None
    ) -> None:
        self._value, self.base, self.start = value, base, start
        self.shared = True
        self.shape: tuple[int, ...] = value.shape if base is None else shape

    @property
    def value(self) -> Any:
        """Return JAX's array."""
        if self.base is None:
            self.shared = True
            return self._value
        flat = lax.slice(self.base.value, (self.start,), (self.start + self.size,))
        return flat.reshape(self.shape)

    def write(self, value: Any) -> None:
        """Hold this from now on, in this cell's type."""
        value = jnp.broadcast_to(jnp.asarray(value, self.dtype), self.shape)
        if self.base is None:
            self._value, self.shared = value, True
        else:
            whole = self.base.value
            new = lax.dynamic_update_slice(whole, value.reshape(-1), (self.start,))
            self.base.write(new)

    def give(self) -> Any:
        """Return an array for a program to write over: this, or a copy if shared."""
        if not self.shared:
            return self._value
        (device,) = self._value.devices()
        return jax.device_put(jnp.copy(self._value), device)  # as programs return it

    def take(self, value: Any) -> None:
        """Hold what a program made for this cell alone."""
        self._value, self.shared = value, False

    @property
    def dtype(self) -> Any:
        held = self._value if self.base is None else self.base.value
        return np.dtype(held.dtype)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        return int(self.dtype.itemsize)

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    @property
    def T(self) -> Any:  # noqa: N802 - NumPy's name
        return Cell(self.value.T)

    def __len__(self) -> int:
        return self.shape[0]

    def __float__(self) -> float:
        return float(self.value)

    def __int__(self) -> int:
        return int(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def item(self) -> Any:
        """Return the one element as Python's number."""
        return self.value.item()

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.asarray(self.value, dtype)

    def __getitem__(self, index: Any) -> Any:
        whole = isinstance(index, slice) and index.step in (None, 1)
        if whole and self.ndim == 1:
            start, stop, _ = index.indices(self.shape[0])
            root = self if self.base is None else self.base
            return Cell(None, root, self.start + start, (max(0, stop - start),))
        return Cell(self.value[raw(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, slice) and index == slice(None):
            self.write(raw(value))
        else:
            self.write(self.value.at[raw(index)].set(raw(value)))

    def reshape(self, *shape: Any) -> Any:
        """Return a view of a view, or of a vector, in another shape."""
        sizes = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        if self.ndim != 1 and self.base is None:
            return Cell(self.value.reshape(sizes))
        known = math.prod(n for n in sizes if n >= 0)
        full = tuple(n if n >= 0 else self.size // max(1, known) for n in sizes)
        root = self if self.base is None else self.base
        return Cell(None, root, self.start, full)

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        """Return the values in another type."""
        return Cell(self.value.astype(dtype))

    def __repr__(self) -> str:
        return f"Cell({self.value!r})"


def raw(x: Any) -> Any:
    """Return what is in a cell, also within tuples and lists."""
    if type(x) is Cell:
        return x.value
    if type(x) in (tuple, list):
        return type(x)(map(raw, x))
    return x


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of JAX's arrays as one of cells."""

    def of_cells(*args: Any, **kwargs: Any) -> Any:
        found = function(*map(raw, args), **{k: raw(v) for k, v in kwargs.items()})
        return [Cell(x) for x in found] if isinstance(found, list) else Cell(found)

    return of_cells
