"""Cases of convolution, pooling, normalisation, attention and recurrent sweeps."""

from __future__ import annotations

from typing import Any

import numpy as np

from sillar.backends import Window
from sillar.core import normalization, ops
from sillar.core.attention import attention, attention_slope
from sillar.core.share import over_shares
from sillar.core.tape import lift
from sillar.nn import sweep
from sillar.testing.cases.draws import Draws

draws = Draws(21)
normal, apart = draws.normal, draws.apart

WINDOW = Window((3, 2), (2, 1), ((1, 0), (1, 1)), (1, 2))
POOL = Window((2, 2), (1, 2))


def batch_norm(x: Any, weight: Any, bias: Any, *, eps: float) -> Any:
    """Normalise by the statistics of `x`, which the rules count as part of it."""
    return normalization.batch_norm(x, weight, bias, *statistics(x), eps=eps)


def batch_norm_input(g: Any, x: Any, weight: Any, *, eps: float) -> Any:
    """Return the gradient of `batch_norm` for its input."""
    g, x = lift(g), lift(x)
    slope = batch_norm_weight(g, x, weight, eps=eps).detach()
    total = g.detach().sum(axis=tuple(range(g.ndim - 1)))
    means = (t * (total.size / max(1, g.size)) for t in (slope, total))
    return normalization.batch_norm_input(g, x, weight, *statistics(x), *means, eps=eps)


def batch_norm_weight(g: Any, x: Any, weight: Any, *, eps: float) -> Any:
    """Return the gradient of `batch_norm` for its weight."""
    return normalization.batch_norm_weight(g, x, weight, *statistics(x), eps=eps)


def statistics(x: Any) -> Any:
    """Return the statistics of each channel, as numbers."""
    centre, spread, _ = normalization.channel_statistics(lift(x).detach())
    return centre, spread


# Primitives that are given what was computed before, as functions of the rest.
SAVED = {
    batch_norm: normalization.batch_norm,
    batch_norm_input: normalization.batch_norm_input,
    batch_norm_weight: normalization.batch_norm_weight,
}


def primitive_of(op: Any) -> Any:
    """Return the primitive that a case is about."""
    return SAVED.get(op, op)


SEEN = np.array([[True, True, False], [False, False, False]])[:, None, None]
PAIRED = np.array([[[[True, False, True], [False, True, True], [True, True, True]]]])

# name: batch, tokens and width of queries, keys and values; mask, heads, causal
ATTENDING = {
    "heads": ((2, 3, 4), True, 2, False),
    "causal": ((2, 3, 2), True, 1, True),
    "mask": ((2, 3, 2), SEEN, 2, False),
    "pairs": ((2, 3, 2), PAIRED, 1, True),
    "one": ((1, 1, 2), True, 2, True),
    "empty": ((0, 3, 2), True, 1, True),
}


def attending() -> dict[str, Any]:
    """Return the cases of attention, then those of its gradient."""
    found = {}
    for name, ((batch, n, width), mask, heads, causal) in ATTENDING.items():
        given = [normal(batch, n, 3 * width), mask]
        static = {"heads": heads, "causal": causal}
        found[f"attention-{name}"] = (attention, given, static)
        given = [normal(batch, n, width), *given]
        found[f"attention_slope-{name}"] = (attention_slope, given, static)
    return found


# primitive, tensor arguments, static parameters
KERNELS = {
    **attending(),
    "over_shares": (over_shares, [normal(2, 3)], {}),
    "over_shares-scalar": (over_shares, [normal()], {}),
    "over_shares-empty": (over_shares, [normal(0, 3)], {}),
    "channel_squares": (normalization.channel_squares, [normal(4, 3), normal(3)], {}),
    "channel_squares-images": (
        normalization.channel_squares,
        [normal(2, 2, 3, 2), normal(2)],
        {},
    ),
    "channel_squares-empty": (
        normalization.channel_squares,
        [normal(0, 3), normal(3)],
        {},
    ),
    "batch_norm": (batch_norm, [normal(5, 3), normal(3), normal(3)], {"eps": 0.1}),
    "batch_norm-images": (
        batch_norm,
        [normal(2, 2, 3, 2), normal(2), normal(2)],
        {"eps": 0.1},
    ),
    "batch_norm-weak": (batch_norm, [normal(5, 3), 1.0, 0.0], {"eps": 0.1}),
    "batch_norm-one": (batch_norm, [normal(3, 1), normal(1), normal(1)], {"eps": 0.1}),
    "batch_norm_input": (
        batch_norm_input,
        [normal(4, 3), normal(4, 3), normal(3)],
        {"eps": 0.1},
    ),
    "batch_norm_input-weak": (
        batch_norm_input,
        [normal(4, 3), normal(4, 3), 0.5],
        {"eps": 0.1},
    ),
    "batch_norm_weight": (
        batch_norm_weight,
        [normal(2, 3, 2), normal(2, 3, 2), normal(2)],
        {"eps": 0.1},
    ),
    "conv": (ops.conv, [normal(2, 5, 4, 2), normal(3, 2, 2, 3)], {"window": WINDOW}),
    "conv-groups": (
        ops.conv,
        [normal(2, 4, 4, 4), normal(2, 2, 2, 6)],
        {"window": Window((2, 2)), "groups": 2},
    ),
    "conv-empty": (
        ops.conv,
        [normal(0, 4, 4, 2), normal(2, 2, 2, 3)],
        {"window": Window((2, 2))},
    ),
    "conv_input": (
        ops.conv_input,
        [normal(2, 2, 4, 3), normal(3, 2, 2, 3)],
        {"size": (5, 4), "window": WINDOW},
    ),
    "conv_input-groups": (
        ops.conv_input,
        [normal(2, 3, 3, 6), normal(2, 2, 2, 6)],
        {"size": (4, 4), "window": Window((2, 2)), "groups": 2},
    ),
    "conv_weight": (
        ops.conv_weight,
        [normal(2, 5, 4, 2), normal(2, 2, 4, 3)],
        {"window": WINDOW},
    ),
    "conv_weight-groups": (
        ops.conv_weight,
        [normal(2, 4, 4, 4), normal(2, 3, 3, 6)],
        {"window": Window((2, 2)), "groups": 2},
    ),
    "max_pool": (ops.max_pool, [apart(2, 3, 4, 2)], {"window": POOL}),
    "max_pool-gaps": (
        ops.max_pool,
        [apart(1, 5, 5, 1)],
        {"window": Window((2, 1), (3, 2))},
    ),
    "max_pool-empty": (ops.max_pool, [apart(0, 3, 4, 2)], {"window": POOL}),
    "max_pool_at": (
        ops.max_pool_at,
        [normal(2, 3, 4, 2), apart(2, 3, 4, 2)],
        {"window": POOL},
    ),
    "max_unpool": (
        ops.max_unpool,
        [normal(2, 2, 2, 2), apart(2, 3, 4, 2)],
        {"window": POOL},
    ),
    "sum_pool": (ops.sum_pool, [normal(2, 3, 4, 2)], {"window": POOL}),
    "sum_pool-empty": (ops.sum_pool, [normal(0, 3, 4, 2)], {"window": POOL}),
    "sum_unpool": (
        ops.sum_unpool,
        [normal(2, 2, 2, 2)],
        {"size": (3, 4), "window": POOL},
    ),
}

SWEEPS = {
    f"{op.name}-{name}": (op, [normal(*shape) for shape in shapes], {"cell": cell})
    for cell, gates in (("lstm", 4), ("gru", 3))
    for name, (steps, n_in, batch, hidden) in {
        cell: (3, 2, 2, 2),
        f"{cell}-one": (1, 1, 1, 1),
        f"{cell}-empty": (2, 1, 0, 1),
    }.items()
    for op, shapes in (
        (
            sweep.recurrent,
            [(steps, n_in, batch), (n_in + 2 + hidden, gates * hidden)],
        ),
        *(
            (
                op,
                [
                    (steps, hidden, batch),
                    (steps, n_in, batch),
                    (n_in + 2 + hidden, gates * hidden),
                ],
            )
            for op in (sweep.recurrent_input, sweep.recurrent_weight)
        ),
    )
}

X, W = normal(3, 2, 2), normal(2 + 2 + 2, 8)
SWEEPS |= {
    "recurrent-last": (sweep.recurrent, [X, W], {"cell": "lstm", "last": True}),
    "recurrent_input-last": (
        sweep.recurrent_input,
        [normal(1, 2, 2), X, W],
        {"cell": "lstm", "last": True},
    ),
    "recurrent_weight-last": (
        sweep.recurrent_weight,
        [normal(1, 2, 2), X, W],
        {"cell": "lstm", "last": True},
    ),
}
