"""Encoder: what turns raw data into arrays, and goes with the model that takes them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np


class Encoder(ABC):
    """A map from raw rows to an array (n, ...), learned from the rows to train on.

    `sillar.save(model, path, encoder=encoder)` keeps it in the model's file as plain
    data, and `sillar.load_encoder(path)` gives it back, from a closed list of classes.
    """

    @abstractmethod
    def fit(self, rows: Any, /) -> Self:
        """Learn what is needed from these rows, and no others; return the encoder."""

    @abstractmethod
    def __call__(self, rows: Any, /) -> np.ndarray:
        """Return the rows as an array, one entry for each; nothing is learned."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return what was learned as plain data, with the class as "type"."""

    @classmethod
    @abstractmethod
    def build(cls, described: Any) -> Self:
        """Return the encoder that was described; what is not one is refused."""
