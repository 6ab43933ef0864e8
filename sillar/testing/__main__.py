"""Print the matrix of derivatives: python -m sillar.testing [--only NAME] [--json]."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from sillar.testing.matrix import COLUMNS, Row, rows, subjects

HEADS = ("f32 1st", "f32 2nd", "f64 1st", "f64 2nd", "f64 3rd")
HEADS = (*HEADS, "plain", "broadcast", "size 1", "empty")
PAGE = """\
# Every derivative, checked

Written by `python -m sillar.testing --write docs/derivatives.md`; without `--write` the
command prints it, and ends with status 1 if a cell is empty or failed.

A row is a primitive, a layer or a loss, with all its cases in `sillar/testing/cases/`.
In float64 the first, second and third derivatives are held against central differences
in random directions; the second is a product with the Hessian. In float32 the first two
are held against float64's, and their types are float32. Layers are tried at inference
and in training. The last columns count the cases by shape. Where there is nothing to
check, a letter says why; below is what it stands for.

Points without a derivative have a convention, stated where the function is documented
and pinned, next to PyTorch's, in `tests/core/test_primitives_torch.py` and
`tests/core/test_conventions.py`:

| function | at | derivative |
|---|---|---|
| `relu`, `leaky_relu` | 0 | 0, the slope |
| `absolute`, `MAE` | 0 | 0 |
| `elu` | 0 | alpha |
| `clip` | its limits | 1 |
| `maximum`, `minimum`, `max`, `min`, `GlobalMaxPool2D` | equal values | shared |
| `max_pool`, `MaxPool2D` | equal values | all to the first |
| `sign`, comparisons | their jumps | none |
| `Hinge` | the margin | 0 |
| `Huber` | delta | delta, from either side |

"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the matrix; return 1 if it has a hole."""
    parser = argparse.ArgumentParser(
        prog="python -m sillar.testing",
        description="Check every derivative of every primitive, layer and loss.",
    )
    parser.add_argument("--only", metavar="NAME", help="one primitive, layer or loss")
    parser.add_argument("--json", action="store_true", help="end with a JSON object")
    parser.add_argument("--write", metavar="FILE", type=Path, help="write the page")
    options = parser.parse_args(arguments)
    known = {name for _, name in subjects()}
    found = []
    for row in rows(options.only):
        found.append(row)
        if sys.stderr.isatty():
            print(f"\r{len(found)} {row.name:30.30}", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print("\r" + " " * 40, end="\r", file=sys.stderr)
    if not found:
        print(
            f"no primitive, layer or loss {options.only!r}; known are", file=sys.stderr
        )
        print(", ".join(sorted(known)), file=sys.stderr)
        return 2
    text = table(found)
    print(text)
    if options.write is not None:
        options.write.write_text(PAGE + text)
    holes = [row.name for row in found if not row.whole]
    if options.json:
        print(json.dumps({"rows": [r._asdict() for r in found], "holes": holes}))
    return 1 if holes else 0


def table(found: Iterable[Row]) -> str:
    """Return the rows as a table, the reasons and the failures."""
    found = list(found)
    letters: dict[str, str] = {}
    lines = [("kind", "name", "cases", *HEADS)]
    for row in found:
        cells = (_cell(row.cells.get(column, ""), letters) for column in COLUMNS)
        lines.append((row.kind, row.name, str(row.cases or "–"), *cells))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, tuple("-" * width for width in widths))
    shown = [
        "| " + " | ".join(f"{c:<{w}}" for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    shown += ["", *(f"- {letter}: {reason}" for reason, letter in letters.items())]
    failed = [
        f"FAILED {row.name}, {column}: {row.cells.get(column) or 'a hole'}"
        for row in found
        for column in COLUMNS
        if not row.cells.get(column) or row.cells[column][0] == "!"
    ]
    whole = sum(row.whole for row in found)
    return "\n".join(
        [*shown, "", f"{whole} of {len(found)} rows are whole.", *failed, ""]
    )


def _cell(said: str, letters: dict[str, str]) -> str:
    """Return a cell's text: "ok", a count, FAILED, or the letter of a reason."""
    if not said or said[0] == "!":
        return "FAILED"
    if said == "ok" or said.isdecimal():
        return said
    return letters.setdefault(said, chr(ord("a") + len(letters)))


if __name__ == "__main__":
    sys.exit(main())
