"""Parser: many lines at a time as numbers of their templates."""

from __future__ import annotations

import re

import numpy as np

from sillar.data import LogTokenizer

DIGITS = re.compile(rb"[0-9]+")
KNOWN = 65_536  # shapes of lines that are remembered
LONG = 1024  # bytes of a shape that is not


class Parser:
    """Lines of bytes as template numbers, exactly those of a `LogTokenizer`.

    The tokenizer takes words with a digit for equal. So lines that differ in nothing
    but digits have one template, and it is looked up once for all of them.
    """

    def __init__(self, tokenizer: LogTokenizer) -> None:
        self.tokenizer = tokenizer
        self.known: dict[bytes, int] = {}

    def __call__(self, block: bytes) -> np.ndarray:
        """Return the number of each line in a block of whole lines, int64 (n,)."""
        shapes = DIGITS.sub(b"0", block).split(b"\n")
        shapes.pop()  # after the last line's end
        try:
            numbers = list(map(self.known.__getitem__, shapes))
        except KeyError:
            numbers = list(map(self._number, shapes))
        return np.array(numbers, np.int64)

    def _number(self, shape: bytes) -> int:
        found = self.known.get(shape)
        if found is None:
            line = shape.decode("utf-8", "replace")
            found = int(self.tokenizer([line])[0])
            if len(self.known) >= KNOWN:
                self.known.clear()
            if len(shape) <= LONG:
                self.known[shape] = found
        return found
