"""Self-attention block by block: what is as large as queries x keys stays in the cache.

Queries, keys and values are read where the projection wrote them, and results are
written where the next product reads them: BLAS takes rows that lie apart. Weights are
not kept for the gradient but computed again. They are not divided by their sums
either; the d numbers of each output are, or of its gradient, which are fewer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from sillar.backends.base import Array
from sillar.backends.numpy import threads

BLOCK = 65_536  # scores at a time
LEAST = 64  # queries at a time, for products of a good shape
SAFE = 30.0  # scores below this need no shift: exponentials and sums stay in range


def attention(qkv: Array, allowed: Any, heads: int, causal: bool) -> Array:
    """Return what each query gathers: (batch, n, width)."""
    q, k, v = _split(qkv, heads, 3)
    y = np.empty((*qkv.shape[:2], qkv.shape[2] // 3), qkv.dtype)
    (out,) = _split(y, heads, 1)
    for items, rows, m, seen in _blocks(q.shape, allowed, causal, y.dtype):
        parts, share = _weights(q[items, :, rows], k[items, :, :m], seen)
        block = out[items, :, rows]
        np.matmul(parts, v[items, :, :m], out=block)
        block *= share
    return y


def attention_slope(
    g: Array, qkv: Array, allowed: Any, heads: int, causal: bool
) -> Array:
    """Return the gradient of `attention` for qkv, given g at its output."""
    q, k, v = _split(qkv, heads, 3)
    (g,) = _split(g, heads, 1)
    dx = np.empty(qkv.shape, qkv.dtype)
    dq, dk, dv = _split(dx, heads, 3)
    for items, rows, m, seen in _blocks(q.shape, allowed, causal, dx.dtype):
        qs, ks, vs = q[items, :, rows], k[items, :, :m], v[items, :, :m]
        parts, share = _weights(qs, ks, seen)
        slopes = g[items, :, rows] * share
        more = rows.stop < q.shape[2]  # the last queries, which see all, came first
        _product(parts.mT, slopes, dv[items, :, :m], more)
        ds = np.matmul(slopes, vs.mT)
        ds *= parts
        parts *= _row_sums(ds) * share
        ds -= parts
        ds *= 1 / math.sqrt(q.shape[-1])
        np.matmul(ds, ks, out=dq[items, :, rows])
        _product(ds.mT, qs, dk[items, :, :m], more)
    return dx


def _split(x: Array, heads: int, count: int) -> Array:
    """Return (batch, n, count * heads * d) as views (batch, heads, n, d)."""
    batch, n, width = x.shape
    x = x.reshape(batch, n, count, heads, width // (count * heads))
    return x.transpose(2, 0, 3, 1, 4)


def _blocks(
    shape: tuple[int, ...], allowed: Any, causal: bool, dtype: Any
) -> Iterator[tuple[slice, slice, int, Any]]:
    """Yield examples, queries, the number of their keys, and who sees whom (or None).

    What is seen is 1 and what is not 0, in `dtype`.
    """
    batch, heads, n, _ = shape
    block = threads.block(BLOCK)
    height = max(1, min(n, max(LEAST, block // max(1, heads * n))))
    depth = max(1, block // max(1, heads * n * height))
    for top in reversed(range(0, n, height)):
        rows = slice(top, min(n, top + height))
        m = rows.stop if causal else n
        early = np.tri(rows.stop - top, m, top, dtype) if causal else None
        for first in range(0, batch, depth):
            items = slice(first, first + depth)
            yield items, rows, m, _seen(allowed, items, rows, m, early)


def _seen(allowed: Any, items: slice, rows: slice, m: int, early: Any) -> Any:
    if allowed is True:
        return early
    cuts = (items, slice(None), rows, slice(m))
    sizes = zip(cuts, allowed.shape, strict=True)
    part = allowed[tuple(cut if size > 1 else slice(None) for cut, size in sizes)]
    return part if early is None else part * early


def _weights(q: Array, k: Array, seen: Any) -> tuple[Array, Array]:
    """Return exp(q k^T / sqrt(d)) where `seen`, in any scale, and one over its sums.

    The rows are queries. That of a query without keys is 0, and so is its sum's share.
    """
    scores = np.matmul(q, k.mT)
    scores *= 1 / math.sqrt(q.shape[-1])
    if scores.size and scores.max() < SAFE and scores.min() > -SAFE:
        np.exp(scores, out=scores)
        if seen is not None:
            scores *= seen
    else:
        if seen is not None:
            np.copyto(scores, -np.inf, where=np.equal(seen, 0))
        peak = scores.max(axis=-1, keepdims=True, initial=-np.inf)
        scores -= np.where(np.isneginf(peak), 0, peak)
        np.exp(scores, out=scores)
    total = _row_sums(scores)
    share = np.divide(1, total, out=np.zeros_like(total), where=total != 0)
    return scores, share


def _product(a: Array, b: Array, out: Array, more: bool) -> None:
    """Write a @ b to `out`, or add it if there is `more` of it."""
    if more:
        out += np.matmul(a, b)
    else:
        np.matmul(a, b, out=out)


def _row_sums(x: Array) -> Array:
    """Return the sums of the rows, as a product, which is faster for short rows."""
    return np.matmul(x, np.ones((x.shape[-1], 1), x.dtype))
