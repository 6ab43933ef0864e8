"""Checks of arguments and states, each with a message that states the interval."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from math import inf
from numbers import Real
from typing import Any

from sillar.errors import ConfigError


def at_least_zero(what: str, value: Any) -> float:
    """Return `value` as a float in [0, inf)."""
    return _number(what, value, "[0, inf)", lambda x: 0 <= x < inf)


def above_zero(what: str, value: Any) -> float:
    """Return `value` as a float in (0, inf)."""
    return _number(what, value, "(0, inf)", lambda x: 0 < x < inf)


def below_one(what: str, value: Any) -> float:
    """Return `value` as a float in [0, 1)."""
    return _number(what, value, "[0, 1)", lambda x: 0 <= x < 1)


def up_to(what: str, value: Any, high: float) -> float:
    """Return `value` as a float in [0, high]."""
    return _number(what, value, f"[0, {high!r}]", lambda x: 0 <= x <= high)


def integer(what: str, value: Any, low: int = 1) -> int:
    """Return `value` as an int that is at least `low`."""
    try:
        n = operator.index(value)
    except TypeError:
        n = low - 1
    if n < low:
        raise ConfigError(f"{what} must be an integer >= {low}, got {value!r}")
    return n


def same_names(what: str, expected: Iterable[str], got: Iterable[str]) -> None:
    """Raise unless the two hold the same names, in any order."""
    wanted, given = set(expected), set(got)
    if wanted != given:
        raise ConfigError(
            f"{what}: expected the entries {sorted(wanted)}; missing"
            f" {sorted(wanted - given)}, unknown {sorted(given - wanted)}: load a state"
            " that was saved with the same rule and the same transforms"
        )


def _number(
    what: str, value: Any, interval: str, inside: Callable[[float], bool]
) -> float:
    if not isinstance(value, Real) or not inside(float(value)):
        raise ConfigError(f"{what} must be in {interval}, got {value!r}")
    return float(value)  # a NumPy scalar would widen float32 arrays
