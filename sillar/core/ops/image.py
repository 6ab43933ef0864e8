"""Convolution and pooling: two families, each closed under differentiation.

`conv`, its gradient for the input and its gradient for the weight are one trilinear
family: the rules of each are the other two. The same holds for the pairs of pooling.
"""

from __future__ import annotations

from typing import Any

from sillar.backends import Array, Pair, Window
from sillar.core.tape import primitive
from sillar.errors import ShapeError


@primitive
def conv(xp: Any, x: Array, w: Array, *, window: Window, groups: int = 1) -> Array:
    """Correlate images x (n, h, w, c) with w (kh, kw, c / groups, o): (n, oh, ow, o).

    Input and output channels are cut into `groups` that do not see each other.
    """
    _check_images("conv", x, window)
    if w.ndim != 4 or x.shape[3] != w.shape[2] * groups or w.shape[3] % groups:
        raise ShapeError(
            f"conv: expected images (n, h, w, {w.shape[2] * groups}) for kernels"
            f" {tuple(w.shape)} in {groups} groups, got {tuple(x.shape)}"
        )
    return xp.conv(x, w, window, groups)


@primitive
def conv_input(
    xp: Any, g: Array, w: Array, *, size: Pair, window: Window, groups: int = 1
) -> Array:
    """Return the gradient of `conv` for its input, images of `size` (h, w)."""
    return xp.conv_input(g, w, size, window, groups)


@primitive
def conv_weight(
    xp: Any, x: Array, g: Array, *, window: Window, groups: int = 1
) -> Array:
    """Return the gradient of `conv` for its weight."""
    return xp.conv_weight(x, g, window, groups)


conv.defvjp(
    lambda g, y, x, w, **s: conv_input(g, w, size=x.shape[1:3], **s),
    lambda g, y, x, w, **s: conv_weight(x, g, **s),
)
conv_input.defvjp(
    lambda u, y, g, w, *, size, **s: conv(u, w, **s),
    lambda u, y, g, w, *, size, **s: conv_weight(u, g, **s),
)
conv_weight.defvjp(
    lambda u, y, x, g, **s: conv_input(g, u, size=x.shape[1:3], **s),
    lambda u, y, x, g, **s: conv(x, u, **s),
)


@primitive
def max_pool(xp: Any, x: Array, *, window: Window) -> Array:
    """Return the largest value of each window; the first of equals has the gradient."""
    _check_images("max_pool", x, window)
    return xp.max_pool(x, window)


@primitive
def max_pool_at(xp: Any, v: Array, x: Array, *, window: Window) -> Array:
    """Return `v` where `x` has the first largest value of each window."""
    return xp.max_pool_at(v, x, window)


@primitive
def max_unpool(xp: Any, g: Array, x: Array, *, window: Window) -> Array:
    """Add `g` where `x` has the first largest value of each window."""
    return xp.max_unpool(g, x, window)


max_pool.defvjp(lambda g, y, x, *, window: max_unpool(g, x, window=window))
max_unpool.defvjp(lambda u, y, g, x, *, window: max_pool_at(u, x, window=window))
max_pool_at.defvjp(lambda g, y, v, x, *, window: max_unpool(g, x, window=window))


@primitive
def sum_pool(xp: Any, x: Array, *, window: Window) -> Array:
    """Return the sum of each window."""
    _check_images("sum_pool", x, window)
    return xp.sum_pool(x, window)


@primitive
def sum_unpool(xp: Any, g: Array, *, size: Pair, window: Window) -> Array:
    """Add `g` to every cell of its window, in images of `size` (h, w)."""
    return xp.sum_unpool(g, size, window)


sum_pool.defvjp(
    lambda g, y, x, *, window: sum_unpool(g, size=x.shape[1:3], window=window)
)
sum_unpool.defvjp(lambda u, y, g, *, size, window: sum_pool(u, window=window))


def _check_images(name: str, x: Array, window: Window) -> None:
    if x.ndim != 4:
        raise ShapeError(
            f"{name}: expected images (n, height, width, channels), got shape"
            f" {tuple(x.shape)}: add the missing axes, as in x[..., None]"
        )
    if min(window.positions(x.shape[1:3])) < 1:
        span = (window.span(0), window.span(1))
        raise ShapeError(
            f"{name}: a window over {span} cells with padding {window.padding} does not"
            f" fit into images of {tuple(x.shape[1:3])}: use a smaller window, or pad"
        )
