"""Softmax cross-entropy with labels, in blocks of examples that stay in cache."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sillar.backends.base import Array
from sillar.backends.numpy import reductions, threads

BLOCK = 16384  # logits at a time
WIDE = 48  # classes from which on a row of them fills NumPy's loops


def cross_entropy(x: Array, labels: Array) -> Array:
    """Return log(sum(exp(x))) - x[label] of logits (..., c) and labels (...)."""
    logits, places = _flat(x), labels.reshape(-1)
    losses = np.empty(len(places), x.dtype)
    for part in _blocks(logits):
        z, rows = _shifted(logits[part])
        picked = z[places[part], rows]
        np.exp(z, out=z)
        total = _sums(z)
        np.log(total, out=total)
        np.subtract(total, picked, out=losses[part])
    return losses.reshape(labels.shape)


def cross_entropy_input(g: Array, x: Array, labels: Array) -> Array:
    """Return g (softmax(x) - one_hot(labels)); g is (...) or a number."""
    logits, places = _flat(x), labels.reshape(-1)
    slopes = np.empty(logits.shape, x.dtype)
    for part in _blocks(logits):
        z, rows = _shifted(logits[part])
        weights = g if isinstance(g, float) else g.reshape(-1)[part]
        np.exp(z, out=z)
        z *= weights / _sums(z)
        z[places[part], rows] -= weights
        slopes[part] = z.T
    return slopes.reshape(x.shape)


def _flat(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


def _blocks(logits: Array) -> Iterator[slice]:
    n, classes = logits.shape
    rows = max(1, threads.block(BLOCK) // classes)
    return (slice(start, start + rows) for start in range(0, n, rows))


def _shifted(logits: Array) -> tuple[Array, Array]:
    """Return logits (n, c) less the largest of their row, as a new (c, n), and 0 to n.

    Few classes lie apart in memory, so that loops run along the examples.
    """
    columns = logits.T
    if len(columns) < WIDE:
        columns = columns.copy()
    return columns - np.maximum.reduce(columns, 0), np.arange(len(logits))


def _sums(z: Array) -> Array:
    """Return the sum of each column."""
    return np.add.reduce(z, 0) if len(z) < WIDE else reductions.sum(z.T, axis=1)
