"""Is the gradient rule of a recorded call right? Differences in float64 tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sillar.backends import Array, backend_of
from sillar.core.dtypes import is_floating
from sillar.core.grad import grad
from sillar.core.rng import Rng
from sillar.core.tape import Primitive, enable_grad, no_grad
from sillar.core.tensor import Tensor, wrap

STEP = 1e-7
NUDGE = 1e-2  # moves inputs away from kinks, as equal values under a maximum
TOLERANCE = 1e-4
LARGE = 1e3  # as the scores that a mask makes -1e30
TRIES = 3  # a kink may be met once, by chance; a wrong rule is wrong each time
TOGETHER = {  # their statistics are those of x, so no input can be moved by itself
    "batch_norm",
    "batch_norm_input",
    "batch_norm_weight",
}

ENOUGH = {  # how many inputs say what comes out; the others only save work
    "recurrent": 2,
    "recurrent_input": 3,
    "recurrent_weight": 3,
}


def verdict(y: Tensor, places: Sequence[int]) -> str:
    """Return what is wrong with the rule that made `y`, or nothing.

    The call is repeated in float64, near its inputs. With random u and v, u . J v is
    computed by the rules of the inputs in `places`, and by central differences.
    """
    if type(y.node.primitive) is not Primitive:
        return "not checked: its forward is not kept; sillar.testing.check_layer can"
    if y.node.primitive.name in TOGETHER:
        return "not checked: its inputs depend on each other"
    for k in range(TRIES):
        by_rule, by_differences = _slopes(y.node, places, Rng(k).split("verdict"))
        size = max(abs(by_rule), abs(by_differences), 1e-3)
        if not abs(by_rule - by_differences) > TOLERANCE * size:
            return ""
    return (
        f"!! wrong rule: along a random direction it gives {by_rule:.4g},"
        f" differences give {by_differences:.4g}"
    )


def _slopes(node: Any, places: Sequence[int], rng: Rng) -> tuple[float, float]:
    """Return u . J v by the rules and by differences; NaN if these are too coarse."""
    given = node.inputs[: ENOUGH.get(node.primitive.name)]
    inputs = [_near(x, rng.split("near", k)) for k, x in enumerate(given)]
    for k in places:
        inputs[k].requires_grad = True
    with enable_grad():
        out = node.primitive(*inputs, **node.static)
    if str(out.dtype) != "float64":
        return math.nan, math.nan  # a cast
    u = _direction(rng.split("u"), out)
    directions = {k: _direction(rng.split("v", k), inputs[k]) for k in places}
    parts = grad(out, [inputs[k] for k in places], cotangents=Tensor(u))
    pairs = zip(parts, directions.values(), strict=True)
    by_rule = float(sum(np.sum(_array(part) * v) for part, v in pairs))
    with no_grad():
        ends = [_moved(node, inputs, directions, h) for h in (STEP, -STEP)]
    return by_rule, float(np.sum(u * (ends[0] - ends[1]))) / (2 * STEP)


def _direction(rng: Rng, x: Tensor) -> Any:
    """Draw a direction; it leaves out what is too large for small differences."""
    draws = rng.normal(x.shape, "float64")
    return np.where(np.abs(_array(x)) < LARGE, draws, 0.0)


def _near(x: Any, rng: Rng) -> Any:
    """Return a tensor in float64, close to x; what has no gradients as it is."""
    if not isinstance(x, Tensor):
        return x
    if not is_floating(x.data):
        return wrap(x.data)
    return wrap(_array(x) + NUDGE * (0.1 + rng.uniform(x.shape, "float64")))


def _moved(
    node: Any, inputs: Sequence[Any], directions: dict[int, Any], h: float
) -> Array:
    """Return the result where the inputs are moved by h along their directions."""
    moved = list(inputs)
    for k, v in directions.items():
        moved[k] = wrap(inputs[k].data + h * v)
    return _array(node.primitive(*moved, **node.static))


def _array(x: Tensor) -> Any:
    return backend_of(x.data).to_numpy(x.data)
