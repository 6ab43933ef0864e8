"""LogWindows: so many lines of a log as counts of their templates."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from sillar.data.encoder import Encoder
from sillar.data.log_tokenizer import LogTokenizer
from sillar.errors import ConfigError, FormatError


class LogWindows(Encoder):
    """Lines as log(1 + count) of each template in windows of `window` lines.

    n lines give float32 (n // window, size), size being the number of templates and one
    for unknown lines; the rest of the lines makes no window. `tokenizer` is a
    `LogTokenizer`, which `fit` fits; calls learn nothing.
    """

    def __init__(
        self, window: int = 100, *, tokenizer: LogTokenizer | None = None
    ) -> None:
        if type(window) is not int or not 1 <= window < 2**31:
            raise ConfigError(
                f"LogWindows: window must be an integer >= 1, got {window!r:.40}"
            )
        self.window = window
        self.tokenizer = LogTokenizer() if tokenizer is None else tokenizer

    @property
    def size(self) -> int:
        """Return how many numbers a window has."""
        return self.tokenizer.size

    def fit(self, lines: Sequence[str], /) -> Self:
        self.tokenizer.fit(lines)
        return self

    def __call__(self, lines: Sequence[str], /) -> np.ndarray:
        numbers = self.tokenizer(lines)
        whole = len(numbers) // self.window * self.window
        return self.counted(numbers[:whole].reshape(-1, self.window))

    def counted(self, numbers: np.ndarray) -> np.ndarray:
        """Return windows of template numbers (k, lines) as the model sees them."""
        places = numbers + self.size * np.arange(len(numbers))[:, np.newaxis]
        counts = np.bincount(places.ravel(), minlength=self.size * len(numbers))
        return np.log1p(counts.reshape(-1, self.size)).astype(np.float32)

    def describe(self) -> dict[str, Any]:
        inner = self.tokenizer.describe()
        return {"type": "LogWindows", "window": self.window, "tokenizer": inner}

    @classmethod
    def build(cls, described: Any) -> Self:
        table = described if isinstance(described, dict) else {}
        if table.keys() != {"type", "window", "tokenizer"} or (
            table["type"] != "LogWindows"
        ):
            raise FormatError(
                f"LogWindows: expected what describe() gives, got"
                f" {reprlib.repr(described)}"
            )
        tokenizer = LogTokenizer.build(table["tokenizer"])
        try:
            return cls(table["window"], tokenizer=tokenizer)
        except ConfigError as error:
            raise FormatError(str(error)) from None

    def __repr__(self) -> str:
        return f"LogWindows(window={self.window}, {self.tokenizer!r})"
