"""Recurrent sweeps, forward and backward, in blocks of the batch that stay in cache.

Features come before examples, so that a gate is one contiguous piece, a step is one
product of matrices, and both biases are rows of it. A sigmoid is a tanh of half its
argument, and the halves are in the weights. A block's memory is contiguous: the arrays
that the kernels hand on have the batch first, and only these kernels read the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from sillar.backends.base import Array
from sillar.backends.numpy import threads
from sillar.backends.recurrent import GATES, Sizes, sizes

BLOCK = 256  # examples


class _Kernel(NamedTuple):
    """A cell: how many times `hidden` rows a step keeps, and how it goes both ways."""

    kept: int
    forward: Callable[..., None]
    backward: Callable[..., None]
    carry: Callable[..., None]
    weight: Callable[..., None]


def keep(cell: str, x: Array, w: Array) -> Array:
    """Return what the gradients need, with the outputs in it: (batch, ...).

    For each step and one more: the rows x, 1, 1, h, and then those of the cell.
    """
    size, kernel = sizes(cell, x, w), KERNELS[cell]
    n, batch = size.hidden, x.shape[2]
    rows = size.rows + kernel.kept * n
    out = np.empty((batch, (size.steps + 1) * rows), np.result_type(x, w))
    halves = np.ones(w.shape[1], w.dtype)
    halves[: 2 * n] = 0.5
    halves[3 * n :] = 0.5
    turned = np.multiply(w, halves).T.copy()

    def work(b: slice) -> None:
        s = _steps(out, b, rows)
        s[:-1, : size.n_in] = x[:, :, b]
        s[:-1, size.n_in : size.n_in + 2] = 1
        s[0, size.n_in + 2 : size.rows + n] = 0  # h, and an LSTM's c
        scratch = np.empty((GATES[cell] * n, s.shape[2]), out.dtype)
        for now, new in pairwise(s):
            kernel.forward(turned, now, new, size, scratch)

    _each_block(work, batch)
    return out


def output(cell: str, x: Array, w: Array, kept: Array) -> Array:
    """Return the outputs (time, hidden, batch)."""
    size, batch = sizes(cell, x, w), len(kept)
    out = np.empty((size.steps, size.hidden, batch), kept.dtype)
    for b in _blocks(batch):
        s = _steps(kept, b, kept.shape[1] // (size.steps + 1))
        out[:, :, b] = s[1:, size.rows - size.hidden : size.rows]
    return out


def slopes(cell: str, g: Array, x: Array, w: Array, kept: Array) -> Array:
    """Return the loss's derivatives before the nonlinearities: (batch, ...)."""
    size, kernel = sizes(cell, x, w), KERNELS[cell]
    n, batch = size.hidden, len(kept)
    out = np.empty((batch, size.steps * 4 * n), kept.dtype)
    state_weights = w[-n:]

    def work(b: slice) -> None:
        s = _steps(kept, b, kept.shape[1] // (size.steps + 1))
        d = _steps(out, b, 4 * n)
        scratch = np.empty((6 * n, s.shape[2]), out.dtype)
        scratch[: 2 * n] = 0  # dh and dc
        for t in reversed(range(size.steps)):
            scratch[:n] += g[t, :, b]
            kernel.backward(s[t], s[t + 1], d[t], size, scratch)
            if t:
                kernel.carry(state_weights, d[t], size, scratch)

    _each_block(work, batch)
    return out


def input_gradient(cell: str, x: Array, w: Array, slopes: Array) -> Array:
    """Return the gradient for x (time, n_in, batch)."""
    size, batch = sizes(cell, x, w), len(slopes)
    out = np.empty((size.steps, size.n_in, batch), slopes.dtype)

    def work(b: slice) -> None:
        d = _steps(slopes, b, 4 * size.hidden)
        np.matmul(w[: size.n_in], d[:, : w.shape[1]], out=out[:, :, b])

    _each_block(work, batch)
    return out


def weight_gradient(cell: str, x: Array, w: Array, kept: Array, slopes: Array) -> Array:
    """Return the gradient for w."""
    size, batch = sizes(cell, x, w), len(kept)
    blocks = _blocks(batch)
    terms = np.zeros((len(blocks), *w.shape), kept.dtype)

    def work(share: slice) -> None:
        product = np.empty_like(terms[0])
        for b, total in zip(blocks[share], terms[share], strict=True):
            s = _steps(kept, b, kept.shape[1] // (size.steps + 1))
            for now, d in zip(s, _steps(slopes, b, 4 * size.hidden), strict=False):
                KERNELS[cell].weight(now, d, size, product)
                total += product

    threads.share(work, len(blocks))
    return np.add.reduce(terms, 0) if len(blocks) > 1 else terms[0]


def _lstm_forward(
    w: Array, now: Array, new: Array, size: Sizes, scratch: Array
) -> None:
    """Do a step: rows c, i, f, g, o of `now`, then h and c of `new`."""
    k, n = size.rows, size.hidden
    gates, product, c = now[k + n :], scratch[:n], new[k : k + n]
    np.matmul(w, now[:k], out=gates)
    np.tanh(gates, out=gates)
    _to_sigmoid(gates[: 2 * n])
    _to_sigmoid(gates[3 * n :])
    i, f, g, o = _cut(gates, 4)
    np.multiply(f, now[k : k + n], out=c)
    np.multiply(i, g, out=product)
    c += product
    np.tanh(c, out=product)
    np.multiply(o, product, out=new[k - n : k])


def _lstm_backward(
    now: Array, new: Array, d: Array, size: Sizes, scratch: Array
) -> None:
    """Write the slopes d of a step, and take dc to the step before."""
    k, n = size.rows, size.hidden
    dh, dc, tanh_c, t = _cut(scratch[: 4 * n], 4)
    c, i, f, g, o = _cut(now[k:], 5)
    di, df, dg, do = _cut(d, 4)
    np.tanh(new[k : k + n], out=tanh_c)
    np.multiply(dh, tanh_c, out=do)
    _one_minus_square(tanh_c, tanh_c)
    tanh_c *= dh
    tanh_c *= o
    dc += tanh_c
    np.multiply(dc, g, out=di)
    np.multiply(dc, c, out=df)
    np.multiply(dc, i, out=dg)
    dc *= f
    _times_slope_of_sigmoid(d[: 2 * n], now[k + n : k + 3 * n], scratch[4 * n :])
    _times_slope_of_sigmoid(do, o, t)
    _one_minus_square(g, t)
    dg *= t


def _lstm_carry(w: Array, d: Array, size: Sizes, scratch: Array) -> None:
    """Take dh to the step before."""
    np.matmul(w, d, out=scratch[: size.hidden])


def _lstm_weight(now: Array, d: Array, size: Sizes, out: Array) -> None:
    np.matmul(now[: size.rows], d.T, out=out)


def _gru_forward(w: Array, now: Array, new: Array, size: Sizes, scratch: Array) -> None:
    """Do a step: rows r, z, n, q = W_hh h + b_hh of `now`, then h of `new`."""
    k, n, cut = size.rows, size.hidden, size.n_in + 1
    a, q = now[k : k + 3 * n], now[k + 3 * n :]
    np.matmul(w[:, :cut], now[:cut], out=a)
    np.matmul(w[:, cut:], now[cut:k], out=scratch)
    a[: 2 * n] += scratch[: 2 * n]
    _tanh_to_sigmoid(a[: 2 * n])
    r, z, m = _cut(a, 3)
    q[...] = scratch[2 * n :]
    h, product = new[k - n : k], scratch[:n]
    np.multiply(r, q, out=product)
    m += product
    np.tanh(m, out=m)
    np.subtract(now[k - n : k], m, out=h)
    h *= z
    h += m


def _gru_backward(
    now: Array, new: Array, d: Array, size: Sizes, scratch: Array
) -> None:
    """Write the slopes d of a step, and keep what of dh goes straight through."""
    k, n = size.rows, size.hidden
    dh, through, t = _cut(scratch[: 3 * n], 3)
    r, z, m, q = _cut(now[k:], 4)
    dr, dz, dm, dq = _cut(d, 4)
    np.subtract(now[k - n : k], m, out=dz)
    dz *= dh
    np.multiply(dh, z, out=through)
    np.subtract(dh, through, out=dm)
    _one_minus_square(m, t)
    dm *= t
    np.multiply(dm, r, out=dq)
    np.multiply(dm, q, out=dr)
    _times_slope_of_sigmoid(d[: 2 * n], now[k : k + 2 * n], scratch[4 * n :])


def _gru_carry(w: Array, d: Array, size: Sizes, scratch: Array) -> None:
    """Take dh to the step before."""
    n = size.hidden
    dh, through, t = _cut(scratch[: 3 * n], 3)
    np.matmul(w[:, : 2 * n], d[: 2 * n], out=dh)
    np.matmul(w[:, 2 * n :], d[3 * n :], out=t)
    dh += t
    dh += through


def _gru_weight(now: Array, d: Array, size: Sizes, out: Array) -> None:
    k, n, cut = size.rows, size.hidden, size.n_in + 1
    np.matmul(now[:cut], d[: 3 * n].T, out=out[:cut])
    np.matmul(now[cut:k], d[: 2 * n].T, out=out[cut:, : 2 * n])
    np.matmul(now[cut:k], d[3 * n :].T, out=out[cut:, 2 * n :])


KERNELS = {
    "lstm": _Kernel(5, _lstm_forward, _lstm_backward, _lstm_carry, _lstm_weight),
    "gru": _Kernel(4, _gru_forward, _gru_backward, _gru_carry, _gru_weight),
}


def _to_sigmoid(x: Array) -> None:
    """Make sigmoid(2 a) of tanh(a), in place."""
    x *= 0.5
    x += 0.5


def _tanh_to_sigmoid(x: Array) -> None:
    """Make sigmoid(2 a) of a, in place."""
    np.tanh(x, out=x)
    _to_sigmoid(x)


def _one_minus_square(y: Array, out: Array) -> None:
    """Write 1 - y^2, the derivative of tanh where it is y."""
    np.multiply(y, y, out=out)
    np.subtract(1, out, out=out)


def _times_slope_of_sigmoid(d: Array, y: Array, scratch: Array) -> None:
    """Multiply d by y - y^2, the derivative of the sigmoid where it is y."""
    np.multiply(y, y, out=scratch)
    np.subtract(y, scratch, out=scratch)
    d *= scratch


def _steps(array: Array, b: slice, rows: int) -> Any:
    """Return a block's memory as (steps, rows, examples)."""
    return array[b].reshape(array.shape[1] // rows, rows, b.stop - b.start)


def _cut(rows: Array, count: int) -> Any:
    """Return `count` equal parts of the rows."""
    return rows.reshape(count, len(rows) // count, rows.shape[1])


def _blocks(batch: int) -> Sequence[slice]:
    """Return the blocks of a batch, equal but for one example."""
    count = max(1, -(-batch // BLOCK))
    ends = [batch * i // count for i in range(count + 1)]
    return [slice(*pair) for pair in pairwise(ends)]


def _each_block(work: Callable[[slice], None], batch: int) -> None:
    blocks = _blocks(batch)

    def share(places: slice) -> None:
        for b in blocks[places]:
            work(b)

    threads.share(share, len(blocks))
