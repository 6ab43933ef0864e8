"""PyTorch's tensors as plain arrays: eager on CPU and CUDA, replayed as CUDA graphs.

Its own gradients stay unused, types mix as NumPy's do, and images stay (n, h, w, c):
PyTorch's channels-last memory format, seen from the other side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial, reduce
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from sillar.backends.base import Array, Backend, Pair, Window
from sillar.backends.indices import Index, forwards
from sillar.backends.philox import fraction, philox
from sillar.backends.replay import Recorded
from sillar.errors import BackendError, DtypeError

_aten = torch.ops.aten
_NAMES = "float16 float32 float64 bfloat16 bool uint8 uint16 uint32 uint64 int8 int16"
_TYPES = {name: getattr(torch, name) for name in (*_NAMES.split(), "int32", "int64")}
_FLOATING = frozenset(t for t in _TYPES.values() if t.is_floating_point)


def _type(dtype: Any) -> torch.dtype:
    """Return PyTorch's data type, however it was written."""
    if isinstance(dtype, torch.dtype):
        return dtype
    found: torch.dtype | None = _TYPES.get(getattr(dtype, "__name__", str(dtype)))
    if found is None:
        raise DtypeError(f"torch: expected one of {', '.join(_TYPES)}, got {dtype!r}")
    return found


@cache
def _common(*types: torch.dtype) -> torch.dtype:
    """Return the type that NumPy gives to a result of these types."""
    if torch.bfloat16 in types:
        return reduce(torch.promote_types, types)
    return _type(np.result_type(*(str(t).removeprefix("torch.") for t in types)))


def _in_one_type(arrays: Any) -> list[Array]:
    common = _common(*{x.dtype for x in arrays})
    return [x.to(common) for x in arrays]


def _alike(a: Any, b: Any) -> tuple[Array, Array]:
    """Return two operands in their common type; Python numbers take the other's."""
    if not isinstance(a, torch.Tensor):
        b = _weak(b, a)
        return torch.scalar_tensor(a, dtype=b.dtype), b
    if not isinstance(b, torch.Tensor):
        a = _weak(a, b)
        return a, torch.scalar_tensor(b, dtype=a.dtype)
    if a.dtype is b.dtype:
        return a, b
    common = _common(a.dtype, b.dtype)
    return a.to(common), b.to(common)


def _weak(x: Array, number: Any) -> Array:
    """Return `x`, of a type that can hold what it gives with a Python number."""
    if type(number) is float and x.dtype not in _FLOATING:
        return x.to(torch.float64)
    return x.to(torch.int64) if type(number) is int and x.dtype is torch.bool else x


def _real(x: Array) -> Array:
    """Return whole numbers as float64, as NumPy does before it divides."""
    return x if x.dtype in _FLOATING else x.to(torch.float64)


def _binary(function: Callable[..., Array]) -> Callable[..., Array]:
    return lambda a, b: function(*_alike(a, b))


def _unary(function: Callable[..., Array]) -> Callable[..., Array]:
    return lambda x: function(_real(x))


def _maximum(a: Any, b: Any) -> Array:
    if type(b) in (int, float) and a.dtype in _FLOATING:
        return torch.clamp(a, min=b)  # in one pass: it is ReLU
    return torch.maximum(*_alike(a, b))


def _where(condition: Array, a: Any, b: Any) -> Array:
    condition = condition.to(torch.bool)
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        return torch.where(condition, *_alike(a, b))
    common = torch.float64 if float in (type(a), type(b)) else torch.int64
    return torch.where(condition, a, b).to(common)


def _sum(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    if axis == ():
        return x if x.dtype in _FLOATING else x.to(torch.int64)
    return torch.sum(x, dim=axis, keepdim=keepdims)


def _extreme(function: Callable[..., Array]) -> Callable[..., Array]:
    def extreme(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
        axes = tuple(range(x.ndim)) if axis is None else axis
        return x if axes == () else function(x, dim=axes, keepdim=keepdims)

    return extreme


_BINARY = "add subtract multiply pow matmul minimum greater greater_equal less"
_UNARY = "exp expm1 log log1p sqrt sin cos tanh"
# The Array API's functions, where PyTorch's have another name or do something else.
_NAMESPACE: dict[str, Any] = {
    **_TYPES,
    **{name: _binary(getattr(torch, name)) for name in _BINARY.split()},
    **{name: _unary(getattr(torch, name)) for name in _UNARY.split()},
    "copy": torch.clone,
    "equal": _binary(torch.eq),
    "not_equal": _binary(torch.ne),
    "less_equal": _binary(torch.le),
    "divide": _binary(lambda a, b: torch.div(_real(a), _real(b))),
    "sign": lambda x: torch.where(x == x, torch.sign(x), x),  # of nan it is nan
    "maximum": _maximum,
    "where": _where,
    "sum": _sum,
    "max": _extreme(torch.amax),
    "min": _extreme(torch.amin),
    "argmax": lambda x, axis=None: torch.argmax(x + 0, dim=axis),
    "cumulative_sum": lambda x, axis=0: torch.cumsum(x, dim=axis),
    "reshape": lambda x, shape: x.reshape(shape),
    "permute_dims": torch.permute,
    "matrix_transpose": lambda x: x.mT,
    "expand_dims": lambda x, axis: x.unsqueeze(axis),
    "concat": lambda xs, axis=0: torch.cat(_in_one_type(xs), dim=axis),
    "astype": lambda x, dtype, copy=True: x.to(_type(dtype), copy=copy),
    "normal_cdf": _unary(torch.special.ndtr),
}


class TorchBackend(Backend):
    """PyTorch's tensors; a step makes new ones on `device`, where the last came to."""

    name = "torch"
    array_types = (torch.Tensor,)
    device = torch.device("cpu")
    erf = staticmethod(_unary(torch.erf))

    def __init__(self) -> None:
        super().__init__(torch)
        vars(self).update(_NAMESPACE)

    def devices(self) -> list[str]:
        found = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        return ["cpu", *found, *(["mps"] if torch.backends.mps.is_available() else [])]

    @property
    def on_host(self) -> bool:
        return self.device.type == "cpu"

    @property
    def fast_half(self) -> bool:
        return self.device.type == "cuda"

    def from_numpy(self, array: Any, device: str | None = None) -> Array:
        if device is not None:
            self.device = self._device(device)
        if isinstance(array, torch.Tensor):
            return array.to(self.device)
        array = np.array(array)
        if array.dtype.name == "bfloat16":
            array = torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
        return torch.as_tensor(array, device=self.device)

    def _device(self, name: str) -> torch.device:
        try:
            return torch.empty(0, device=name).device
        except (RuntimeError, AssertionError) as error:
            raise BackendError(
                f"torch: expected one of the devices {', '.join(self.devices())}, got"
                f" {name!r}: {str(error).splitlines()[0]}"
            ) from None

    def to_numpy(self, array: Array) -> Any:
        host = array.detach().cpu()
        return _from_bfloat16(host) if host.dtype is torch.bfloat16 else host.numpy()

    def assign(self, array: Array, value: Array) -> Array:
        return array.copy_(torch.as_tensor(value))

    def address(self, array: Array) -> int:
        return int(array.data_ptr())

    def asarray(self, value: Any, dtype: Any = None) -> Array:
        array = self.from_numpy(value)
        return array if dtype is None else array.to(_type(dtype))

    def zeros(self, shape: Any, dtype: Any = "float64") -> Array:
        return torch.zeros(shape, dtype=_type(dtype), device=self.device)

    def ones(self, shape: Any, dtype: Any = "float64") -> Array:
        return torch.ones(shape, dtype=_type(dtype), device=self.device)

    def arange(self, *limits: Any, dtype: Any = "int64") -> Array:
        return torch.arange(*limits, dtype=_type(dtype), device=self.device)

    def random_uniform(self, key: Array, shape: tuple[int, ...], dtype: str) -> Array:
        if self.on_host:
            return _host_draws("random", key, shape, dtype)
        return self._fractions(key, shape)[0].to(_type(dtype))

    def random_normal(self, key: Array, shape: tuple[int, ...], dtype: str) -> Array:
        if self.on_host:
            return _host_draws("standard_normal", key, shape, dtype)
        radius, angle = self._fractions(key, shape)  # Box and Muller (1958)
        normal = torch.sqrt(-2 * torch.log1p(-radius)) * torch.cos(2 * math.pi * angle)
        return normal.to(_type(dtype))

    def _fractions(self, key: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
        """Return two arrays of float64 from [0, 1), without waiting for the device."""
        low, high = torch.as_tensor(key).to(self.device).view(torch.int64)
        a, b, c, d = philox(low, high, self.arange(math.prod(shape)).reshape(shape))
        return fraction(a, b).to(torch.float64), fraction(c, d).to(torch.float64)

    def pad(self, x: Array, widths: tuple[Pair, ...], value: float) -> Array:
        flat = [n for pair in reversed(widths) for n in pair]
        return functional.pad(x, flat, value=value)

    def einsum(self, subscripts: str, *operands: Array) -> Array:
        return torch.einsum(subscripts, *_in_one_type(operands))

    def getitem(self, x: Array, index: Index) -> Array:
        index, axes = forwards(index, x.shape)
        return (x.flip(axes) if axes else x)[_indices(index, x.device)]

    def scatter_add(self, values: Array, index: Any, shape: tuple[int, ...]) -> Array:
        out = values.new_zeros(shape)
        index = _indices(index, values.device)
        if len(index) == 1 and getattr(index[0], "dtype", None) is torch.int64:
            rows = torch.remainder(index[0].reshape(-1), max(1, shape[0]))
            return out.index_add_(0, rows, values.reshape(-1, *shape[1:]))
        places = torch.arange(out.numel(), device=values.device).reshape(shape)
        places = self.getitem(places, index)
        values = values.broadcast_to(places.shape).reshape(-1)
        return out.view(-1).index_add_(0, places.reshape(-1), values).view(shape)

    def conv(self, x: Array, w: Array, window: Window, groups: int) -> Array:
        x, w = _alike(x, w)
        x, sides = _padded(x, window)
        rest = (window.stride, sides, window.dilation, groups)
        return _last(functional.conv2d(_first(x), _kernels(w), None, *rest))

    def conv_input(
        self, g: Array, w: Array, size: Pair, window: Window, groups: int
    ) -> Array:
        g, w = _alike(g, w)
        x = g.new_empty(1).expand(len(g), *size, w.shape[2] * groups)
        x, sides = _padded(x, window)
        dx = _last(_slopes(g, _first(x), _kernels(w), window, sides, groups, 0))
        top, left = (a - b for (a, _), b in zip(window.padding, sides, strict=True))
        return dx[:, top : top + size[0], left : left + size[1], :]

    def conv_weight(self, x: Array, g: Array, window: Window, groups: int) -> Array:
        x, g = _alike(x, g)
        w = g.new_empty(1).expand(g.shape[3], x.shape[3] // groups, *window.kernel)
        x, sides = _padded(x, window)
        dw = _slopes(g, _first(x), w, window, sides, groups, 1)
        return dw.permute(2, 3, 1, 0)

    def max_pool(self, x: Array, window: Window) -> Array:
        return _last(functional.max_pool2d(_first(x), window.kernel, window.stride))

    def max_pool_at(self, v: Array, x: Array, window: Window) -> Array:
        places = _largest(x, window)
        found = _first(v).flatten(2).gather(2, places.flatten(2))
        return _last(found.reshape(places.shape))

    def max_unpool(self, g: Array, x: Array, window: Window) -> Array:
        n, h, w, c = x.shape
        places = _largest(x, window).flatten(2)
        dx = g.new_zeros((n, c, h * w)).scatter_add_(2, places, _first(g).flatten(2))
        return _last(dx.reshape(n, c, h, w))

    def sum_pool(self, x: Array, window: Window) -> Array:
        size = window.kernel, window.stride
        return _last(functional.avg_pool2d(_first(x), *size, divisor_override=1))

    def sum_unpool(self, g: Array, size: Pair, window: Window) -> Array:
        x = g.new_zeros((len(g), g.shape[3], *size))
        if not g.numel():
            return _last(x)
        rest = (window.kernel, window.stride, (0, 0), False, True, 1)
        return _last(_aten.avg_pool2d_backward(_first(g), x, *rest))

    def attention(self, qkv: Array, allowed: Any, heads: int, causal: bool) -> Array:
        if allowed is not True:
            return super().attention(qkv, allowed, heads, causal)
        batch, n, width = qkv.shape
        split = qkv.reshape(batch, n, 3, heads, width // (3 * heads))
        q, k, v = split.permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return y.transpose(1, 2).reshape(batch, n, width // 3)

    def compile(self, trace: Any, *, reuse: bool) -> Callable[..., tuple[Array, ...]]:
        if self.device.type != "cuda":
            return super().compile(trace, reuse=reuse)
        products = torch.backends.cuda.matmul  # of halves: sums stay in float32
        products.allow_bf16_reduced_precision_reduction = False
        products.allow_fp16_reduced_precision_reduction = False
        record = partial(_recorded, torch.cuda.graph_pool_handle())
        return Recorded(self, trace, record, reuse=reuse)


def _recorded(pool: Any, run: Callable[[], None]) -> Callable[[], None] | None:
    """Return what replays run() as a CUDA graph; None if it waits for the device."""
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, pool=pool):
            run()
    except RuntimeError:
        return None
    return graph.replay


def _host_draws(kind: str, key: Any, shape: tuple[int, ...], dtype: str) -> Array:
    """Return draws on the host, which are NumPy's."""
    from numpy.random import Generator, Philox

    whole = dtype in ("float32", "float64")
    draw = getattr(Generator(Philox(key=np.asarray(key))), kind)
    found = draw(shape, dtype=dtype if whole else "float32")
    return torch.as_tensor(found).to(_type(dtype))


def _from_bfloat16(host: Array) -> Any:
    """Return a NumPy array of bfloat16, which ml_dtypes has; else of float32."""
    try:
        from ml_dtypes import bfloat16
    except ImportError:
        return host.to(torch.float32).numpy()
    return host.view(torch.uint16).numpy().view(bfloat16)


def _first(x: Array) -> Array:
    """Return images (n, h, w, c) as PyTorch has them, (n, c, h, w), without copying."""
    return x.permute(0, 3, 1, 2)


def _last(x: Array) -> Array:
    """Return PyTorch's images as (n, h, w, c), in that order in memory."""
    return x.permute(0, 2, 3, 1).contiguous()


def _kernels(w: Array) -> Array:
    return w.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)


def _padded(x: Array, window: Window) -> tuple[Array, Pair]:
    """Return images, and the padding that is left: equal sides PyTorch pads itself."""
    (top, bottom), (left, right) = window.padding
    if top == bottom and left == right:
        return x, (top, left)
    return functional.pad(x, (0, 0, left, right, top, bottom)), (0, 0)


def _slopes(
    g: Array, x: Array, w: Array, window: Window, sides: Pair, groups: int, place: int
) -> Array:
    """Return the gradient of a convolution for x (place 0) or w (place 1)."""
    if not g.numel() or not x.numel():
        return g.new_zeros((x, w)[place].shape)
    wanted = [place == 0, place == 1, False]
    size = (window.stride, sides, window.dilation, False, (0, 0), groups)
    found = _aten.convolution_backward(_first(g), x, w, None, *size, wanted)
    return found[place]


def _largest(x: Array, window: Window) -> Array:
    """Return where the first largest value of each window lies: (n, c, oh, ow)."""
    size = window.kernel, window.stride
    return functional.max_pool2d(_first(x), *size, return_indices=True)[1]


def _indices(index: Index, device: Any) -> Index:
    """Return an index whose arrays are PyTorch's: of int64, or masks."""

    def one(part: Any) -> Any:
        if not hasattr(part, "dtype"):
            return part
        array = torch.as_tensor(part, device=device)
        return array if array.dtype is torch.bool else array.to(torch.int64)

    return tuple(map(one, index))


BACKEND = TorchBackend()
