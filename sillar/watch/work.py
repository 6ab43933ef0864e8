"""What a call computes and moves: operations and bytes of each primitive, one table.

An operation is one addition or multiplication; a function such as exp counts as one for
each element, as does a comparison. Bytes are those of inputs and output, each moved
once; a view moves nothing. What a kernel moves beyond that is its own affair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from sillar.core.dtypes import SCALARS

Count = Callable[[Sequence[Any], dict[str, Any], Any], int]  # (inputs, static, output)


def _per_output(times: int) -> Count:
    """Return a count of so many operations for each element of the output."""
    return lambda arrays, static, out: times * prod(out.shape)


def _per_input(times: int) -> Count:
    """Return a count of so many operations for each element of the first input."""
    return lambda arrays, static, out: times * prod(arrays[0].shape)


def _matmul(arrays: Sequence[Any], static: dict[str, Any], out: Any) -> int:
    return 2 * prod(out.shape) * int(arrays[0].shape[-1])


def _einsum(arrays: Sequence[Any], static: dict[str, Any], out: Any) -> int:
    """For each combination of all letters: a product of all operands, and a sum."""
    terms = static["subscripts"].partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, array in zip(terms, arrays, strict=True):
        sizes.update(zip(term, array.shape, strict=True))
    return len(arrays) * prod(sizes.values())


def _conv(arrays: Sequence[Any], static: dict[str, Any], out: Any) -> int:
    """A product and a sum for each output and weight that reaches it, however done."""
    return 2 * prod(out.shape) * prod(arrays[1].shape[:3])


def _conv_input(arrays: Sequence[Any], static: dict[str, Any], out: Any) -> int:
    return 2 * prod(arrays[0].shape) * prod(arrays[1].shape[:3])


def _conv_weight(arrays: Sequence[Any], static: dict[str, Any], out: Any) -> int:
    return 2 * prod(arrays[1].shape) * prod(out.shape[:3])


def _sweep(arrays: Sequence[Any], static: dict[str, Any], out: Any) -> int:
    """The products with the weights, w, in all steps, from (x, w) or (g, x, w, ...)."""
    x, w = arrays[0 if len(arrays) == 2 else 1 :][:2]
    return 2 * prod(w.shape) * x.shape[0] * x.shape[2]


def _sweep_output(arrays: Sequence[Any], static: dict[str, Any], out: Any) -> int:
    return _sweep(arrays, static, out) if len(arrays) == 2 else 0


def _sweep_input(arrays: Sequence[Any], static: dict[str, Any], out: Any) -> int:
    return 2 * prod(out.shape) * int(arrays[2].shape[1])


def _sweep_slopes(arrays: Sequence[Any], static: dict[str, Any], out: Any) -> int:
    return 2 * prod(arrays[0].shape) * int(arrays[2].shape[1])


def _pool(arrays: Sequence[Any], static: dict[str, Any], out: Any) -> int:
    """One operation for each cell of each window."""
    return prod(out.shape) * prod(static["window"].kernel)


def _unpool(arrays: Sequence[Any], static: dict[str, Any], out: Any) -> int:
    return prod(arrays[0].shape) * prod(static["window"].kernel)


def _attention(arrays: Sequence[Any], static: dict[str, Any], out: Any) -> int:
    """Two products for each pair of places, and a softmax; as without a mask."""
    batch, n, width = out.shape
    return 4 * batch * n * n * (width + int(static["heads"]))


def _attention_slope(arrays: Sequence[Any], static: dict[str, Any], out: Any) -> int:
    """Five products for each pair of places: the scores again, and two for each."""
    batch, n, width = arrays[0].shape
    return 10 * batch * n * n * width


_VIEWS = ("reshape", "transpose", "broadcast_to", "astype", "getitem")
_MOVES = (*_VIEWS, "place", "over_shares", "concat", "pack", "pad")
_ELEMENTWISE = (
    *("add", "negative", "subtract", "multiply", "divide", "power", "where", "sign"),
    *("greater", "greater_equal", "less", "less_equal", "equal", "not_equal"),
    *("exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "tanh", "sigmoid"),
    *("softplus", "erf", "relu", "absolute", "maximum", "minimum"),
    *("normal_cdf", "normal_pdf", "random_uniform", "random_normal"),
)
OPERATIONS: dict[str, Count] = {
    **dict.fromkeys(_MOVES, _per_output(0)),
    **dict.fromkeys(_ELEMENTWISE, _per_output(1)),
    **dict.fromkeys(("sum", "max", "min", "argmax", "cumsum"), _per_input(1)),
    "scatter_add": _per_input(1),
    # the largest, a difference, its exponential, and their sum
    **dict.fromkeys(("logsumexp", "cross_entropy"), _per_input(4)),
    "cross_entropy_input": _per_output(5),
    "channel_squares": _per_input(3),
    # mean, difference, square and sum, quotient; then weight and bias
    "batch_norm": _per_output(5),
    # two sums over products with the gradient, and their shares taken off
    "batch_norm_input": _per_output(8),
    "batch_norm_weight": _per_input(3),
    "attention": _attention,
    "attention_slope": _attention_slope,
    "matmul": _matmul,
    "einsum": _einsum,
    "conv": _conv,
    "conv_input": _conv_input,
    "conv_weight": _conv_weight,
    **dict.fromkeys(("recurrent_keep", "recurrent_weight"), _sweep),
    "recurrent": _sweep_output,
    "recurrent_slopes": _sweep_slopes,
    "recurrent_input": _sweep_input,
    **dict.fromkeys(("max_pool", "max_pool_at", "sum_pool"), _pool),
    **dict.fromkeys(("max_unpool", "sum_unpool"), _unpool),
}
DEFAULT = _per_output(1)  # of a primitive that is not in the table: a user's own


def operations(
    name: str, arrays: Sequence[Any], static: dict[str, Any], out: Any
) -> int:
    """Return how many operations the call of a primitive takes."""
    return OPERATIONS.get(name, DEFAULT)(arrays, static, out)


def _shares(a: Any, b: Any) -> bool:
    """Say whether a view lies in the memory of the other; known of NumPy's alone."""
    ours = isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
    return ours and np.may_share_memory(a, b)


def moved(name: str, arrays: Sequence[Any], out: Any) -> int:
    """Return how many bytes the call reads and writes at least."""
    if name in _VIEWS and _shares(out, arrays[0]):
        return 0
    total = int(out.nbytes)
    for array in arrays:
        if type(array) not in SCALARS:
            total += array.nbytes
    return total
