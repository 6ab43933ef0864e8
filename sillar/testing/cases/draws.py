"""Random arguments, the same whatever was imported before."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np


class Draws:
    """Arrays in float64 from one seed, each new."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)

    def normal(self, *shape: int) -> Any:
        """Return standard normal numbers."""
        return np.asarray(self.generator.normal(size=shape))

    def positive(self, *shape: int) -> Any:
        """Return numbers in [0.5, 2)."""
        return np.asarray(self.generator.uniform(0.5, 2.0, shape))

    def apart(self, *shape: int) -> Any:
        """Return numbers around 0 that lie apart from it and from one another."""
        ranks = np.arange(prod(shape)) - prod(shape) // 2 + 0.25
        return np.asarray(self.generator.permutation(ranks).reshape(shape) * 0.25)

    def even(self, *shape: int) -> Any:
        """Return numbers that lie apart from every number of `apart`."""
        return np.asarray(self.apart(*shape) + 0.125)
