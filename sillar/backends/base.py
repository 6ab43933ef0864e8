"""What a back end is, and how an array's own type picks it.

A back end is the array library's namespace (Array API names) plus the few functions
that such namespaces lack. Primitives receive it as `xp`. There is no global switch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from sillar.backends import attention, recurrent
from sillar.errors import BackendError, ConfigError, missing

Array = Any  # a raw array of some back end
Pair = tuple[int, int]


class Window(NamedTuple):
    """A sliding window over images: kernel, stride, padding and dilation, in cells.

    `padding` is ((top, bottom), (left, right)).
    """

    kernel: Pair
    stride: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)

    def span(self, axis: int) -> int:
        """Return how many cells the dilated kernel covers along `axis` (0 or 1)."""
        return (self.kernel[axis] - 1) * self.dilation[axis] + 1

    def positions(self, size: Pair) -> Pair:
        """Return how many places the window has in an image of `size` (h, w)."""
        return self._along(0, size[0]), self._along(1, size[1])

    def cover(self, places: Pair) -> Pair:
        """Return the size of what so many places see together."""
        return (
            (places[0] - 1) * self.stride[0] + self.span(0),
            (places[1] - 1) * self.stride[1] + self.span(1),
        )

    def _along(self, axis: int, size: int) -> int:
        free = size + sum(self.padding[axis]) - self.span(axis)
        return free // self.stride[axis] + 1 if free >= 0 else 0


class Backend(ABC):
    """An array namespace plus the functions it lacks; images are (n, h, w, c).

    `name` is what people call it, `array_types` are the types of its arrays.
    """

    name: str
    array_types: tuple[type, ...]

    def __init__(self, namespace: Any) -> None:
        names = vars(namespace).items()
        vars(self).update({k: v for k, v in names if not hasattr(type(self), k)})

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"back end {self.name!r} has no function {name!r}")

    @abstractmethod
    def to_numpy(self, array: Array) -> Any:
        """Return `array` as a NumPy array on the host."""

    @abstractmethod
    def from_numpy(self, array: Any, device: str | None = None) -> Array:
        """Return a NumPy array's values on `device`, or where the last ones went."""

    def devices(self) -> list[str]:
        """Return the names of the devices that arrays can be placed on."""
        return ["cpu"]

    def address(self, array: Array) -> int:
        """Return where the first element of an array lies in memory."""
        return int(array.__array_interface__["data"][0])

    def lasting(self, array: Array) -> Array:
        """Return the array where processes that do parts of a step see it, if it pays.

        It may be the array itself, or a copy that takes its place for good.
        """
        return array

    @property
    def on_host(self) -> bool:
        """Say whether reading an array waits for no device."""
        return True

    def simplified(self, trace: Any, calls: Sequence[Any]) -> list[Any]:
        """Return calls that do the same as those of a traced step, with less to do."""
        return [*calls]

    @property
    def fast_half(self) -> bool:
        """Say whether the device multiplies numbers of 16 bits faster than others."""
        return False

    def half(self, name: str) -> Any:
        """Return the data type of what `narrow` returns for "bfloat16" or "float16"."""
        return self.zeros((0,), dtype=name).dtype

    def narrow(self, x: Array, dtype: str) -> Array:
        """Return `x` in 16 bits, rounded to "bfloat16" or "float16"."""
        return self.astype(x, dtype)

    def widen(self, x: Array, dtype: Any) -> Array:
        """Return what was narrowed, in the data type it had."""
        return self.astype(x, dtype)

    @abstractmethod
    def assign(self, array: Array, value: Array) -> Array:
        """Write `value` into `array`, in place where arrays are mutable; return it."""

    @abstractmethod
    def random_uniform(self, key: Array, shape: tuple[int, ...], dtype: str) -> Array:
        """Draw from [0, 1); equal keys, two uint64 words, give equal draws."""

    @abstractmethod
    def random_normal(self, key: Array, shape: tuple[int, ...], dtype: str) -> Array:
        """Draw from the standard normal; equal keys give equal draws."""

    def getitem(self, x: Array, index: tuple[Any, ...]) -> Array:
        """Return x[index], as NumPy's arrays give it."""
        return x[index]

    @abstractmethod
    def scatter_add(self, values: Array, index: Any, shape: tuple[int, ...]) -> Array:
        """Return zeros of `shape` with `values` added at `index`."""

    @abstractmethod
    def pad(self, x: Array, widths: tuple[Pair, ...], value: float) -> Array:
        """Return `x` with (before, after) cells of `value` along each axis."""

    @abstractmethod
    def einsum(self, subscripts: str, *operands: Array) -> Array:
        """Return the Einstein sum with explicit output, as in NumPy."""

    @abstractmethod
    def erf(self, x: Array) -> Array:
        """Return the error function of each element."""

    def normal_cdf(self, x: Array) -> Array:
        """Return P(N < x) of a standard normal N for each element."""
        return (self.erf(x * math.sqrt(0.5)) + 1.0) * 0.5

    def normal_pdf(self, x: Array) -> Array:
        """Return the standard normal density at each element."""
        return self.exp(x * x * -0.5) * (1.0 / math.sqrt(2.0 * math.pi))

    @abstractmethod
    def conv(self, x: Array, w: Array, window: Window, groups: int) -> Array:
        """Correlate x (n, h, w, c) with w (kh, kw, c / groups, o)."""

    @abstractmethod
    def conv_input(
        self, g: Array, w: Array, size: Pair, window: Window, groups: int
    ) -> Array:
        """Return the gradient of `conv` for its input of `size` (h, w)."""

    @abstractmethod
    def conv_weight(self, x: Array, g: Array, window: Window, groups: int) -> Array:
        """Return the gradient of `conv` for its weight."""

    def compile(self, trace: Any, *, reuse: bool) -> Callable[..., tuple[Array, ...]]:
        """Return the function of a trace's arguments that replays it: its outputs.

        With `reuse` a replay may write over the outputs of the one before.
        """
        from sillar.backends.replay import Replay  # which is made of back ends

        return Replay(self, trace)

    def rule(self, update: Callable[..., Any]) -> Callable[..., Any]:
        """Return an optimizer's rule update(p, g, state, lr, t) as it is best run."""
        return update

    @abstractmethod
    def max_pool(self, x: Array, window: Window) -> Array:
        """Return the largest value of each window."""

    @abstractmethod
    def max_pool_at(self, v: Array, x: Array, window: Window) -> Array:
        """Return `v` where `x` has the first largest value of each window."""

    @abstractmethod
    def max_unpool(self, g: Array, x: Array, window: Window) -> Array:
        """Add `g` where `x` has the first largest value of each window."""

    @abstractmethod
    def sum_pool(self, x: Array, window: Window) -> Array:
        """Return the sum of each window."""

    @abstractmethod
    def sum_unpool(self, g: Array, size: Pair, window: Window) -> Array:
        """Add `g` to every cell of its window, in an image of `size` (h, w)."""

    def cross_entropy(self, x: Array, labels: Array) -> Array:
        """Return log(sum(exp(x))) - x[label] of logits (..., c) and labels (...)."""
        z, hits = self._logits(x), self._one_hot(x, labels)
        picked = self.sum(self.where(hits, z, self.zeros_like(z)), axis=-1)
        return self.log(self.sum(self.exp(z), axis=-1)) - picked

    def cross_entropy_input(self, g: Array, x: Array, labels: Array) -> Array:
        """Return g (softmax(x) - one_hot(labels)); g is (...) or a number."""
        e, hits = self.exp(self._logits(x)), self._one_hot(x, labels)
        slopes = e / self.sum(e, axis=-1, keepdims=True) - self.astype(hits, x.dtype)
        return slopes * (g if isinstance(g, float) else self.expand_dims(g, axis=-1))

    def channel_squares(self, x: Array, centre: Array) -> Array:
        """Return the sum of (x - centre)^2 over all axes but the last."""
        return self.sum((x - centre) * (x - centre), axis=tuple(range(x.ndim - 1)))

    def batch_norm(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        centre: Array,
        spread: Array,
        eps: float,
    ) -> Array:
        """Return (x - centre) / sqrt(spread + eps) * weight + bias, by channels."""
        return (x - centre) / self.sqrt(spread + eps) * weight + bias

    def batch_norm_input(
        self,
        g: Array,
        x: Array,
        weight: Array,
        centre: Array,
        spread: Array,
        slope: Array,
        total: Array,
        eps: float,
    ) -> Array:
        """Return the gradient for x; `slope` and `total` are the others', as means."""
        r = 1.0 / self.sqrt(spread + eps)
        return weight * r * (g - total - (x - centre) * r * slope)

    def batch_norm_weight(
        self, g: Array, x: Array, centre: Array, spread: Array, eps: float
    ) -> Array:
        """Return the gradient of `batch_norm` for its weight."""
        y = (x - centre) / self.sqrt(spread + eps)
        return self.sum(g * y, axis=tuple(range(x.ndim - 1)))

    def recurrent_keep(self, cell: str, x: Array, w: Array) -> Array:
        """Return what a sweep of "lstm" or "gru" keeps; see `backends/recurrent.py`."""
        return recurrent.keep(self, cell, x, w)

    def recurrent_output(
        self, cell: str, x: Array, w: Array, kept: Array, last: bool
    ) -> Array:
        """Return the outputs (time, hidden, batch) of a sweep, or the last one."""
        return recurrent.output(cell, x, w, kept, last)

    def recurrent_slopes(
        self, cell: str, g: Array, x: Array, w: Array, kept: Array, inputs: bool
    ) -> Array:
        """Return what both gradients need, that for x only if `inputs`; g at outputs.

        Here they are the derivatives before the nonlinearities.
        """
        return recurrent.slopes(self, cell, g, x, w, kept)

    def recurrent_input(self, cell: str, x: Array, w: Array, slopes: Array) -> Array:
        """Return the gradient of a sweep for x."""
        return recurrent.input_gradient(self, cell, x, w, slopes)

    def recurrent_weight(
        self,
        cell: str,
        x: Array,
        w: Array,
        kept: Array,
        slopes: Array,
        inputs: bool,
    ) -> Array:
        """Return the gradient of a sweep for w."""
        return recurrent.weight_gradient(self, cell, x, w, kept, slopes)

    def _logits(self, x: Array) -> Array:
        """Return x less its largest value along the last axis."""
        peak = self.max(x, axis=-1, keepdims=True)
        return x - self.where(self.isfinite(peak), peak, self.zeros_like(peak))

    def _one_hot(self, x: Array, labels: Array) -> Array:
        classes = self.arange(x.shape[-1], dtype=labels.dtype)
        return self.equal(self.expand_dims(labels, axis=-1), classes)

    def attention(self, qkv: Array, allowed: Any, heads: int, causal: bool) -> Array:
        """Return softmax(q k^T / sqrt(d)) v of each head (batch, n, heads * d).

        The last axis of qkv has the queries of all heads, then keys, then values.
        `allowed` is True, or truths (batch, heads, n, n) of sizes that broadcast; a
        query that sees nothing gets 0. Causal: query i sees keys up to i.
        """
        return attention.forward(self, qkv, allowed, heads, causal)

    def attention_slope(
        self, g: Array, qkv: Array, allowed: Any, heads: int, causal: bool
    ) -> Array:
        """Return the gradient of `attention` for qkv."""
        return attention.slope(self, g, qkv, allowed, heads, causal)


OPTIONAL = ("torch", "jax")  # back ends with a library of their own
_BY_TYPE: dict[type, Backend] = {}
_BACKENDS: dict[str, Backend] = {}


def register(backend: Backend) -> None:
    """Make `backend` the one that computes with arrays of its types."""
    _BACKENDS[backend.name] = backend
    _BY_TYPE.update(dict.fromkeys(backend.array_types, backend))


def backends() -> dict[str, Backend]:
    """Return the back ends that are loaded, by name."""
    return dict(_BACKENDS)


@cache
def type_named(dtype: Any) -> Any:
    """Return NumPy's data type of the name that another library's has."""
    name = str(dtype).rpartition(".")[2]
    if name == "bfloat16":  # NumPy knows it when ml_dtypes is loaded
        return np.dtype(import_module("ml_dtypes").bfloat16)
    return np.dtype(name)


def is_array(value: Any) -> bool:
    """Say whether `value` is an array of a loaded back end."""
    kind = type(value)
    return kind in _BY_TYPE or any(
        issubclass(kind, b.array_types) for b in _BACKENDS.values()
    )


def load(name: str) -> Backend:
    """Return the back end of this name, whose library is imported now."""
    if name not in _BACKENDS:
        if name not in OPTIONAL:
            raise ConfigError(
                f"backend: expected one of {', '.join(('numpy', *OPTIONAL))}, got"
                f" {name!r}"
            )
        try:
            module = import_module(f"sillar.backends.{name}")
        except ImportError:
            raise missing(name, name, f"the back end {name!r}") from None
        register(module.BACKEND)
    return _BACKENDS[name]


def backend_of(array: Array) -> Backend:
    """Return the back end that `array` belongs to, by its type."""
    return _BY_TYPE.get(type(array)) or _search(array)


def _search(array: Array) -> Backend:
    if array is None:
        raise ConfigError(
            "a parameter has no value yet: call model.init(sillar.Rng(seed)) first"
        )
    for backend in _BACKENDS.values():
        if isinstance(array, backend.array_types):
            _BY_TYPE[type(array)] = backend
            return backend
    known = ", ".join(_BACKENDS) or "none"
    raise BackendError(
        f"expected an array of a loaded back end ({known}),"
        f" got {type(array).__module__}.{type(array).__qualname__}:"
        " convert it with numpy.asarray first"
    )
