"""LogTokenizer: lines of a log as numbers of their templates, which it mines online."""

from __future__ import annotations

import reprlib  # what came may be nested deeper than repr can go
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from sillar.data.encoder import Encoder
from sillar.data.tokenizers import checked
from sillar.errors import ConfigError, FormatError

ANY = "<*>"  # stands for a word that changes
SETTINGS = ("similarity", "depth", "max_templates")
UNKNOWN = 0  # the number of a line that fits no template
WORDS = 256  # of a line; the rest is left away


class LogTokenizer(Encoder):
    """Lines as numbers of templates, int64 (n,), from 1 on; 0 is unknown.

    Drain (He, Zhu, Zheng, Lyu 2017): a line is compared with the templates that have as
    many words and begin with the same `depth` words, words with a digit counting as
    equal. If the share of equal words is `similarity` or more it joins the best, and
    where they differ the template has <*>; otherwise it is a new template, until there
    are `max_templates`. `learn` takes one line as it comes, `fit` many; a call learns
    nothing.
    """

    def __init__(
        self, *, similarity: float = 0.7, depth: int = 2, max_templates: int = 10_000
    ) -> None:
        if not isinstance(similarity, float | int) or not 0 < similarity <= 1:
            raise ConfigError(
                f"LogTokenizer: similarity must be in (0, 1], got {similarity!r:.40}"
            )
        for name, value in (("depth", depth), ("max_templates", max_templates)):
            if type(value) is not int or not 1 <= value < 2**31:
                raise ConfigError(
                    f"LogTokenizer: {name} must be an integer >= 1, got {value!r:.40}"
                )
        self.similarity, self.depth = similarity, depth
        self.max_templates = max_templates
        self._templates: list[list[str]] = []
        self._places: dict[tuple[int, tuple[str, ...]], list[int]] = {}

    @property
    def templates(self) -> tuple[str, ...]:
        """Return the templates as text; the first is that of number 1."""
        return tuple(" ".join(words) for words in self._templates)

    @property
    def size(self) -> int:
        """Return how many numbers there are, that of the unknown included."""
        return 1 + len(self._templates)

    def learn(self, line: str) -> int:
        """Return the number of a line's template, which it may change or begin."""
        words = _words(line)
        number = self._find(words)
        if number != UNKNOWN:
            known = self._templates[number - 1]
            pairs = zip(known, words, strict=True)
            self._templates[number - 1] = [a if a == b else ANY for a, b in pairs]
        elif len(self._templates) < self.max_templates:
            number = self._add(words)
        return number

    def fit(self, lines: Sequence[str], /) -> Self:
        for line in checked(self, lines):
            self.learn(line)
        return self

    def __call__(self, lines: Sequence[str], /) -> np.ndarray:
        found = [self._find(_words(line)) for line in checked(self, lines)]
        return np.array(found, np.int64)

    def describe(self) -> dict[str, Any]:
        return {
            "type": "LogTokenizer",
            "similarity": self.similarity,
            "depth": self.depth,
            "max_templates": self.max_templates,
            "templates": [list(words) for words in self._templates],
        }

    @classmethod
    def build(cls, described: Any) -> Self:
        table = described if isinstance(described, dict) else {}
        templates = table.get("templates")
        if (
            table.keys() != {"type", *SETTINGS, "templates"}
            or table["type"] != "LogTokenizer"
            or not isinstance(templates, list)
            or not all(map(_is_template, templates))
        ):
            raise FormatError(
                "LogTokenizer: expected what describe() gives, got"
                f" {reprlib.repr(described)}"
            )
        settings = {name: table[name] for name in SETTINGS}
        try:
            made = cls(**settings)
        except ConfigError as error:
            raise FormatError(str(error)) from None
        for words in templates:
            made._add(words)
        return made

    def __repr__(self) -> str:
        return f"LogTokenizer({len(self._templates)} templates)"

    def _place(self, words: list[str]) -> tuple[int, tuple[str, ...]]:
        return len(words), tuple(words[: self.depth])

    def _add(self, words: list[str]) -> int:
        self._templates.append(words)
        self._places.setdefault(self._place(words), []).append(len(self._templates))
        return len(self._templates)

    def _find(self, words: list[str]) -> int:
        """Return the number of the template that fits best, the oldest of equals."""
        best, most = UNKNOWN, self.similarity * max(1, len(words))
        for number in self._places.get(self._place(words), ()):
            pairs = zip(self._templates[number - 1], words, strict=True)
            equal = sum(a == b for a, b in pairs) or (not words)
            if equal >= most and (best == UNKNOWN or equal > most):
                best, most = number, equal
        return best


def _words(line: str) -> list[str]:
    """Return the words of a line, those with a digit as <*>."""
    found = line.split(maxsplit=WORDS)[:WORDS]
    return [ANY if any(map(str.isdigit, word)) else word for word in found]


def _is_template(words: Any) -> bool:
    return (
        isinstance(words, list)
        and len(words) <= WORDS
        and all(type(word) is str and word.split() == [word] for word in words)
    )
