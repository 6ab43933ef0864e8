"""Tokenisers: texts as rows of numbers, by characters or by words."""

from __future__ import annotations

import re
import reprlib  # what came may be nested deeper than repr can go
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np

from sillar.data.encoder import Encoder
from sillar.errors import ConfigError, DataError, FormatError

PAD = 0  # after the end of a text
UNKNOWN = 1  # what was not seen in `fit`
FIRST = 2  # the most frequent token
LOST = "\ufffd"  # what an unknown token is written as
_WORD = re.compile(r"\w+|[^\w\s]")


class Tokenizer(Encoder):
    """Texts as numbers of tokens, int64 (n, length), filled up with 0; 1 is unknown.

    `length` is how many tokens of a text are kept; None: as many as the longest of the
    texts given has. Of the tokens seen, the `max_tokens` most frequent are known.
    """

    def __init__(self, *, length: int | None = None, max_tokens: int = 20_000) -> None:
        asked = 1 if length is None else length
        for name, value in (("max_tokens", max_tokens), ("length", asked)):
            if type(value) is not int or not 1 <= value < 2**31:
                raise ConfigError(
                    f"{type(self).__name__}: {name} must be an integer >= 1, got"
                    f" {value!r:.40}"
                )
        self.length, self.max_tokens = length, max_tokens
        self.vocabulary: tuple[str, ...] = ()
        self._numbers: dict[str, int] = {}

    @abstractmethod
    def split(self, text: str) -> list[str]:
        """Return the tokens of a text."""

    @abstractmethod
    def join(self, tokens: Iterable[str]) -> str:
        """Return the text of tokens."""

    @property
    def size(self) -> int:
        """Return how many numbers there are, those of nothing and unknown included."""
        return FIRST + len(self.vocabulary)

    def fit(self, texts: Sequence[str], /) -> Self:
        counts = Counter(
            token for text in checked(self, texts) for token in self.split(text)
        )
        ranked = sorted(counts, key=lambda token: (-counts[token], token))
        self._know(ranked[: self.max_tokens])
        return self

    def __call__(self, texts: Sequence[str], /) -> np.ndarray:
        if not self.vocabulary:
            raise ConfigError(f"{type(self).__name__}: call fit(texts) first")
        rows = [self.split(text)[: self.length] for text in checked(self, texts)]
        width = self.length or max([0, *map(len, rows)])
        found = np.full((len(rows), width), PAD, np.int64)
        for i, tokens in enumerate(rows):
            found[i, : len(tokens)] = [self._numbers.get(t, UNKNOWN) for t in tokens]
        return found

    def decode(self, numbers: Iterable[int]) -> str:
        """Return the text of one row of numbers."""
        names = ("", LOST, *self.vocabulary)
        row = [int(number) for number in numbers]
        wrong = [n for n in row if not 0 <= n < len(names)]
        if wrong:
            raise DataError(
                f"{type(self).__name__}: numbers must be in [0, {len(names)}), got"
                f" {wrong[0]}"
            )
        return self.join(names[number] for number in row if number != PAD)

    def describe(self) -> dict[str, Any]:
        if not self.vocabulary:
            raise ConfigError(f"{type(self).__name__}: call fit(texts) first")
        return {
            "type": type(self).__name__,
            "length": self.length,
            "max_tokens": self.max_tokens,
            "vocabulary": list(self.vocabulary),
        }

    @classmethod
    def build(cls, described: Any) -> Self:
        table = described if isinstance(described, dict) else {}
        words = table.get("vocabulary")
        if (
            table.keys() != {"type", "length", "max_tokens", "vocabulary"}
            or table["type"] != cls.__name__
            or not isinstance(words, list)
            or not words
            or not all(type(word) is str and word for word in words)
            or len(set(words)) != len(words)
        ):
            raise FormatError(
                f"{cls.__name__}: expected what describe() gives, got"
                f" {reprlib.repr(described)}"
            )
        try:
            made = cls(length=table["length"], max_tokens=table["max_tokens"])
        except ConfigError as error:
            raise FormatError(str(error)) from None
        made._know(words)
        return made

    def __repr__(self) -> str:
        name = type(self).__name__
        if not self.vocabulary:
            return f"{name}(not fitted)"
        return f"{name}({len(self.vocabulary)} tokens)"

    def _know(self, tokens: Iterable[str]) -> None:
        self.vocabulary = tuple(tokens)
        self._numbers = {t: i for i, t in enumerate(self.vocabulary, FIRST)}


class CharTokenizer(Tokenizer):
    """One token for each character."""

    def split(self, text: str) -> list[str]:
        return list(text)

    def join(self, tokens: Iterable[str]) -> str:
        return "".join(tokens)


class WordTokenizer(Tokenizer):
    """One token for each word, in lower case, and for each mark between words."""

    def split(self, text: str) -> list[str]:
        return _WORD.findall(text.lower())

    def join(self, tokens: Iterable[str]) -> str:
        return " ".join(tokens)


def checked(owner: Encoder, texts: Any) -> Sequence[str]:
    """Return the texts, which must be a list of them and not one."""
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise DataError(
            f"{type(owner).__name__}: expected a list of texts, got {texts!r:.60}"
        )
    return texts
