"""What may happen to a gradient vector before an optimizer's rule sees it.

Transforms run in the order given to `Optimizer.bind`, and that order has a meaning:
`(SkipNonFinite(), Accumulate(4), ClipNorm(1.0))` drops single bad gradients and clips
the mean of four good ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from sillar.backends import Array, backend_of
from sillar.errors import ConfigError, ShapeError
from sillar.optim.checks import above_zero, integer, same_names

SAFE = 1e-30  # a square above this lost nothing that matters to underflow


class Transform(ABC):
    """A map from gradient vector to gradient vector; it never writes into its input.

    One that is `pure` depends on the vector alone, and reads no number of it in Python
    where reading waits for a device: a compiled step can take it in.
    """

    pure = False

    @abstractmethod
    def __call__(self, g: Array) -> Array | None:
        """Return the vector to go on with, or None to hold this step back."""

    def reset(self) -> None:
        """Forget the gradients of an earlier run; `Optimizer.bind` does so."""

    def state(self) -> dict[str, Any]:
        """Return the arrays and numbers that a resumed run needs."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up a saved state."""
        same_names(f"{type(self).__name__}.load_state", (), state)


@dataclass(frozen=True)
class ClipNorm(Transform):
    """g * min(1, max_norm / |g|), where |g| is the L2 norm of the whole vector.

    Clipping cannot mend NaN or infinity: such a vector passes unchanged, so put
    `SkipNonFinite` first (Pascanu et al. 2013, algorithm 1).
    """

    pure = True
    max_norm: float

    def __post_init__(self) -> None:
        above_zero("ClipNorm: max_norm", self.max_norm)

    def __call__(self, g: Array) -> Array:
        if not backend_of(g).on_host:
            return _clipped(g, float(self.max_norm))
        limit, unit, square = float(self.max_norm), g, _square(g)
        if not SAFE < square < inf:  # squares left the range, or the vector is bad
            largest = _largest(g)
            if not 0 < largest < inf:
                return g
            unit = g / largest
            limit, square = limit / largest, _square(unit)
        norm = square**0.5
        return g if norm <= limit else unit * (float(self.max_norm) / norm)


@dataclass(frozen=True)
class ClipValue(Transform):
    """Each element limited to [-limit, limit]; NaN stays NaN."""

    pure = True
    limit: float

    def __post_init__(self) -> None:
        above_zero("ClipValue: limit", self.limit)

    def __call__(self, g: Array) -> Array:
        limit = float(self.limit)
        return backend_of(g).clip(g, -limit, limit)


class Accumulate(Transform):
    """The mean of every `steps` vectors; None until the last of them has come.

    With batches of equal size that is the gradient of one batch `steps` times as large.
    """

    def __init__(self, steps: int) -> None:
        self.steps = integer("Accumulate: steps", steps)
        self.reset()

    def reset(self) -> None:
        """Begin with the first of `steps` vectors."""
        self._count = 0
        self._total: Array = None

    def __call__(self, g: Array) -> Array | None:
        if self._count == 0:
            self._total = backend_of(g).copy(g)
        elif self._total.shape != g.shape:
            raise ShapeError(
                f"Accumulate: expected a vector of shape {self._total.shape} as before,"
                f" got {g.shape}: use an Accumulate of its own for each model"
            )
        else:
            self._total = backend_of(g).asarray(self._total) + g
        self._count += 1
        if self._count < self.steps:
            return None
        total, self._total, self._count = self._total, None, 0
        return total / self.steps

    def state(self) -> dict[str, Any]:
        """Return how many vectors have come and, when any has, their sum."""
        if not self._count:
            return {"count": 0}
        total = backend_of(self._total).to_numpy(self._total)
        return {"count": self._count, "total": np.array(total)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up a saved state."""
        where = "Accumulate.load_state"
        count = integer(f"{where}: count", state.get("count", 0), low=0)
        same_names(where, ("count", "total") if count else ("count",), state)
        if count >= self.steps:
            raise ConfigError(
                f"{where}: expected a count below steps={self.steps}, got {count}:"
                " make it with the same steps as the saved one"
            )
        self._count = count
        self._total = np.array(state["total"]) if count else None

    def __repr__(self) -> str:
        return f"Accumulate(steps={self.steps})"


class SkipNonFinite(Transform):
    """Hold the step back when any element is NaN or infinite; `skipped` counts those.

    Parameters, optimizer state and step count then stay as they were.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Count from zero."""
        self.skipped = 0

    def __call__(self, g: Array) -> Array | None:
        xp = backend_of(g)
        if bool(xp.all(xp.isfinite(g))):
            return g
        self.skipped += 1
        return None

    def state(self) -> dict[str, Any]:
        """Return how many steps were held back."""
        return {"skipped": self.skipped}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up a saved state."""
        same_names("SkipNonFinite.load_state", ("skipped",), state)
        what = "SkipNonFinite.load_state: skipped"
        self.skipped = integer(what, state["skipped"], low=0)

    def __repr__(self) -> str:
        return "SkipNonFinite()"


def _clipped(g: Array, limit: float) -> Array:
    """Return g * min(1, limit / |g|) without a look at a number of it."""
    xp = backend_of(g)
    if not g.shape[0]:
        return g
    largest = xp.max(xp.abs(g))
    good = xp.logical_and(largest > 0, xp.isfinite(largest))
    largest = xp.where(good, largest, 1.0)
    unit = g / largest  # so that squares stay in the range
    norm = (unit @ unit) ** 0.5
    return xp.where(
        xp.logical_and(good, norm > limit / largest), unit * (limit / norm), g
    )


def _square(g: Array) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(g @ g)


def _largest(g: Array) -> float:
    xp = backend_of(g)
    return float(xp.max(xp.abs(g))) if g.shape[0] else 0.0
