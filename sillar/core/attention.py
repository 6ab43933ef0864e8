"""Scaled dot-product attention (Vaswani et al. 2017, eq. 1), in primitives."""

from __future__ import annotations

import math
from typing import Any

from sillar.backends import Array, backend_of
from sillar.backends.attention import LOW
from sillar.core.fused import as_composed
from sillar.core.ops import astype, exp, matmul, max_, reshape, sum_, transpose, where
from sillar.core.ops.linalg import swap
from sillar.core.tape import primitive
from sillar.core.tensor import Tensor, wrap


def attention_weights(q: Tensor, k: Tensor, allowed: Any = True) -> Tensor:
    """Return softmax(q k^T / sqrt(d)) over the keys that are `allowed`, 0 elsewhere.

    q (..., n, d), k (..., m, d) -> (..., n, m). A query without any key has weights 0.
    """
    scores = matmul(q, swap(k)) * (1.0 / math.sqrt(q.shape[-1]))
    if allowed is not True:
        scores = where(allowed, scores, LOW)
    peak = max_(scores.detach(), axis=-1, keepdims=True)  # makes exponents <= 0
    parts = exp(scores - peak)
    weights = parts / sum_(parts, axis=-1, keepdims=True)
    return weights if allowed is True else weights * astype(allowed, dtype=q.dtype)


def visible(q: Tensor, k: Tensor, mask: Any, causal: bool) -> Any:
    """Return which keys of k (..., m, d) each query of q (..., n, d) may see.

    `mask` is True for all, or a tensor of truths; a causal query sees keys up to its
    own place.
    """
    if not causal:
        return mask
    xp = backend_of(q.data)
    queries, keys = xp.arange(q.shape[-2]), xp.arange(k.shape[-2])
    earlier = wrap(queries[:, None] >= keys[None, :])
    return earlier if mask is True else where(mask, earlier, False)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Return (batch, n, heads * d) as (batch, heads, n, d)."""
    batch, n, width = x.shape
    x = reshape(x, shape=(batch, n, heads, width // heads))
    return transpose(x, axes=(0, 2, 1, 3))


def join_heads(x: Tensor) -> Tensor:
    """Return (batch, heads, n, d) as (batch, n, heads * d)."""
    batch, heads, n, d = x.shape
    return reshape(transpose(x, axes=(0, 2, 1, 3)), shape=(batch, n, heads * d))


def self_attention(qkv: Tensor, mask: Any, *, heads: int, causal: bool) -> Tensor:
    """Return the function that `attention` computes, in primitives."""
    width = qkv.shape[-1] // 3
    parts = (qkv[..., i * width : (i + 1) * width] for i in range(3))
    q, k, v = (split_heads(part, heads) for part in parts)
    weights = attention_weights(q, k, visible(q, k, mask, causal))
    return join_heads(matmul(weights, v))


@primitive
def attention(xp: Any, qkv: Array, mask: Any, *, heads: int, causal: bool) -> Array:
    """Return softmax(q k^T / sqrt(d)) v of all heads, joined: (batch, n, width).

    qkv (batch, n, 3 * width) holds queries, keys and values; `mask` is True or truths
    (batch, heads, n, n), each of that size or 1.
    """
    return xp.attention(qkv, mask, heads, causal)


@primitive
def attention_slope(
    xp: Any, g: Array, qkv: Array, mask: Any, *, heads: int, causal: bool
) -> Array:
    """Return the gradient of `attention` for qkv."""
    return xp.attention_slope(g, qkv, mask, heads, causal)


attention.defvjp(
    lambda g, y, qkv, mask, *, heads, causal: attention_slope(
        g, qkv, mask, heads=heads, causal=causal
    )
)
as_composed(attention_slope, self_attention, 0)
