"""Scaled dot-product attention (Vaswani et al. 2017, eq. 1), in primitives."""

from __future__ import annotations

import math
from typing import Any

from sillar.backends import backend_of
from sillar.core.ops import astype, exp, matmul, max_, reshape, sum_, transpose, where
from sillar.core.ops.linalg import swap
from sillar.core.tensor import Tensor, wrap

LOW = -1e30  # a score that no other comes near: its exponential is 0


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


def visible(like: Tensor, n: int, m: int, mask: Any, causal: bool) -> Any:
    """Return which of m keys each of n queries may see; True if all.

    `mask` is True or a tensor of truths; a causal query sees keys up to its own place.
    """
    if not causal:
        return mask
    xp = backend_of(like.data)
    earlier = wrap(xp.arange(n)[:, None] >= xp.arange(m)[None, :])
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
