"""Text as examples for a character model: windows of it, or its lines.

An example asks for each character by those before it: y is x, one place further.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from sillar.data.dataset import Dataset
from sillar.data.source import open_source
from sillar.errors import DataError, ShapeError

END = "\n"  # begins and ends a line
IGNORED = -1  # in y, where a line is over
LIMIT = 2**26  # bytes of a file
_CODES = 0x110000  # that Unicode has


def read_text(path: str | os.PathLike[str]) -> str:
    """Return the text of a UTF-8 file of at most 64 MiB; every line ends in \\n."""
    with open_source(path, "read_text") as source:
        if source.size > LIMIT:
            raise source.error(
                f"expected at most {LIMIT:,} bytes, got {source.size:,}: take a part"
            )
        data = source.read(LIMIT + 1)
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as fault:
            raise source.error(
                f"expected UTF-8 text, got byte 0x{data[fault.start]:02x} at"
                f" {fault.start:,}: it is no text, or must be converted to UTF-8 first"
            ) from None
        if "\0" in text:
            raise source.error("expected text, got NUL characters: this is no text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def characters(text: str) -> tuple[str, ...]:
    """Return the different characters of a text, sorted."""
    return tuple(sorted(set(text)))


def encode(text: str, classes: Sequence[str]) -> np.ndarray:
    """Return the number of each character among `classes`, int64 (len(text),)."""
    table = np.full(_CODES, -1)
    table[[ord(character) for character in classes]] = np.arange(len(classes))
    numbers: np.ndarray = table[np.frombuffer(text.encode("utf-32-le"), "<u4")]
    if (numbers < 0).any():
        unknown = text[int((numbers < 0).argmax())]
        known = "".join(classes)
        raise DataError(
            f"the character {unknown!r} is not among the {len(classes)} that are known,"
            f" {known!r:.120}: leave it out"
        )
    return numbers


def text_windows(
    text: str,
    context: int,
    *,
    classes: Sequence[str] | None = None,
    count: int | None = None,
    name: str = "text",
) -> Dataset:
    """Return windows of a text: x (n, context) and y, each from one character on.

    There are as many as do not overlap, or `count`, evenly spaced from the first to the
    last. `classes` are the characters that are known, those of the text by default.
    """
    if not 1 <= context < len(text):
        raise ShapeError(
            f"text_windows: context must be from 1 to {len(text) - 1}, one less than"
            f" the characters of the text, got {context}"
        )
    classes = characters(text) if classes is None else tuple(classes)
    last = len(text) - 1 - context
    if count is None:
        starts = np.arange(0, last + 1, context)
    else:
        starts = np.arange(count) * last // max(1, count - 1)
    numbers, places = encode(text, classes), starts[:, None] + np.arange(context)
    return Dataset(numbers[places], numbers[places + 1], classes, name)


def text_lines(
    lines: Sequence[str], *, classes: Sequence[str] | None = None, name: str = "lines"
) -> Dataset:
    """Return lines as rows: x (n, longest + 1) begins with \\n and y ends with it.

    Shorter ones are filled up, in y with -1, which is `ignored`. `classes` are the
    characters that are known, \\n among them; those of the lines by default.
    """
    if not lines or any(END in line for line in lines):
        raise DataError(
            "text_lines: expected at least one line, and no line break inside of one:"
            " write text_lines(text.splitlines())"
        )
    text = END.join([*lines, ""])
    classes = characters(text) if classes is None else tuple(classes)
    lengths = np.array([len(line) + 1 for line in lines])
    present = np.arange(lengths.max()) < lengths[:, None]
    y = np.full(present.shape, IGNORED)
    y[present] = encode(text, classes)
    end = classes.index(END)
    first = np.full((len(lines), 1), end)
    x = np.concatenate([first, np.where(present, y, end)[:, :-1]], axis=1)
    return Dataset(x, y, classes, name, ignored=IGNORED)
