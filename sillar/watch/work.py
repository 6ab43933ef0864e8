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


def _each_output(arrays: Sequence[Any], static: dict[str, Any], out: Any) -> int:
    """One operation for each element of the output: also what is not in the table."""
    return int(out.size)


def _none(arrays: Sequence[Any], static: dict[str, Any], out: Any) -> int:
    return 0


def _each_input(arrays: Sequence[Any], static: dict[str, Any], out: Any) -> int:
    return int(arrays[0].size)


def _logsumexp(arrays: Sequence[Any], static: dict[str, Any], out: Any) -> int:
    """The largest, a difference, its exponential, and their sum."""
    return 4 * int(arrays[0].size)


def _cross_entropy_input(
    arrays: Sequence[Any], static: dict[str, Any], out: Any
) -> int:
    """A softmax, and a product with the gradient."""
    return 5 * int(out.size)


def _matmul(arrays: Sequence[Any], static: dict[str, Any], out: Any) -> int:
    return 2 * int(out.size) * int(arrays[0].shape[-1])


def _einsum(arrays: Sequence[Any], static: dict[str, Any], out: Any) -> int:
    """For each combination of all letters: a product of all operands, and a sum."""
    terms = static["subscripts"].partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, array in zip(terms, arrays, strict=True):
        sizes.update(zip(term, array.shape, strict=True))
    return len(arrays) * prod(sizes.values())


def _conv(arrays: Sequence[Any], static: dict[str, Any], out: Any) -> int:
    """A product and a sum for each output and weight that reaches it, however done."""
    return 2 * int(out.size) * prod(arrays[1].shape[:3])


def _conv_input(arrays: Sequence[Any], static: dict[str, Any], out: Any) -> int:
    return 2 * int(arrays[0].size) * prod(arrays[1].shape[:3])


def _conv_weight(arrays: Sequence[Any], static: dict[str, Any], out: Any) -> int:
    return 2 * int(arrays[1].size) * prod(out.shape[:3])


def _pool(arrays: Sequence[Any], static: dict[str, Any], out: Any) -> int:
    """One operation for each cell of each window."""
    return int(out.size) * prod(static["window"].kernel)


def _unpool(arrays: Sequence[Any], static: dict[str, Any], out: Any) -> int:
    return int(arrays[0].size) * prod(static["window"].kernel)


_VIEWS = ("reshape", "transpose", "broadcast_to", "astype", "getitem")
_MOVES = (*_VIEWS, "concat", "pack", "pad")
_ELEMENTWISE = (
    *("add", "negative", "subtract", "multiply", "divide", "power", "where", "sign"),
    *("greater", "greater_equal", "less", "less_equal", "equal", "not_equal"),
    *("exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "tanh", "sigmoid"),
    *("softplus", "erf", "relu", "absolute", "maximum", "minimum"),
    *("random_uniform", "random_normal"),
)
OPERATIONS: dict[str, Count] = {
    **dict.fromkeys(_MOVES, _none),
    **dict.fromkeys(_ELEMENTWISE, _each_output),
    **dict.fromkeys(("sum", "max", "min", "argmax", "cumsum"), _each_input),
    "scatter_add": _each_input,
    **dict.fromkeys(("logsumexp", "cross_entropy"), _logsumexp),
    "cross_entropy_input": _cross_entropy_input,
    "matmul": _matmul,
    "einsum": _einsum,
    "conv": _conv,
    "conv_input": _conv_input,
    "conv_weight": _conv_weight,
    **dict.fromkeys(("max_pool", "max_pool_at", "sum_pool"), _pool),
    **dict.fromkeys(("max_unpool", "sum_unpool"), _unpool),
}


def operations(
    name: str, arrays: Sequence[Any], static: dict[str, Any], out: Any
) -> int:
    """Return how many operations the call of a primitive takes."""
    return OPERATIONS.get(name, _each_output)(arrays, static, out)


def moved(name: str, arrays: Sequence[Any], out: Any) -> int:
    """Return how many bytes the call reads and writes at least."""
    if name in _VIEWS and np.may_share_memory(out, arrays[0]):
        return 0
    total = int(out.nbytes)
    for array in arrays:
        if type(array) not in SCALARS:
            total += array.nbytes
    return total
