"""Random draws inside a step: the key is an input, so a replayed step draws anew."""

from __future__ import annotations

from typing import Any

from sillar.backends import Array
from sillar.core.tape import primitive


@primitive
def random_uniform(xp: Any, key: Array, *, shape: tuple[int, ...], dtype: Any) -> Array:
    """Draw from [0, 1) with the two words of an `Rng`'s key."""
    return xp.random_uniform(key, shape, str(dtype))


@primitive
def random_normal(xp: Any, key: Array, *, shape: tuple[int, ...], dtype: Any) -> Array:
    """Draw from the standard normal with the two words of an `Rng`'s key."""
    return xp.random_normal(key, shape, str(dtype))
