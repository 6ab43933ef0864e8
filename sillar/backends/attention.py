"""Self-attention out of Array API calls, for back ends without a kernel for it."""

from __future__ import annotations

import math
from typing import Any

LOW = -1e30  # a score that no other comes near: its exponential is 0


def forward(xp: Any, qkv: Any, allowed: Any, heads: int, causal: bool) -> Any:
    """Return what each query gathers: (batch, n, width)."""
    q, k, v = _split(xp, qkv, heads)
    return _joined(xp, xp.matmul(_weights(xp, q, k, allowed, causal), v))


def slope(xp: Any, g: Any, qkv: Any, allowed: Any, heads: int, causal: bool) -> Any:
    """Return the gradient of `forward` for qkv, given g at its output."""
    q, k, v = _split(xp, qkv, heads)
    (g,) = _split(xp, g, heads, 1)
    p = _weights(xp, q, k, allowed, causal)
    dp = xp.matmul(g, xp.matrix_transpose(v))
    ds = p * (dp - xp.sum(p * dp, axis=-1, keepdims=True)) / math.sqrt(q.shape[-1])
    parts = [xp.matmul(ds, k), xp.matmul(xp.matrix_transpose(ds), q)]
    parts.append(xp.matmul(xp.matrix_transpose(p), g))
    return xp.concat([_joined(xp, part) for part in parts], axis=-1)


def _weights(xp: Any, q: Any, k: Any, allowed: Any, causal: bool) -> Any:
    """Return softmax(q k^T / sqrt(d)) over the keys that are allowed, 0 elsewhere."""
    scores = xp.matmul(q, xp.matrix_transpose(k)) / math.sqrt(q.shape[-1])
    n = q.shape[2]
    seen = xp.ones((1, 1, 1, 1), dtype=xp.bool) if allowed is True else allowed
    if causal:
        places = xp.arange(n)
        seen = xp.logical_and(seen, places[:, None] >= places[None, :])
    scores = xp.where(seen, scores, LOW)
    parts = xp.exp(scores - xp.max(scores, axis=-1, keepdims=True))
    weights = parts / xp.sum(parts, axis=-1, keepdims=True)
    return xp.where(seen, weights, 0.0)


def _split(xp: Any, x: Any, heads: int, count: int = 3) -> list[Any]:
    """Return (batch, n, count * heads * d) as `count` arrays (batch, heads, n, d)."""
    batch, n, width = x.shape
    x = xp.reshape(x, (batch, n, count, heads, width // (count * heads)))
    x = xp.permute_dims(x, (2, 0, 3, 1, 4))
    return [x[i, ...] for i in range(count)]


def _joined(xp: Any, x: Any) -> Any:
    """Return (batch, heads, n, d) as (batch, n, heads * d)."""
    batch, heads, n, d = x.shape
    return xp.reshape(xp.permute_dims(x, (0, 2, 1, 3)), (batch, n, heads * d))
