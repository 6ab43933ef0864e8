"""Recurrent sweeps in the functions of an Array API namespace, for every back end.

A sweep goes over x (time, n_in, batch) from a state of zeros. Its weights are one
matrix w (n_in + 2 + hidden, gates * hidden) with the rows W_ih, b_ih, b_hh, W_hh, so
that one step is a product with the rows x, 1, 1, h. What a sweep keeps for its
gradients, and the slopes (the loss's derivatives before the nonlinearities), only its
back end can read.
"""

from __future__ import annotations

from typing import Any, NamedTuple

Array = Any  # a raw array of some back end

GATES = {"lstm": 4, "gru": 3}


class Sizes(NamedTuple):
    """How many steps, inputs, and hidden units a sweep has."""

    steps: int
    n_in: int
    hidden: int

    @property
    def rows(self) -> int:
        """Return how many rows the weights have."""
        return self.n_in + 2 + self.hidden


def sizes(cell: str, x: Array, w: Array) -> Sizes:
    """Return the sizes of a sweep over x with the weights w."""
    return Sizes(x.shape[0], x.shape[1], w.shape[1] // GATES[cell])


def keep(xp: Any, cell: str, x: Array, w: Array) -> Array:
    """Return for each step the rows x, 1, 1, h, what the cell adds, and the new h."""
    steps, _, n = sizes(cell, x, w)
    ones = xp.ones((2, x.shape[2]), dtype=w.dtype)
    h = xp.zeros((n, x.shape[2]), dtype=w.dtype)
    c, kept = h, []
    for t in range(steps):
        rows = xp.concat([x[t, ...], ones, h])
        if cell == "lstm":
            z = xp.matmul(xp.matrix_transpose(w), rows)
            i, f = _sigmoid(xp, z[:n, :]), _sigmoid(xp, z[n : 2 * n, :])
            g, o = xp.tanh(z[2 * n : 3 * n, :]), _sigmoid(xp, z[3 * n :, :])
            before, c = c, f * c + i * g
            h = o * xp.tanh(c)
            kept.append(xp.concat([rows, i, f, g, o, before, c, h]))
        else:
            a, b = _affine(xp, w, rows, rows.shape[0] - n - 1)
            r = _sigmoid(xp, a[:n, :] + b[:n, :])
            z = _sigmoid(xp, a[n : 2 * n, :] + b[n : 2 * n, :])
            q = b[2 * n :, :]
            m = xp.tanh(a[2 * n :, :] + r * q)
            h = m + z * (h - m)
            kept.append(xp.concat([rows, r, z, m, q, h]))
    return xp.stack(kept)


def output(cell: str, x: Array, w: Array, kept: Array, last: bool) -> Array:
    """Return the outputs (time, hidden, batch) of a sweep, or the last one alone."""
    return kept[-1 if last else 0 :, -sizes(cell, x, w).hidden :, :]


def slopes(xp: Any, cell: str, g: Array, x: Array, w: Array, kept: Array) -> Array:
    """Return the loss's derivatives before the nonlinearities, from g at the outputs.

    They are those of the gates; for a GRU those of q = W_hh h + b_hh in n come after.
    """
    size = sizes(cell, x, w)
    back = _lstm_slopes if cell == "lstm" else _gru_slopes
    dh = dc = xp.zeros_like(g[0, ...])
    silent = size.steps - g.shape[0]  # steps whose outputs have no gradient
    found = []
    for t in reversed(range(size.steps)):
        rows = kept[t, size.rows - size.hidden :, :]
        n = size.hidden
        parts = [rows[i * n : (i + 1) * n, :] for i in range(rows.shape[0] // n)]
        dh = dh + g[t - silent, ...] if t >= silent else dh
        d, dh, dc = back(xp, w[-n:, :], parts, dh, dc)
        found.append(d)
    return xp.stack(found[::-1])


def _lstm_slopes(
    xp: Any, w: Array, parts: list[Array], dh: Array, dc: Array
) -> tuple[Array, Array, Array]:
    _, i, f, g, o, before, c, _ = parts
    tanh_c = xp.tanh(c)
    dc = dc + dh * o * (1.0 - tanh_c * tanh_c)
    d = xp.concat(
        [
            dc * g * i * (1.0 - i),
            dc * before * f * (1.0 - f),
            dc * i * (1.0 - g * g),
            dh * tanh_c * o * (1.0 - o),
        ]
    )
    return d, xp.matmul(w, d), dc * f


def _gru_slopes(
    xp: Any, w: Array, parts: list[Array], dh: Array, dc: Array
) -> tuple[Array, Array, Array]:
    h, r, z, m, q, _ = parts
    dm = dh * (1.0 - z) * (1.0 - m * m)
    dr, dz = dm * q * r * (1.0 - r), dh * (h - m) * z * (1.0 - z)
    through = xp.matmul(w, xp.concat([dr, dz, dm * r]))
    return xp.concat([dr, dz, dm, dm * r]), dh * z + through, dc


def input_gradient(xp: Any, x: Array, w: Array, slopes: Array) -> Array:
    """Return the gradient of a sweep for x."""
    return xp.matmul(w[: x.shape[1], :], slopes[:, : w.shape[1], :])


def weight_gradient(
    xp: Any, cell: str, x: Array, w: Array, kept: Array, slopes: Array
) -> Array:
    """Return the gradient of a sweep for w."""
    size = sizes(cell, x, w)
    rows, n = kept[:, : size.rows, :], size.hidden
    turned = xp.matrix_transpose(slopes)
    if cell == "lstm":
        return xp.sum(xp.matmul(rows, turned), axis=0)
    above = xp.matmul(rows[:, : size.n_in + 1, :], turned[..., : 3 * n])
    of_state = xp.concat([turned[..., : 2 * n], turned[..., 3 * n :]], axis=-1)
    below = xp.matmul(rows[:, size.n_in + 1 :, :], of_state)
    return xp.concat([xp.sum(above, axis=0), xp.sum(below, axis=0)])


def _affine(xp: Any, w: Array, rows: Array, cut: int) -> tuple[Array, Array]:
    """Return W_ih x + b_ih and W_hh h + b_hh."""
    turned = xp.matrix_transpose(w)
    inner = xp.matmul(turned[:, :cut], rows[:cut, :])
    return inner, xp.matmul(turned[:, cut:], rows[cut:, :])


def _sigmoid(xp: Any, x: Array) -> Array:
    return (xp.tanh(x * 0.5) + 1.0) * 0.5
