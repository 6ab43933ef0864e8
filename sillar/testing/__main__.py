"""The matrix of derivatives: `python -m sillar.testing [--only NAME] [--json]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sillar.testing.matrix import Row, row
from sillar.testing.page import page
from sillar.testing.subjects import Subject, subjects
from sillar.testing.table import text


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the matrix; return 1 if a cell failed or is empty, 2 for a wrong name."""
    options = _parser().parse_args(arguments)
    chosen = list(subjects())
    names = sorted({subject.name for subject in chosen})
    if options.only is not None:
        chosen = [subject for subject in chosen if subject.name == options.only]
    if not chosen:
        print(
            f"error: expected a primitive, layer or loss, got {options.only!r}; they"
            f" are: {', '.join(names)}",
            file=sys.stderr,
        )
        return 2
    rows = _checked(chosen)
    table = text(rows)
    print(table, end="")
    if options.write is not None:
        options.write.write_text(page(table))
    if options.json:
        print(json.dumps(_report(rows)))
    return 0 if all(row.whole for row in rows) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sillar.testing",
        description="Check every derivative of every primitive, layer and loss.",
    )
    parser.add_argument("--only", metavar="NAME", help="one primitive, layer or loss")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object as the last line"
    )
    parser.add_argument(
        "--write", metavar="FILE", type=Path, help="write the table as a page, too"
    )
    return parser


def _checked(chosen: Sequence[Subject]) -> list[Row]:
    """Return the rows; on a terminal, say which one is being checked."""
    rows, live = [], sys.stderr.isatty()
    for i, subject in enumerate(chosen, 1):
        if live:
            place = f"{i}/{len(chosen)} {subject.name}"
            print(f"\r{place:<40}", end="", file=sys.stderr, flush=True)
        rows.append(row(subject))
    if live:
        print(f"\r{'':<40}\r", end="", file=sys.stderr)
    return rows


def _report(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the rows as plain data, and the names of those with a hole."""
    return {
        "rows": [
            {
                "kind": row.kind,
                "name": row.name,
                "cells": {
                    " ".join(map(str, place)): cell._asdict()
                    for place, cell in row.cells.items()
                },
            }
            for row in rows
        ],
        "holes": [row.name for row in rows if not row.whole],
    }


if __name__ == "__main__":
    sys.exit(main())
