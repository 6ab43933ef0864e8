"""Convolution and its two gradients: which kernel does the work.

Channels come last. The kernels are files beside this one, each with the same three
functions; every one writes into memory that it is given. What they need besides, each
thread keeps for the next call: 1 to 6 MiB, and more only if a single row of tiles over
the image's width, or the transformed kernels, are larger.

Their products are short. BLAS's own threads would gain little by them, and then look
for work for some time, in the way of others.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from sillar.backends.base import Array, Pair, Window
from sillar.backends.numpy import depthwise, im2col, threads, winograd
from sillar.errors import ConfigError


class _Settings:
    """Whether Winograd's kernels are out of the question."""

    exact = False


_settings = _Settings()


def set_exact_convolution(exact: bool) -> None:
    """Let convolutions add up plain products, or (False) be fast, which is the default.

    Fast 3 x 3 convolutions in float32 have relative errors of some 1e-6 instead of
    some 1e-7, and a NaN or infinity in the input reaches the outputs of its tile and
    not of its window alone. Other kernels and float64 are always plain.
    """
    if not isinstance(exact, bool):
        raise ConfigError(
            f"set_exact_convolution: expected True or False, got {exact!r:.40}"
        )
    _settings.exact = exact


def kernel_for(
    shape: tuple[int, ...], w: tuple[int, ...], window: Window, groups: int, dtype: Any
) -> ModuleType:
    """Return the file that convolves fastest for outputs of `shape`, weights w.

    The limits were measured with benchmarks/convolution.py.
    """
    k = w[3]
    if w[2] == 1 and groups > 1:
        return depthwise
    square = window.kernel == (3, 3) and window.stride == window.dilation == (1, 1)
    fast = square and dtype == np.float32 and not _settings.exact
    if fast and min(w[2], k // groups) >= 4 and winograd.tiles(shape) >= 32:
        return winograd
    return im2col


def conv(
    x: Array, w: Array, window: Window, groups: int = 1, out: Array = None
) -> Array:
    """Correlate x (n, h, w, c) with w (kh, kw, c / groups, o): (n, oh, ow, o)."""
    return conv_bias(x, w, None, window, groups, out)


def conv_bias(
    x: Array,
    w: Array,
    bias: Array,
    window: Window,
    groups: int = 1,
    out: Array = None,
) -> Array:
    """Return `conv` plus a bias (o,), or None, which is added while it is in cache."""
    shape = (len(x), *window.positions(x.shape[1:3]), w.shape[3])
    x, w, y = _ready(x, w, shape, out)
    kernel = kernel_for(shape, w.shape, window, groups, y.dtype)
    with threads.single_threaded_blas():
        kernel.conv(x, w, window, groups, y, bias)
    return _returned(y, out)


def conv_input(
    g: Array,
    w: Array,
    size: Pair,
    window: Window,
    groups: int = 1,
    out: Array = None,
) -> Array:
    """Return the gradient of `conv` for its input of `size`, from g (n, oh, ow, o)."""
    g, w, dx = _ready(g, w, (len(g), *size, w.shape[2] * groups), out)
    kernel = kernel_for(g.shape, w.shape, window, groups, dx.dtype)
    with threads.single_threaded_blas():
        kernel.conv_input(g, w, window, groups, dx)
    return _returned(dx, out)


def conv_weight(
    x: Array, g: Array, window: Window, groups: int = 1, out: Array = None
) -> Array:
    """Return the gradient of `conv` for its weight, from g (n, oh, ow, o)."""
    shape = (*window.kernel, x.shape[-1] // groups, g.shape[-1])
    x, g, dw = _ready(x, g, shape, out)
    kernel = kernel_for(g.shape, shape, window, groups, dw.dtype)
    with threads.single_threaded_blas():
        kernel.conv_weight(x, g, window, groups, dw)
    return _returned(dw, out)


def _ready(
    a: Array, b: Array, shape: tuple[int, ...], out: Array
) -> tuple[Any, Any, Any]:
    """Return both operands in one type and in order, and where the result may lie."""
    dtype = np.result_type(a, b)
    a, b = (np.ascontiguousarray(v, dtype) for v in (a, b))
    if out is None or not out.flags.c_contiguous or out.dtype != dtype:
        return a, b, np.empty(shape, dtype)
    return a, b, out


def _returned(result: Array, out: Array) -> Array:
    if out is None or out is result:
        return result
    out[...] = result
    return out
