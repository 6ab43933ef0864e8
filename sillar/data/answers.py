"""Answers: a column of answers that is gathered value by value, 8 bytes for each."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np

from sillar.data.table import kind_of
from sillar.errors import DataError

_MOST = 1 << 16  # different words


class Answers:
    """Integers stay integers, other numbers become floats, words become classes."""

    def __init__(self) -> None:
        self.values: array = array("q")
        self.words: dict[str, int] = {}
        self.kind = ""  # of all so far: integer, number or word

    def add(self, text: str) -> None:
        """Take the next answer; a DataError says what is wrong with it."""
        kind = kind_of(text)
        if kind == "nothing":
            raise DataError("expected an answer, got an empty cell; fill it in")
        if self.kind and "word" in (kind, self.kind) and kind != self.kind:
            raise DataError(
                f"expected a {self.kind} as before, got {text[:40]!r}; write all"
                " answers as words or all as numbers"
            )
        if kind == "number" and self.kind != "number":
            self.values = array("d", self.values)
        self.kind = "number" if self.kind == "number" else kind
        try:
            self.values.append(self._value(text))
        except (OverflowError, ValueError):
            raise DataError(
                f"expected an integer of 64 bits, got {text[:40]!r}; correct it"
            ) from None

    def extend(self, texts: Iterable[str]) -> None:
        """Take many answers."""
        for text in texts:
            self.add(text)

    def _value(self, text: str) -> int | float:
        if self.kind != "word":
            return int(text) if self.kind == "integer" else float(text)
        if len(self.words) == _MOST and text not in self.words:
            raise DataError(
                f"expected at most {_MOST:,} different words as answers, got more;"
                " is this the column of answers?"
            )
        return self.words.setdefault(text, len(self.words))

    def finish(self, dtype: np.dtype) -> tuple[np.ndarray, tuple[str, ...] | None]:
        """Return y, and for words the sorted classes that it numbers."""
        y = np.frombuffer(self.values, self.values.typecode)
        if self.kind == "word":
            classes = tuple(sorted(self.words))
            codes = {name: code for code, name in enumerate(classes)}
            return np.array([codes[word] for word in self.words])[y], classes
        if self.kind != "number":
            return y.astype(np.int64), None
        with np.errstate(over="ignore"):
            y = y.astype(dtype)
        if not np.isfinite(y).all():
            row = int(np.argmin(np.isfinite(y)))
            raise DataError(
                f"row {row}: expected an answer that fits {dtype}, got {y[row]};"
                " correct it, or leave the row out"
            )
        return y, None
