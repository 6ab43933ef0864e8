"""Tables of words and numbers, read as text, column by column."""

from __future__ import annotations

import os
from itertools import chain

from sillar.data.source import open_source
from sillar.data.table import (
    check_options,
    looks_like_names,
    names_of,
    text_of,
    text_rows,
)

Columns = dict[str, list[str]]


def read_columns(
    path: str | os.PathLike[str], *, header: bool | None = None, delimiter: str = ","
) -> Columns:
    """Return every column of a CSV file as text, by name; without names by number.

    `header` says whether line 1 holds names; None: it does if none of its cells is a
    number. What the cells mean is for a `TableTransform` to say.
    """
    check_options(header, delimiter)
    with open_source(path, "read_columns") as source, text_of(source) as text:
        rows = text_rows(source, text, delimiter)
        first = next(rows, None)
        if first is None:
            raise source.error("expected rows, got blank lines only; check the file")
        named = looks_like_names(first) if header is None else header
        width = len(first.cells)
        names = names_of(source, first) if named else [str(i) for i in range(width)]
        cells = [row.cells for row in (rows if named else chain([first], rows))]
        if not cells:
            raise source.error("expected rows below the names, got none; add some")
    return {name: [row[i] for row in cells] for i, name in enumerate(names)}
