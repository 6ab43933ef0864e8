"""JAX's arrays: XLA for CPU, GPU and TPU; a compiled step is one XLA program.

JAX's arrays never change, while a model's parameters are views of one vector that an
optimizer writes to. So an array here is a `Cell`, which holds one of JAX's arrays and
may be given another, or a view of a stretch of such a cell.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from sillar.backends.base import Array, Backend, Pair, Window
from sillar.backends.jax.cell import Cell, raw
from sillar.backends.jax.indices import check, taken
from sillar.backends.jax.namespace import NAMESPACE, alike, in_one_type, real
from sillar.backends.jax.program import Program, one_program, ruled
from sillar.errors import BackendError

update_config: Any = jax.config.update
update_config("jax_enable_x64", True)  # types are what one asks for, as elsewhere


class JaxBackend(Backend):
    """JAX's arrays in cells; new ones lie on `device`, where the last came to."""

    name = "jax"
    array_types = (Cell,)
    device: Any = None

    def __init__(self) -> None:
        super().__init__(SimpleNamespace(**NAMESPACE))
        self.device = jax.devices()[0]

    def devices(self) -> list[str]:
        found = {f"{d.platform}:{d.id}" for d in jax.devices()}
        return ["cpu", *sorted(name for name in found if not name.startswith("cpu"))]

    @property
    def on_host(self) -> bool:
        return False  # reading waits, and inside of a program cannot be

    @property
    def fast_half(self) -> bool:
        return self.device.platform in ("gpu", "tpu")

    def from_numpy(self, array: Any, device: str | None = None) -> Array:
        if device is not None:
            self.device = self._device(device)
        return Cell(jax.device_put(np.array(raw(array)), self.device))

    def _device(self, name: str) -> Any:
        platform, _, number = name.partition(":")
        try:
            return jax.devices(platform)[int(number or 0)]
        except (RuntimeError, ValueError, IndexError) as error:
            raise BackendError(
                f"jax: expected one of the devices {', '.join(self.devices())}, got"
                f" {name!r}: {str(error).splitlines()[0]}"
            ) from None

    def to_numpy(self, array: Array) -> Any:
        return np.asarray(raw(array))

    def assign(self, array: Array, value: Array) -> Array:
        array.write(raw(value))
        return array

    def address(self, array: Array) -> int:
        """Return a number that is the cell's, and where in it the array begins."""
        root = array if array.base is None else array.base
        return id(root) * 2**20 + int(array.start * array.itemsize)

    def asarray(self, value: Any, dtype: Any = None) -> Array:
        return Cell(jnp.asarray(raw(value), dtype))

    def zeros(self, shape: Any, dtype: Any = "float64") -> Array:
        return Cell(jnp.zeros(shape, dtype))

    def ones(self, shape: Any, dtype: Any = "float64") -> Array:
        return Cell(jnp.ones(shape, dtype))

    def arange(self, *limits: Any, dtype: Any = "int64") -> Array:
        return Cell(jnp.arange(*limits).astype(dtype))

    def random_uniform(self, key: Array, shape: tuple[int, ...], dtype: str) -> Array:
        return Cell(jax.random.uniform(_key(key), shape, dtype))

    def random_normal(self, key: Array, shape: tuple[int, ...], dtype: str) -> Array:
        return Cell(jax.random.normal(_key(key), shape, dtype))

    def getitem(self, x: Array, index: Any) -> Array:
        return Cell(taken(raw(x), raw(index)))

    def scatter_add(self, values: Array, index: Any, shape: tuple[int, ...]) -> Array:
        v, places = raw(values), raw(index)
        check(places, shape)
        return Cell(jnp.zeros(shape, v.dtype).at[places].add(v))

    def pad(self, x: Array, widths: tuple[Pair, ...], value: float) -> Array:
        return Cell(jnp.pad(raw(x), widths, constant_values=value))

    def einsum(self, subscripts: str, *operands: Array) -> Array:
        return Cell(jnp.einsum(subscripts, *in_one_type(map(raw, operands))))

    def erf(self, x: Array) -> Array:
        return Cell(lax.erf(real(raw(x))))

    def conv(self, x: Array, w: Array, window: Window, groups: int) -> Array:
        return Cell(_conv(*alike(raw(x), raw(w)), window, groups))

    def conv_input(
        self, g: Array, w: Array, size: Pair, window: Window, groups: int
    ) -> Array:
        g, w = alike(raw(g), raw(w))
        like = _like((len(g), *size, w.shape[2] * groups), g.dtype)
        return Cell(_transposed(lambda x: _conv(x, w, window, groups), like, g))

    def conv_weight(self, x: Array, g: Array, window: Window, groups: int) -> Array:
        x, g = alike(raw(x), raw(g))
        shape = *window.kernel, x.shape[3] // groups, g.shape[3]
        like = _like(shape, g.dtype)
        return Cell(_transposed(lambda w: _conv(x, w, window, groups), like, g))

    def max_pool(self, x: Array, window: Window) -> Array:
        return Cell(jnp.max(_windows(raw(x), window), axis=-1))

    def max_pool_at(self, v: Array, x: Array, window: Window) -> Array:
        places = _first_largest(raw(x), window)
        found = jnp.take_along_axis(_windows(raw(v), window), places, axis=-1)
        return Cell(found[..., 0])

    def max_unpool(self, g: Array, x: Array, window: Window) -> Array:
        x, g = raw(x), raw(g)
        places = _first_largest(x, window)

        def picked(v: Any) -> Any:
            return jnp.take_along_axis(_windows(v, window), places, axis=-1)[..., 0]

        return Cell(_transposed(picked, _like(x.shape, g.dtype), g))

    def sum_pool(self, x: Array, window: Window) -> Array:
        return Cell(jnp.sum(_windows(raw(x), window), axis=-1))

    def sum_unpool(self, g: Array, size: Pair, window: Window) -> Array:
        g = raw(g)
        like = _like((len(g), *size, g.shape[3]), g.dtype)
        return Cell(_transposed(lambda x: _windows(x, window).sum(axis=-1), like, g))

    def rule(self, update: Callable[..., Any]) -> Callable[..., Any]:
        """Return an optimizer's rule as one XLA program for all its steps."""
        program = jax.jit(partial(ruled, update))

        def compiled(p: Any, g: Any, s: dict[str, Any], lr: float, t: int) -> Any:
            state = {name: raw(a) for name, a in s.items()}
            moved, new = program(raw(p), raw(g), state, lr, t)
            return Cell(moved), {name: Cell(a) for name, a in new.items()}

        return compiled

    def compile(self, trace: Any, *, reuse: bool) -> Callable[..., tuple[Array, ...]]:
        """Return the step as one XLA program, what it writes to going in and out."""
        if not one_program(trace):
            return super().compile(trace, reuse=reuse)
        return Program(self, trace)


def _like(shape: tuple[int, ...], dtype: Any) -> Any:
    struct: Any = jax.ShapeDtypeStruct
    return struct(shape, dtype)


def _key(key: Array) -> Any:
    """Return JAX's key of two words; equal words give equal draws."""
    low, high = jnp.asarray(raw(key), "uint64")
    first = jax.random.key(low.astype("uint32"), impl="threefry2x32")
    for word in (low >> 32, high, high >> 32):
        first = jax.random.fold_in(first, word.astype("uint32"))
    return first


def _conv(x: Any, w: Any, window: Window, groups: int) -> Any:
    return lax.conv_general_dilated(
        *(x, w, window.stride, window.padding),
        rhs_dilation=window.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _transposed(function: Callable[..., Any], like: Any, g: Any) -> Any:
    """Return the gradient of a linear function of an array like this, at g."""
    return jax.linear_transpose(function, like)(g)[0]


def _windows(x: Any, window: Window) -> Any:
    """Return the cells of each window, (n, oh, ow, c, cells)."""
    (kh, kw), (sh, sw) = window.kernel, window.stride
    h, w = window.positions(x.shape[1:3])
    parts = [
        x[:, i : i + (h - 1) * sh + 1 : sh, j : j + (w - 1) * sw + 1 : sw]
        for i in range(kh)
        for j in range(kw)
    ]
    return jnp.stack(parts, axis=-1)


def _first_largest(x: Any, window: Window) -> Any:
    return jnp.argmax(_windows(x, window), axis=-1, keepdims=True)


BACKEND = JaxBackend()
