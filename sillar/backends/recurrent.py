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
    """Return for each step what the cell adds and the new h: (time, rows, batch).

    What does not depend on h is computed for all steps at once.
    """
    size = sizes(cell, x, w)
    n, turned = size.hidden, xp.matrix_transpose(w)
    above = size.n_in + (2 if cell == "lstm" else 1)  # rows of x and of its biases
    ones = xp.ones((size.steps, above - size.n_in, x.shape[2]), dtype=w.dtype)
    given = xp.matmul(turned[:, :above], xp.concat([x, ones], axis=1))
    h = xp.zeros((n, x.shape[2]), dtype=w.dtype)
    if cell == "lstm":
        kept = _lstm_keep(xp, given, turned[:, -n:], h)
    else:
        kept = _gru_keep(xp, given, turned[:, -n:], turned[:, above : above + 1], h)
    rows = sum(part.shape[0] for part in kept) // max(1, size.steps)
    return xp.reshape(xp.concat(kept), (size.steps, rows, x.shape[2]))


def _lstm_keep(xp: Any, given: Array, w: Array, h: Array) -> list[Array]:
    """Return the gates i, f, g and o, the new c and the new h, step by step."""
    n, c = h.shape[0], h
    half = xp.ones((n, 1), dtype=w.dtype) * 0.5
    halves = xp.concat([half, half, half + half, half])
    given, w, rest = given * halves, w * halves, 1.0 - halves
    kept = []
    for t in range(given.shape[0]):
        z = xp.tanh(given[t, ...] + xp.matmul(w, h)) * halves + rest
        c = z[n : 2 * n, :] * c + z[:n, :] * z[2 * n : 3 * n, :]
        h = z[3 * n :, :] * xp.tanh(c)
        kept += [z, c, h]
    return kept


def _gru_keep(xp: Any, given: Array, w: Array, bias: Array, h: Array) -> list[Array]:
    """Return the gates r and z, m, q = W_hh h + b_hh in it, and h, step by step."""
    n = h.shape[0]
    kept = []
    for t in range(given.shape[0]):
        a, b = given[t, ...], xp.matmul(w, h) + bias
        gate, q = _sigmoid(xp, a[: 2 * n, :] + b[: 2 * n, :]), b[2 * n :, :]
        m = xp.tanh(a[2 * n :, :] + gate[:n, :] * q)
        h = m + gate[n:, :] * (h - m)
        kept += [gate, m, q, h]
    return kept


def output(cell: str, x: Array, w: Array, kept: Array, last: bool) -> Array:
    """Return the outputs (time, hidden, batch) of a sweep, or the last one alone."""
    return kept[-1 if last else 0 :, -sizes(cell, x, w).hidden :, :]


def slopes(xp: Any, cell: str, g: Array, x: Array, w: Array, kept: Array) -> Array:
    """Return the loss's derivatives before the nonlinearities, from g at the outputs.

    They are those of the gates; for a GRU those of m come before those of r and z, and
    those of q after.
    """
    size = sizes(cell, x, w)
    steps, n = size.steps, size.hidden
    parts = [kept[:, i * n : (i + 1) * n, :] for i in range(kept.shape[1] // n)]
    factors, back = (
        (_lstm_factors(xp, parts), _lstm_slopes)
        if cell == "lstm"
        else (_gru_factors(xp, parts), _gru_slopes)
    )
    dh = dc = xp.zeros_like(g[0, ...])
    silent = steps - g.shape[0]  # steps whose outputs have no gradient
    found = []
    for t in reversed(range(steps)):
        dh = dh + g[t - silent, ...] if t >= silent else dh
        d, dh, dc = back(xp, w[-n:, :], [part[t, ...] for part in factors], dh, dc)
        found.append(d)
    return xp.stack(found[::-1])


def _lstm_factors(xp: Any, parts: list[Array]) -> list[Array]:
    """Return what dh and dc are multiplied by, for all steps."""
    i, f, g, o, c, _ = parts
    before, tanh_c = _before(xp, c), xp.tanh(c)
    of_c = [g * i * (1.0 - i), before * f * (1.0 - f), i * (1.0 - g * g)]
    of_h = tanh_c * o * (1.0 - o)
    return [o * (1.0 - tanh_c * tanh_c), xp.stack(of_c, axis=1), of_h, f]


def _lstm_slopes(
    xp: Any, w: Array, factors: list[Array], dh: Array, dc: Array
) -> tuple[Array, Array, Array]:
    through, of_c, of_h, f = factors
    dc = dc + dh * through
    n, batch = dh.shape
    d = xp.concat([xp.reshape(of_c * dc, (3 * n, batch)), dh * of_h])
    return d, xp.matmul(w, d), dc * f


def _gru_factors(xp: Any, parts: list[Array]) -> list[Array]:
    """Return what dh is multiplied by, for all steps."""
    r, z, m, q, h = parts
    h = _before(xp, h)
    dm = (1.0 - z) * (1.0 - m * m)
    of_gates = [dm, dm * q * r * (1.0 - r), (h - m) * z * (1.0 - z), dm * r]
    return [xp.stack(of_gates, axis=1), z]


def _gru_slopes(
    xp: Any, w: Array, factors: list[Array], dh: Array, dc: Array
) -> tuple[Array, Array, Array]:
    of_gates, z = factors
    n, batch = dh.shape
    d = xp.reshape(of_gates * dh, (4 * n, batch))
    return d, dh * z + xp.matmul(w, d[n:, :]), dc


def _before(xp: Any, rows: Array) -> Array:
    """Return what every step had of the one before, zeros at first."""
    return xp.concat([xp.zeros_like(rows[:1, ...]), rows[:-1, ...]])


def input_gradient(xp: Any, cell: str, x: Array, w: Array, slopes: Array) -> Array:
    """Return the gradient of a sweep for x."""
    n = sizes(cell, x, w).hidden
    if cell == "gru":
        slopes = xp.concat([slopes[:, n : 3 * n, :], slopes[:, :n, :]], axis=1)
    return xp.matmul(w[: x.shape[1], :], slopes)


def weight_gradient(
    xp: Any, cell: str, x: Array, w: Array, kept: Array, slopes: Array
) -> Array:
    """Return the gradient of a sweep for w."""
    size, n = sizes(cell, x, w), sizes(cell, x, w).hidden
    ones = xp.ones((size.steps, 1, x.shape[2]), dtype=kept.dtype)
    h = _before(xp, kept[:, -n:, :])
    above, below = xp.concat([x, ones], axis=1), xp.concat([ones, h], axis=1)
    of_input = of_state = slopes
    if cell == "gru":
        of_input = xp.concat([slopes[:, n : 3 * n, :], slopes[:, :n, :]], axis=1)
        of_state = slopes[:, n:, :]
    pairs = (above, of_input), (below, of_state)
    products = (xp.matmul(rows, xp.matrix_transpose(d)) for rows, d in pairs)
    return xp.concat([xp.sum(product, axis=0) for product in products])


def _sigmoid(xp: Any, x: Array) -> Array:
    return (xp.tanh(x * 0.5) + 1.0) * 0.5
