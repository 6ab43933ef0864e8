"""Sequences drawn from a model that says what comes next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sillar.core.rng import Rng
from sillar.errors import ConfigError, DataError, ShapeError
from sillar.nn import Layer
from sillar.optim.checks import at_least_zero, integer
from sillar.train.evaluate import predict


def sample(
    model: Layer,
    start: Sequence[int],
    *,
    length: int,
    context: int | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
) -> Iterator[int]:
    """Draw `length` numbers that go on after those in `start`, one by one.

    The model turns integers (1, n) into logits (1, n, classes); those at the last place
    are for the next number. It sees the last `context` numbers, or all. Logits are
    divided by `temperature`; at 0 the largest wins. With `top_k` only the k largest are
    drawn from.
    """
    length = integer("sample: length", length, low=0)
    tokens = [int(token) for token in start]
    if not tokens:
        raise ConfigError("sample: expected at least one number to start with")
    if context is not None:
        context = integer("sample: context", context)
    if top_k is not None:
        top_k = integer("sample: top_k", top_k)
    temperature = at_least_zero("sample: temperature", temperature)
    draws = Rng(seed).split("sample").uniform((length,), "float64")
    return _drawn(model, tokens, context, temperature, top_k, draws)


def _drawn(
    model: Layer,
    tokens: list[int],
    context: int | None,
    temperature: float,
    top_k: int | None,
    draws: Any,
) -> Iterator[int]:
    for u in draws:
        seen = tokens[-context:] if context else tokens
        outputs = predict(model, np.array([seen]))
        if outputs.ndim != 3 or outputs.shape[:2] != (1, len(seen)):
            raise ShapeError(
                f"sample: expected logits (1, {len(seen)}, classes) for numbers"
                f" (1, {len(seen)}), got {outputs.shape}: the model must say at each"
                " place what comes next"
            )
        token = choose(outputs[0, -1], float(u), temperature, top_k)
        tokens.append(token)
        yield token


def choose(logits: Any, u: float, temperature: float, top_k: int | None) -> int:
    """Return the class that u from [0, 1) chooses by the softmax of logits (classes,).

    Classes are laid side by side on [0, 1), the likeliest first.
    """
    if not np.isfinite(logits).all():
        raise DataError("sample: the model gives NaN or infinity: train it again")
    order = np.argsort(-logits, kind="stable")[:top_k]
    if temperature == 0:
        return int(order[0])
    z = logits[order].astype(np.float64)
    with np.errstate(over="ignore", under="ignore"):  # a tiny temperature: exp(-inf)
        p = np.exp((z - z[0]) / temperature)
    edges = np.cumsum(p)
    place = int(np.searchsorted(edges, u * edges[-1], side="right"))
    return int(order[min(place, len(order) - 1)])
