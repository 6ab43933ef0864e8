"""The matrix as people read it: 100 columns, a letter for each reason."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, product

from sillar.testing.matrix import DTYPES, PLACES, Cell, Row
from sillar.testing.orders import ORDERS
from sillar.testing.subjects import SHAPES

NAME = 20  # columns
CELL = 3
KINDS = {"primitive": "primitives", "layer": "layers", "loss": "losses"}


def text(rows: Sequence[Row]) -> str:
    """Return the table, its reasons, what failed, and how many cells are right."""
    letters: dict[str, str] = {}
    lines = []
    for kind, group in groupby(rows, key=lambda row: row.kind):
        lines += [*_head(KINDS[kind]), *(_line(row, letters) for row in group), ""]
    lines += [f"{letter}  {reason}" for reason, letter in letters.items()]
    lines += ["", *_failures(rows)]
    cells = [cell for row in rows for cell in row.cells.values()]
    states = [cell.state for cell in cells]
    lines.append(
        f"{len(rows)} rows, {len(cells)} cells: {states.count('ok')} ok,"
        f" {states.count('reason')} with a reason, {states.count('failed')} failed,"
        f" {states.count('hole')} empty"
    )
    return "\n".join(lines) + "\n"


def _head(title: str) -> list[str]:
    """Return the lines over a table: shapes, types and orders."""
    width = CELL * len(ORDERS)
    shapes = "".join(f" {shape:<{width * len(DTYPES)}}" for shape in SHAPES)
    types = "".join(f"{'f' + dtype[-2:]:<{width}}" for dtype in DTYPES)
    orders = "".join(f"{order:<{CELL}}" for order in ORDERS) * len(DTYPES)
    under = (f" {part}" * len(SHAPES) for part in (types, orders))
    heads = [f"{title:<{NAME}}{shapes}", *(" " * NAME + line for line in under)]
    return [line.rstrip() for line in heads]


def _line(row: Row, letters: dict[str, str]) -> str:
    parts = [f"{row.name:<{NAME}}"]
    for shape in SHAPES:
        cells = (row.cells[shape, *key] for key in product(DTYPES, ORDERS))
        marks = (f"{_mark(cell, letters):<{CELL}}" for cell in cells)
        parts.append(" " + "".join(marks))
    return "".join(parts).rstrip()


def _mark(cell: Cell, letters: dict[str, str]) -> str:
    """Return what stands for a cell, of two characters or fewer."""
    if cell.state == "reason":
        return letters.setdefault(cell.text, chr(ord("a") + len(letters)))
    return {"ok": "ok", "failed": "!!", "hole": "??"}[cell.state]


def _failures(rows: Sequence[Row]) -> list[str]:
    """Return a line for each text of a cell that failed or is empty."""
    found = {
        f"{row.name}, {place[0]}, {place[1]}: {row.cells[place].text}": None
        for row in rows
        for place in PLACES
        if row.cells[place].state in ("failed", "hole")
    }
    return [*found, ""] if found else []
