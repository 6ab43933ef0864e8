"""The CPU back end: NumPy's namespace, convolution, pooling and random draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sillar.backends.base import Array, Backend, Pair
from sillar.backends.numpy import (
    attention,
    convolution,
    half,
    memory,
    normalization,
    parts,
    plan,
    pooling,
    recurrent,
    reductions,
    rewrite,
    scatter,
    select,
    sharing,
    softmax,
    special,
    threads,
)
from sillar.backends.numpy.half import narrow, widen
from sillar.errors import BackendError

LARGE = 1 << 20  # bytes of a vector that several processes go over sooner than one


class NumpyBackend(Backend):
    """NumPy arrays on the host."""

    name = "numpy"
    array_types = (np.ndarray, np.generic)

    conv = staticmethod(convolution.conv)
    conv_input = staticmethod(convolution.conv_input)
    conv_weight = staticmethod(convolution.conv_weight)
    max_pool = staticmethod(pooling.max_pool)
    max_pool_at = staticmethod(pooling.max_pool_at)
    max_unpool = staticmethod(pooling.max_unpool)
    max_places = staticmethod(pooling.max_places)
    max_unplace = staticmethod(pooling.max_unplace)
    sum_pool = staticmethod(pooling.sum_pool)
    sum_unpool = staticmethod(pooling.sum_unpool)
    cross_entropy = staticmethod(softmax.cross_entropy)
    cross_entropy_input = staticmethod(softmax.cross_entropy_input)
    channel_squares = staticmethod(normalization.channel_squares)
    batch_norm = staticmethod(normalization.batch_norm)
    batch_norm_input = staticmethod(normalization.batch_norm_input)
    batch_norm_weight = staticmethod(normalization.batch_norm_weight)
    attention_slope = staticmethod(attention.attention_slope)
    attention = staticmethod(attention.attention)  # last: it takes the module's name
    recurrent_keep = recurrent_keep_half = staticmethod(recurrent.keep)
    recurrent_output = staticmethod(recurrent.output)
    recurrent_slopes = staticmethod(recurrent.slopes)
    recurrent_input = staticmethod(recurrent.input_gradient)
    recurrent_weight = staticmethod(recurrent.weight_gradient)
    erf = staticmethod(special.erf)
    normal_cdf = staticmethod(special.normal_cdf)
    normal_pdf = staticmethod(special.normal_pdf)
    scatter_add = staticmethod(scatter.scatter_add)
    where = staticmethod(select.where)
    sum = staticmethod(reductions.sum)
    simplified = staticmethod(rewrite.simplified)
    half = staticmethod(half.half)
    narrow = staticmethod(narrow)
    widen = staticmethod(widen)

    def __init__(self) -> None:
        super().__init__(np)
        memory.keep_pages()

    def to_numpy(self, array: Array) -> Any:
        return np.asarray(array)

    def from_numpy(self, array: Any, device: str | None = None) -> Array:
        if device not in (None, "cpu"):
            raise BackendError(f"numpy: expected the device 'cpu', got {device!r}")
        return array

    def lasting(self, array: Array) -> Array:
        many = threads.processes() and threads.threads() > 1
        part = array.base is not None and array.base.nbytes > array.nbytes
        if not many or part or array.nbytes < LARGE:
            return array
        return sharing.lasting(array)

    def assign(self, array: Array, value: Array) -> Array:
        array[...] = value
        return array

    def random_uniform(self, key: Array, shape: tuple[int, ...], dtype: str) -> Array:
        return _generator(key).random(shape, dtype=np.dtype(dtype))

    def random_normal(self, key: Array, shape: tuple[int, ...], dtype: str) -> Array:
        return _generator(key).standard_normal(shape, dtype=np.dtype(dtype))

    def pad(self, x: Array, widths: tuple[Pair, ...], value: float) -> Array:
        return np.pad(x, widths, constant_values=value)

    def compile(self, trace: Any, *, reuse: bool) -> Callable[..., tuple[Array, ...]]:
        calls = self.simplified(trace, trace.live_calls())
        count = threads.threads()
        if count > 1:
            run = parts.compile_parts(trace, calls, self, count=count, reuse=reuse)
            if run is not None:
                return run
        return plan.compile_trace(trace, calls, self, reuse=reuse)

    def einsum(self, subscripts: str, *operands: Array) -> Array:
        return np.einsum(subscripts, *operands, optimize=True)


plan.INTO.update(
    batch_norm=normalization.batch_norm,
    batch_norm_input=normalization.batch_norm_input,
    conv=convolution.conv,
    conv_bias=convolution.conv_bias,
    conv_input=convolution.conv_input,
    conv_weight=convolution.conv_weight,
    max_pool=pooling.max_pool,
    max_unpool=pooling.max_unpool,
    max_places=pooling.max_places,
    max_unplace=pooling.max_unplace,
    sum_pool=pooling.sum_pool,
    sum_unpool=pooling.sum_unpool,
)


def _generator(key: Array) -> Any:
    from numpy.random import Generator, Philox

    return Generator(Philox(key=key))
