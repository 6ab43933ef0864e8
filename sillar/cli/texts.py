"""Text in [data] of a recipe: one long text, or lines that stand for themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sillar.cli.origin import Parts, Source
from sillar.data import Dataset, read_text, text_lines, text_windows
from sillar.data.text import END, characters
from sillar.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True)
class _Written(Source):
    """A UTF-8 file: `path` in `folder`, or `folder` itself if that is a file.

    All its characters are known to the model, also those of the part to test on.
    """

    folder: str = ""
    path: str = ""
    context: int = 64
    test: float | int = 0.1

    def text(self) -> str:
        """Return the text of the file."""
        folder = Path(self.folder)
        file = folder if folder.is_file() else folder / self.path
        if file.is_dir():
            raise ConfigError(
                "data: a text is one file: name it with --data FILE, or data.path"
            )
        return read_text(file)

    def share(self, name: str) -> float:
        """Return how much of what there is to hold back."""
        value = getattr(self, name)
        if not 0 < value < 1:
            raise ConfigError(f"data: {name} must be a share in (0, 1), got {value!r}")
        return float(value)


@dataclass(frozen=True, kw_only=True)
class Text(_Written):
    """One text, of which the end is tested on, and what comes before it validated on.

    `windows` of the part to train on are taken, evenly spaced; 0 stands for as many as
    do not overlap, as in the other parts.
    """

    windows: int = 0

    notes: ClassVar[dict[str, Any]] = {"text": "windows"}

    def parts(self, seed: int) -> Parts:
        text = self.text()
        classes = characters(text)
        rest, test = self._cut(text, "test")
        held = ""
        if self.validation:
            rest, held = self._cut(rest, "validation")
        return Parts(
            self._part("train", rest, classes, self.windows or None),
            self._part("validation", held, classes) if held else None,
            self._part("test", test, classes),
        )

    def _cut(self, text: str, name: str) -> tuple[str, str]:
        kept = int(len(text) * (1 - self.share(name)))
        return text[:kept], text[kept:]

    def _part(
        self, name: str, text: str, classes: Sequence[str], count: int | None = None
    ) -> Dataset:
        if not 0 < self.context < len(text):
            raise DataError(
                f"data: the {name} part has {len(text)} characters: expected context"
                f" to be from 1 to one less than that, got {self.context}; set"
                " data.context or take a longer text"
            )
        return text_windows(text, self.context, classes=classes, count=count, name=name)


@dataclass(frozen=True, kw_only=True)
class Lines(_Written):
    """Lines of at most `context` - 1 characters; equal ones stay in one part.

    Empty ones are left out. Parts are drawn, `test` by `split_seed`.
    """

    split_seed: int = 0

    notes: ClassVar[dict[str, Any]] = {"text": "lines"}

    def parts(self, seed: int) -> Parts:
        text = self.text()
        lines = [line for line in text.split(END) if line]
        self._check(lines)
        classes = characters(text + END)
        rest, test = _drawn(lines, self.share("test"), self.split_seed)
        held: list[str] = []
        if self.validation:
            rest, held = _drawn(rest, self.share("validation"), seed)
        return Parts(
            text_lines(rest, classes=classes, name="train"),
            text_lines(held, classes=classes, name="validation") if held else None,
            text_lines(test, classes=classes, name="test"),
        )

    def _check(self, lines: list[str]) -> None:
        if len(set(lines)) < 2:
            raise DataError("data: expected at least two different lines of text")
        longest = max(lines, key=len)
        if len(longest) >= self.context:
            raise DataError(
                f"data: a line has {len(longest)} characters, {longest!r:.40}: expected"
                f" fewer than context, {self.context}; set data.context, or read the"
                ' file with source = "text"'
            )


def _drawn(lines: list[str], share: float, seed: int) -> tuple[list[str], list[str]]:
    """Return (rest, held back): a share of the different lines, and all their equals.

    The order in the file stays.
    """
    different = list(dict.fromkeys(lines))
    numbers = np.arange(len(different))
    _, held = Dataset(numbers, numbers).split(share, seed=seed, stratify=False)
    chosen = {different[i] for i in held.x}
    rest = [line for line in lines if line not in chosen]
    return rest, [line for line in lines if line in chosen]
