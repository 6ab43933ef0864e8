"""Trainable and saved arrays, and the one vector that holds a model's parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from sillar.backends import Array, Backend, backend_of, is_array, load
from sillar.core.dtypes import as_number
from sillar.core.ops.shape import astype, pack
from sillar.core.rng import Rng
from sillar.core.tape import effect, lift
from sillar.core.tensor import Tensor, wrap
from sillar.errors import ConfigError, ShapeError

Initializer = Callable[[Rng, tuple[int, ...], Any], Array]  # (rng, shape, dtype)


class Parameter(Tensor):
    """A trained tensor: it knows its shape and how its first values are drawn.

    It has no values until `model.init(rng)` lays out the vector of all parameters.
    """

    __slots__ = ("declared", "init")

    trained = True

    def __init__(self, shape: Sequence[int], init: Initializer) -> None:
        sizes = tuple(map(as_number, shape))
        if not all(type(n) is int and n >= 0 for n in sizes):
            raise ConfigError(
                f"{type(self).__name__}: shape must be integers >= 0, got {shape!r}"
            )
        self.declared = sizes
        self.init = init
        self.data = None
        self.grad = None
        self.node = None
        self.requires_grad = self.trained

    @property
    def shape(self) -> tuple[int, ...]:
        return self.declared

    @property
    def size(self) -> int:
        return prod(self.declared)

    @property
    def ndim(self) -> int:
        return len(self.declared)


class Buffer(Parameter):
    """A tensor that is saved with the model but not trained, as running statistics."""

    __slots__ = ()

    trained = False

    def assign(self, value: Any) -> None:
        """Write new values of the same shape."""
        value = lift(value)
        if value.shape != self.declared:
            raise ShapeError(
                f"Buffer.assign: expected shape {self.declared}, got {value.shape}"
            )
        effect(self._write, value)

    def _write(self, array: Array) -> None:
        self.data = backend_of(self.data).assign(self.data, array)

    _write.in_place = True  # type: ignore[attr-defined] # may be recorded on a device


class Parameters(Mapping[str, Parameter]):
    """A model's parameters by dotted path, in order, all views of one vector."""

    def __init__(self, named: Mapping[str, Parameter]) -> None:
        self._named = dict(named)
        self._vector: Array | None = None
        self._views: tuple[tuple[Parameter, Array], ...] = ()  # known to lie in it

    def __getitem__(self, path: str) -> Parameter:
        return self._named[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)

    def __repr__(self) -> str:
        rows = (f"{path} {p.shape}" for path, p in self.items())
        return f"Parameters({', '.join(rows)})"

    @property
    def size(self) -> int:
        """Return the number of all elements."""
        return sum(p.size for p in self.values())

    @property
    def slices(self) -> dict[str, slice]:
        """Return where each parameter lies in the vector."""
        end, places = 0, {}
        for path, p in self.items():
            places[path] = slice(end, end + p.size)
            end += p.size
        return places

    @property
    def vector(self) -> Array:
        """Return the vector; parameters that lie apart are copied into a new one."""
        for p, array in self._views:
            if p.data is not array:
                break
        else:
            if self._vector is not None:
                return self._vector
        if not self._is_view_of(self._vector):
            self._vector = self._common_vector()
        if self._vector is None:
            arrays = {path: valued(p.data) for path, p in self.items()}
            types = [p.dtype for p in self.values()] or [np.float32]
            self.lay_out(np.result_type(*types), lambda path, p: arrays[path])
        self._views = tuple((p, p.data) for p in self.values())
        return self._vector

    def pack(self, gradients: Mapping[str, Any] | Sequence[Any]) -> Array:
        """Return one gradient per parameter, by path or in order, as one vector."""
        if isinstance(gradients, Mapping):
            missing = [path for path in self if path not in gradients]
            if missing or len(gradients) != len(self):
                raise ShapeError(
                    f"pack: expected one gradient for each of {list(self)}, got"
                    f" {list(gradients)}"
                )
            gradients = [gradients[path] for path in self]
        if len(gradients) != len(self):
            raise ShapeError(
                f"pack: expected {len(self)} gradients, got {len(gradients)}"
            )
        for (path, p), g in zip(self.items(), gradients, strict=True):
            if tuple(g.shape) != p.shape:
                raise ShapeError(
                    f"pack: expected shape {p.shape} for the gradient of {path}, got"
                    f" {tuple(g.shape)}"
                )
        if not gradients:
            return self.vector[:0]
        dtype = wrap(self.vector).dtype
        tensors = (lift(g) for g in gradients)
        same = (t if t.dtype == dtype else astype(t, dtype=dtype) for t in tensors)
        return pack(*same).data

    def lay_out(
        self,
        dtype: Any,
        value: Callable[[str, Parameter], Array],
        *,
        backend: Backend | None = None,
    ) -> Array:
        """Make the vector, fill it with value(path, parameter), and set the views.

        It lies where the first parameter lay, unless a back end is given.
        """
        first = next((p.data for p in self.values() if p.data is not None), None)
        home = backend or (load("numpy") if first is None else backend_of(first))
        values = {path: value(path, p) for path, p in self.items()}
        self.look_at(vector := home.from_numpy(np.empty(self.size, dtype)))
        for path, p in self.items():
            home.assign(p.data, values[path])
        return vector

    def look_at(self, vector: Array) -> None:
        """Make every parameter a view at its place in the vector."""
        self._vector = vector
        for p, place in zip(self.values(), self.slices.values(), strict=True):
            p.data = vector[place].reshape(p.shape)

    def _is_view_of(self, vector: Array | None) -> bool:
        """Say whether every parameter is a view at its place in `vector`."""
        if vector is None or prod(vector.shape) != self.size:
            return False
        start = address(vector)
        for p, place in zip(self.values(), self.slices.values(), strict=True):
            expected = start + place.start * vector.itemsize
            if p.size and (address(p.data) != expected or p.data.dtype != vector.dtype):
                return False
        return True

    def _common_vector(self) -> Array | None:
        """Return the stretch of a larger vector that already holds the parameters."""
        first = next((p.data for p in self.values() if p.size), None)
        base: Any = getattr(first, "base", None)
        if first is None or not is_array(base):
            return None
        if base.ndim != 1 or base.dtype != first.dtype:
            return None
        begin = (address(first) - address(base)) // base.itemsize
        stretch = base[begin : begin + self.size]
        return stretch if self._is_view_of(stretch) else None


def address(array: Array) -> int:
    """Return where the first element of a parameter's array lies in memory."""
    return backend_of(array).address(array)


def valued(array: Array) -> Array:
    """Return a parameter's array, or say that it has none yet."""
    if array is None:
        raise ConfigError(
            "a parameter has no value yet: call model.init(sillar.Rng(seed)) first"
        )
    return array
