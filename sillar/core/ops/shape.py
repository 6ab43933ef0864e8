"""Primitives that move, repeat, cast and pick elements without arithmetic on them."""

from __future__ import annotations

from typing import Any

from sillar.backends import Array, Pair
from sillar.core.tape import primitive
from sillar.core.tensor import Tensor
from sillar.errors import ShapeError

ARRAY = "array"  # stands in an index template for the next index array


@primitive
def reshape(xp: Any, x: Array, *, shape: tuple[int, ...]) -> Array:
    """Return x with another shape of the same size; -1 once means the rest."""
    return xp.reshape(x, shape)


reshape.defvjp(lambda g, y, x, *, shape: reshape(g, shape=x.shape))


@primitive
def transpose(xp: Any, x: Array, *, axes: tuple[int, ...]) -> Array:
    """Return x with its axes in the order `axes`."""
    return xp.permute_dims(x, axes)


def _inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    order = [axis % len(axes) for axis in axes]
    return tuple(order.index(i) for i in range(len(order)))


transpose.defvjp(lambda g, y, x, *, axes: transpose(g, axes=_inverse(axes)))


@primitive
def broadcast_to(xp: Any, x: Array, *, shape: tuple[int, ...]) -> Array:
    """Return x repeated along axes of size 1 and new leading axes, without copying."""
    return xp.broadcast_to(x, shape)


broadcast_to.defvjp(lambda g, y, x, *, shape: g)  # the engine sums it back


@primitive
def astype(xp: Any, x: Array, *, dtype: Any) -> Array:
    """Return x as another data type."""
    return xp.astype(x, dtype, copy=False)


astype.defvjp(lambda g, y, x, *, dtype: g)  # the engine casts it back


@primitive
def concat(xp: Any, *xs: Array, axis: int = 0) -> Array:
    """Return the arrays joined along an axis they already have."""
    return xp.concat(xs, axis=axis)


def _concat_part(i: int, g: Tensor, y: Tensor, *xs: Any, axis: int = 0) -> Tensor:
    first = sum(x.shape[axis] for x in xs[:i])
    piece = slice(first, first + xs[i].shape[axis])
    return g[(slice(None),) * (axis % y.ndim) + (piece,)]


concat.defvjp_each(_concat_part)


@primitive
def pack(xp: Any, *xs: Array) -> Array:
    """Return the elements of all arrays, in order, as one vector."""
    return xp.concat([xp.reshape(x, (-1,)) for x in xs])


def _packed_part(i: int, g: Tensor, y: Tensor, *xs: Any) -> Tensor:
    first = sum(x.size for x in xs[:i])
    return reshape(g[first : first + xs[i].size], shape=xs[i].shape)


pack.defvjp_each(_packed_part)


@primitive
def pad(xp: Any, x: Array, *, widths: tuple[Pair, ...], value: float = 0.0) -> Array:
    """Return x with (before, after) cells of `value` along each axis."""
    return xp.pad(x, widths, value)


def _unpad(
    g: Tensor, y: Tensor, x: Tensor, *, widths: Any, value: float = 0.0
) -> Tensor:
    return g[tuple(slice(a, a + n) for (a, _), n in zip(widths, x.shape, strict=True))]


pad.defvjp(_unpad)


@primitive
def getitem(xp: Any, x: Array, *arrays: Array, template: tuple[Any, ...]) -> Array:
    """Return x[template], with `arrays` where the template says ARRAY."""
    return xp.getitem(x, _filled(template, arrays))


@primitive
def scatter_add(
    xp: Any,
    values: Array,
    *arrays: Array,
    template: tuple[Any, ...],
    shape: tuple[int, ...],
) -> Array:
    """Return zeros of `shape` with `values` added at the index."""
    return xp.scatter_add(values, _filled(template, arrays), shape)


getitem.defvjp(
    lambda g, y, x, *arrays, template: scatter_add(
        g, *arrays, template=template, shape=x.shape
    )
)
scatter_add.defvjp(
    lambda g, y, values, *arrays, template, shape: getitem(
        g, *arrays, template=template
    )
)


def _filled(template: tuple[Any, ...], arrays: tuple[Array, ...]) -> tuple[Any, ...]:
    """Return the index: the template with its arrays in their places."""
    rest = iter(arrays)
    return tuple(next(rest) if part is ARRAY else part for part in template)


def index(x: Tensor, key: Any) -> Tensor:
    """Return x[key]: integers, slices, None, Ellipsis, index arrays and masks."""
    parts = key if isinstance(key, tuple) else (key,)
    template: list[Any] = []
    arrays: list[Any] = []
    for part in parts:
        if part is None or part is Ellipsis or isinstance(part, int | slice):
            template.append(part)
        elif isinstance(part, str | float):
            raise ShapeError(
                f"index: expected integers, slices or index arrays, got {part!r}"
            )
        else:
            template.append(ARRAY)
            arrays.append(part)
    return getitem(x, *arrays, template=tuple(template))
