"""Recurrent sweeps, forward and backward, in blocks of the batch that stay in cache.

Features come before examples, so that a gate is one contiguous piece, a step is one
product of matrices, and both biases are rows of it. A sigmoid is a tanh of half its
argument, and the halves are in the weights. A block's memory is contiguous: the arrays
that the kernels hand on have the batch first, and only these kernels read the rest. On
the way back, the gradients of a block are made while its slopes are in cache. In mixed
precision the rows of the cell, which are most of what is kept, are narrowed step by
step while they are in cache; operands of products stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from sillar.backends.base import Array
from sillar.backends.numpy import half, threads
from sillar.backends.recurrent import GATES, Sizes, sizes

BLOCK = 512  # examples
SHORT = 1 << 24  # multiplications in a product that one thread does sooner than two


class _Kernel(NamedTuple):
    """A cell: how many times `hidden` rows of its own it keeps, and how it goes."""

    kept: int
    forward: Callable[..., None]
    backward: Callable[..., None]
    carry: Callable[..., None]
    weight: Callable[..., None]


def keep(cell: str, x: Array, w: Array, stored: str | None = None) -> Array:
    """Return what the gradients need, with the outputs in it: (batch, ...).

    For each step and one more: the rows x, 1, 1, h, and then those of the cell, which
    are in 16 bits if `stored` is "bfloat16" or "float16".
    """
    size, kernel = sizes(cell, x, w), KERNELS[cell]
    n, batch = size.hidden, x.shape[2]
    dtype = np.result_type(x, w)
    kind = half.half(stored) if stored else dtype
    out = np.empty((batch, (size.steps + 1) * _room(size, cell, kind)), kind)
    halves = np.ones(w.shape[1], w.dtype)
    halves[: 2 * n] = 0.5
    halves[3 * n :] = 0.5
    turned = np.multiply(w, halves).T.copy()

    def work(b: slice) -> None:
        kept = _Kept(out, b, size, cell)
        kept.rows[:-1, : size.n_in] = x[:, :, b]
        kept.rows[:-1, size.n_in : size.n_in + 2] = 1
        kept.rows[0, size.n_in + 2 :] = 0  # h
        kept.cell(0)[:n] = 0  # an LSTM's c
        scratch = np.empty((GATES[cell] * n, kept.rows.shape[2]), dtype)
        for t in range(size.steps):
            kernel.forward(turned, kept, t, _used(size, t), scratch)
            kept.put(t)
        kept.put(size.steps)

    _each_block(work, batch, w.size)
    return out


def output(cell: str, x: Array, w: Array, kept: Array, last: bool) -> Array:
    """Return the outputs (time, hidden, batch), or the last one alone."""
    size, batch = sizes(cell, x, w), len(kept)
    first = size.steps if last else 1
    out = np.empty((size.steps + 1 - first, size.hidden, batch), np.result_type(x, w))
    for b in _blocks(batch):
        out[:, :, b] = _Kept(kept, b, size, cell).rows[first:, -size.hidden :]
    return out


def slopes(cell: str, g: Array, x: Array, w: Array, kept: Array, inputs: bool) -> Array:
    """Return the gradients of each block: (batch, ...).

    They are those for x (time, n_in, block), if `inputs`, and then for w transposed.
    """
    size, kernel = sizes(cell, x, w), KERNELS[cell]
    n, batch = size.hidden, len(kept)
    room = -(-w.size // max(1, batch // len(_blocks(batch))))
    width, dtype = inputs * size.steps * size.n_in + room, np.result_type(g, w)
    out = np.empty((batch, width), dtype)

    def work(b: slice) -> None:
        block, examples = _Kept(kept, b, size, cell), b.stop - b.start
        dx, dw = _gradients(out, b, size, w, inputs)
        d = np.empty((4 * n, examples), dtype)
        scratch, product = np.empty((6 * n, examples), dtype), np.empty_like(dw)
        scratch[: 2 * n] = dw[...] = 0  # dh and dc
        block.get(size.steps)
        for t in reversed(range(size.steps)):
            block.get(t)
            if t >= size.steps - len(g):  # the others have no gradient
                scratch[:n] += g[t - size.steps, :, b]
            kernel.backward(block, t, d, scratch)
            if inputs:
                np.matmul(w[: size.n_in], d[: w.shape[1]], out=dx[t])
            used = _used(size, t)
            kernel.weight(block.rows[t, :used], d, size, product[:, :used])
            dw[:, :used] += product[:, :used]
            if t:
                kernel.carry(w[-n:], d, size, scratch)

    if batch:
        _each_block(work, batch, w.size)
    return out


def input_gradient(cell: str, x: Array, w: Array, slopes: Array) -> Array:
    """Return the gradient for x (time, n_in, batch)."""
    size, batch = sizes(cell, x, w), len(slopes)
    out = np.empty((size.steps, size.n_in, batch), slopes.dtype)
    for b in _blocks(batch):
        if batch:
            out[:, :, b] = _gradients(slopes, b, size, w, True)[0]
    return out


def weight_gradient(
    cell: str, x: Array, w: Array, kept: Array, slopes: Array, inputs: bool
) -> Array:
    """Return the gradient for w."""
    out, batch = np.zeros(w.shape[::-1], slopes.dtype), len(slopes)
    for b in _blocks(batch):
        if batch:
            out += _gradients(slopes, b, sizes(cell, x, w), w, inputs)[1]
    return out.T


def _gradients(
    array: Array, b: slice, size: Sizes, w: Array, inputs: bool
) -> tuple[Any, Any]:
    """Return the gradients of a block for x and w in their memory."""
    flat = array[b].reshape(-1)
    end = inputs * size.steps * size.n_in * (b.stop - b.start)
    dx = flat[:end].reshape(inputs * size.steps, size.n_in, b.stop - b.start)
    return dx, flat[end : end + w.size].reshape(w.shape[::-1])


def _used(size: Sizes, t: int) -> int:
    """Return how many rows x, 1, 1, h count in a step: at first h is zero."""
    return size.rows if t else size.n_in + 2


def _lstm_forward(w: Array, kept: _Kept, t: int, used: int, scratch: Array) -> None:
    """Do a step: rows c, i, f, g, o now, then h and c of the next step."""
    now, new, n = kept.cell(t), kept.cell(t + 1), kept.hidden
    gates, product, c = now[n:], scratch[:n], new[:n]
    np.matmul(w[:, :used], kept.rows[t, :used], out=gates)
    np.tanh(gates, out=gates)
    _to_sigmoid(gates[: 2 * n])
    _to_sigmoid(gates[3 * n :])
    i, f, g, o = _cut(gates, 4)
    np.multiply(f, now[:n], out=c)
    np.multiply(i, g, out=product)
    c += product
    np.tanh(c, out=product)
    np.multiply(o, product, out=kept.rows[t + 1, -n:])


def _lstm_backward(kept: _Kept, t: int, d: Array, scratch: Array) -> None:
    """Write the slopes d of a step, and take dc to the step before."""
    n = kept.hidden
    h = kept.rows[t + 1, -n:]
    dh, dc, a, p = _cut(scratch[: 4 * n], 4)
    c, i, f, g, o = _cut(kept.cell(t), 5)
    di, df, dg, do = _cut(d, 4)
    _times_rest(dh, h, o, h, do)  # dh tanh(c') o (1 - o)
    np.tanh(kept.cell(t + 1)[:n], out=a)
    _times_rest(dh, h, a, o, a)  # dh o (1 - tanh(c')^2)
    dc += a
    np.multiply(i, g, out=p)
    _times_rest(dc, p, i, p, di)  # dc g i (1 - i)
    _times_rest(dc, p, g, i, dg)  # dc i (1 - g^2)
    np.multiply(f, c, out=p)
    _times_rest(dc, p, f, p, df)  # dc c f (1 - f)
    dc *= f


def _lstm_carry(w: Array, d: Array, size: Sizes, scratch: Array) -> None:
    """Take dh to the step before."""
    np.matmul(w, d, out=scratch[: size.hidden])


def _lstm_weight(rows: Array, d: Array, size: Sizes, out: Array) -> None:
    """Write the gradient for the weights, transposed, of a step."""
    np.matmul(d, rows.T, out=out)


def _gru_forward(w: Array, kept: _Kept, t: int, used: int, scratch: Array) -> None:
    """Do a step: rows r, z, n, q = W_hh h + b_hh now, then h of the next step."""
    rows, n = kept.rows[t], kept.hidden
    cut = len(rows) - n - 1
    a, q = kept.cell(t)[: 3 * n], kept.cell(t)[3 * n :]
    np.matmul(w[:, :cut], rows[:cut], out=a)
    np.matmul(w[:, cut:used], rows[cut:used], out=scratch)
    a[: 2 * n] += scratch[: 2 * n]
    _tanh_to_sigmoid(a[: 2 * n])
    r, z, m = _cut(a, 3)
    q[...] = scratch[2 * n :]
    h, product = kept.rows[t + 1, -n:], scratch[:n]
    np.multiply(r, q, out=product)
    m += product
    np.tanh(m, out=m)
    np.subtract(rows[-n:], m, out=h)
    h *= z
    h += m


def _gru_backward(kept: _Kept, t: int, d: Array, scratch: Array) -> None:
    """Write the slopes d of a step, and keep what of dh goes straight through."""
    n = kept.hidden
    dh, through, a = _cut(scratch[: 3 * n], 3)
    cell = kept.cell(t)
    r, z, m, q = _cut(cell, 4)
    dr, dz, dm, dq = _cut(d, 4)
    np.subtract(kept.rows[t, -n:], m, out=dz)
    dz *= dh
    np.multiply(dh, z, out=through)
    np.subtract(dh, through, out=dm)
    _one_minus_square(m, a)
    dm *= a
    np.multiply(dm, r, out=dq)
    np.multiply(dm, q, out=dr)
    _times_slope_of_sigmoid(d[: 2 * n], cell[: 2 * n], scratch[4 * n :])


def _gru_carry(w: Array, d: Array, size: Sizes, scratch: Array) -> None:
    """Take dh to the step before."""
    n = size.hidden
    dh, through, t = _cut(scratch[: 3 * n], 3)
    np.matmul(w[:, : 2 * n], d[: 2 * n], out=dh)
    np.matmul(w[:, 2 * n :], d[3 * n :], out=t)
    dh += t
    dh += through


def _gru_weight(rows: Array, d: Array, size: Sizes, out: Array) -> None:
    """Write the gradient for the weights, transposed, of a step."""
    n, cut = size.hidden, size.n_in + 1
    np.matmul(d[: 3 * n], rows[:cut].T, out=out[:, :cut])
    np.matmul(d[: 2 * n], rows[cut:].T, out=out[: 2 * n, cut:])
    np.matmul(d[3 * n :], rows[cut:].T, out=out[2 * n :, cut:])


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


def _times_rest(d: Array, a: Array, b: Array, whole: Array, out: Array) -> None:
    """Write d (whole - a b)."""
    np.multiply(a, b, out=out)
    np.subtract(whole, out, out=out)
    out *= d


def _times_slope_of_sigmoid(d: Array, y: Array, scratch: Array) -> None:
    """Multiply d by y - y^2, the derivative of the sigmoid where it is y."""
    np.multiply(y, y, out=scratch)
    np.subtract(y, scratch, out=scratch)
    d *= scratch


def _room(size: Sizes, cell: str, dtype: Any) -> int:
    """Return how many elements a step of an example takes in memory of a data type."""
    own = KERNELS[cell].kept * size.hidden
    return size.rows + own if dtype.itemsize > 2 else 2 * size.rows + own + own % 2


class _Kept:
    """What a block keeps for each step: the rows x, 1, 1, h, and those of its cell."""

    def __init__(self, array: Array, b: slice, size: Sizes, cell: str) -> None:
        self.hidden, self.halves = size.hidden, array.dtype.itemsize == 2
        steps, examples = size.steps + 1, b.stop - b.start
        own = KERNELS[cell].kept * size.hidden
        flat = array[b].reshape(steps, examples * _room(size, cell, array.dtype))
        end = examples * size.rows * (2 if self.halves else 1)
        rows = flat[:, :end].view(np.float32) if self.halves else flat[:, :end]
        self.rows = rows.reshape(steps, size.rows, examples)
        cells = flat[:, end : end + examples * own]
        self.cells = cells.reshape(steps, own, examples)
        if self.halves:  # two steps in a type to compute in, the others in theirs
            self.wide = np.zeros((2, own, examples), np.float32)

    def cell(self, t: int) -> Any:
        """Return the rows of the cell at a step: (kept * hidden, examples)."""
        return self.wide[t % 2] if self.halves else self.cells[t]

    def put(self, t: int) -> None:
        """Keep the rows of the cell at a step."""
        if self.halves:
            half.narrow_into(self.wide[t % 2], self.cells[t])

    def get(self, t: int) -> None:
        """Take the rows of the cell at a step out of what is kept."""
        if self.halves:
            half.widen_into(self.cells[t], self.wide[t % 2])


def _cut(rows: Array, count: int) -> Any:
    """Return `count` equal parts of the rows."""
    return rows.reshape(count, len(rows) // count, rows.shape[1])


def _blocks(batch: int) -> Sequence[slice]:
    """Return the blocks of a batch, equal but for one example."""
    count = max(1, -(-batch // BLOCK))
    ends = [batch * i // count for i in range(count + 1)]
    return [slice(*pair) for pair in pairwise(ends)]


def _each_block(work: Callable[[slice], None], batch: int, weights: int) -> None:
    """Call work(block) for all blocks; short products are done by one thread."""
    short = weights * batch < SHORT
    with threads.single_threaded_blas() if short else nullcontext():
        for b in _blocks(batch):
            work(b)
