"""One layer of a recurrent network in one direction: step by step, or as one kernel.

Sequences are (time, features, batch) here, so that a gate is a stretch of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sillar.backends import Array, backend_of
from sillar.backends.recurrent import GATES
from sillar.core.functional import stack
from sillar.core.fused import as_composed
from sillar.core.ops import reshape, sigmoid, tanh, where
from sillar.core.tape import primitive
from sillar.core.tensor import Tensor, wrap

State = tuple[Tensor, ...]
Cell = Callable[
    [Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]], Sequence[Tensor]
]


class Weights(NamedTuple):
    """What a sweep computes with: (features, gates * hidden), and biases or None."""

    ih: Tensor
    hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None


def lstm_cell(
    a: Sequence[Tensor], b: Sequence[Tensor], state: Sequence[Tensor]
) -> State:
    """Return h and c after a step of `LSTM`."""
    i, f, g, o = (x + h for x, h in zip(a, b, strict=True))
    c = sigmoid(f) * state[1] + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


def gru_cell(
    a: Sequence[Tensor], b: Sequence[Tensor], state: Sequence[Tensor]
) -> State:
    """Return h after a step of `GRU`."""
    r, z = sigmoid(a[0] + b[0]), sigmoid(a[1] + b[1])
    n = tanh(a[2] + r * b[2])
    return (n + z * (state[0] - n),)


def sweep(
    cell: Cell, weights: Weights, xs: Tensor, state: State, mask: Tensor | None = None
) -> tuple[Tensor, State]:
    """Return the outputs (time, hidden, batch) of all steps, and the last state.

    Where the mask (time, 1, batch) is False, the state stands still and the output is
    zero.
    """
    kept = None if mask is None else _steps(mask)
    outputs, n = [], state[0].shape[0]
    for t, x in enumerate(_steps(xs)):
        a = _gates(weights.ih, weights.bias_ih, x, n)
        new = tuple(cell(a, _gates(weights.hh, weights.bias_hh, state[0], n), state))
        if kept is None:
            state = new
            outputs.append(new[0])
        else:
            pairs = zip(new, state, strict=True)
            state = tuple(where(kept[t], after, before) for after, before in pairs)
            outputs.append(where(kept[t], state[0], 0.0))
    return stack(outputs), state


def zeros_of(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return zeros of the type and back end of `like`."""
    return wrap(backend_of(like.data).zeros(shape, dtype=like.dtype))


def _gates(weight: Tensor, bias: Tensor | None, x: Tensor, n: int) -> list[Tensor]:
    """Return W x + b of x (features, batch), cut into gates."""
    y = weight.T @ x
    if bias is not None:
        y = y + bias.reshape(bias.size, 1)
    return [y[start : start + n] for start in range(0, y.shape[0], n)]


def _steps(xs: Tensor) -> list[Tensor]:
    """Return xs[0], xs[1], ..., cut in halves so that gradients are added in few."""
    n = xs.shape[0]
    if n == 1:
        return [xs.reshape(xs.shape[1:])]
    return _steps(xs[: n // 2]) + _steps(xs[n // 2 :])


CELLS: dict[str, tuple[Cell, int]] = {  # the cell, and how many tensors its state has
    "lstm": (lstm_cell, 2),
    "gru": (gru_cell, 1),
}


def composed(
    x: Tensor, w: Tensor, *, cell: str, last: bool = False, inputs: bool = True
) -> Tensor:
    """Return what `recurrent` returns, step by step."""
    step, states = CELLS[cell]
    d, hidden = x.shape[1], w.shape[1] // GATES[cell]
    weights = Weights(w[:d], w[d + 2 :], w[d], w[d + 1])
    state = (zeros_of(w, (hidden, x.shape[2])),) * states
    ys, state = sweep(step, weights, x, state)
    return reshape(state[0], shape=(1, *state[0].shape)) if last else ys


@primitive
def recurrent_keep(xp: Any, x: Array, w: Array, *, cell: str) -> Array:
    """Return what a sweep keeps for its gradients; only the back end can read it."""
    return xp.recurrent_keep(cell, x, w)


@primitive
def recurrent(
    xp: Any,
    x: Array,
    w: Array,
    kept: Array | None = None,
    *,
    cell: str,
    last: bool = False,
) -> Array:
    """Return the outputs (time, hidden, batch) of a "lstm" or "gru" over x from zeros.

    The rows of w are W_ih, b_ih, b_hh, W_hh. `kept` is recurrent_keep(x, w), if known.
    With `last` there is one output, that of the last step.
    """
    if kept is None:
        kept = xp.recurrent_keep(cell, x, w)
    return xp.recurrent_output(cell, x, w, kept, last)


@primitive
def recurrent_slopes(
    xp: Any, g: Array, x: Array, w: Array, kept: Array, *, cell: str, inputs: bool
) -> Array:
    """Return what the way back finds for the gradients, that for x only if `inputs`."""
    return xp.recurrent_slopes(cell, g, x, w, kept, inputs)


@primitive
def recurrent_input(
    xp: Any, g: Array, x: Array, w: Array, *known: Array, cell: str, last: bool = False
) -> Array:
    """Return the gradient of `recurrent` for x; `known` are kept and slopes."""
    _, slopes = known or _known(xp, g, x, w, cell)
    return xp.recurrent_input(cell, x, w, slopes)


@primitive
def recurrent_weight(
    xp: Any,
    g: Array,
    x: Array,
    w: Array,
    *known: Array,
    cell: str,
    last: bool = False,
    inputs: bool = True,
) -> Array:
    """Return the gradient of `recurrent` for w; `known` are kept and slopes."""
    kept, slopes = known or _known(xp, g, x, w, cell)
    return xp.recurrent_weight(cell, x, w, kept, slopes, inputs)


def _known(xp: Any, g: Array, x: Array, w: Array, cell: str) -> tuple[Array, Array]:
    kept = xp.recurrent_keep(cell, x, w)
    return kept, xp.recurrent_slopes(cell, g, x, w, kept, True)


def _gradients(
    places: list[int],
    g: Tensor,
    y: Tensor,
    x: Tensor,
    w: Tensor,
    kept: Tensor | None = None,
    *,
    cell: str,
    last: bool = False,
) -> list[Tensor | None]:
    """Return the gradients of `recurrent`, which share the way back through time."""
    if kept is None:
        kept = recurrent_keep(x, w, cell=cell)
    inputs = 0 in places
    slopes = recurrent_slopes(g, x, w, kept, cell=cell, inputs=inputs)
    given = g, x, w, kept, slopes
    found = {
        0: lambda: recurrent_input(*given, cell=cell, last=last),
        1: lambda: recurrent_weight(*given, cell=cell, last=last, inputs=inputs),
    }
    return [found[i]() if i in found else None for i in places]


recurrent.defvjp_all(_gradients)
as_composed(recurrent_input, composed, 0)
as_composed(recurrent_weight, composed, 1)
