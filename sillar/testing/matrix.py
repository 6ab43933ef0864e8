"""The matrix: every primitive, layer and loss, by shape, precision and order.

A cell is "ok", or tells what failed, or why there is nothing to check. A subject
without cases and without a reason leaves a hole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import NamedTuple

from sillar.errors import ShapeError
from sillar.testing.orders import ORDERS, double_errors, single_errors
from sillar.testing.subjects import SHAPES, Case, Subject, subjects

DTYPES = ("float32", "float64")
CHECKS = {"float32": single_errors, "float64": double_errors}
# The errors that each order may have, relative to the largest number compared.
TOLERANCES = {"float32": (1e-5, 1e-4, 1e-3), "float64": (1e-7, 1e-7, 1e-7)}
REFUSED = "refuses such shapes with a ShapeError"

Place = tuple[str, str, int]  # shape, type and order
PLACES: tuple[Place, ...] = tuple(product(SHAPES, DTYPES, ORDERS))


class Cell(NamedTuple):
    """What was found in one place: "ok", "reason", "failed" or "hole", and more."""

    state: str
    text: str = ""
    error: float | None = None


class Row(NamedTuple):
    """One subject and its cells."""

    kind: str
    name: str
    cells: dict[Place, Cell]

    @property
    def whole(self) -> bool:
        """Say whether every cell is right or has a reason."""
        return all(cell.state in ("ok", "reason") for cell in self.cells.values())


def rows(only: str | None = None) -> Iterator[Row]:
    """Yield the row of every subject, or of those named `only`."""
    for subject in subjects():
        if only in (None, subject.name):
            yield row(subject)


def row(subject: Subject) -> Row:
    """Return the row of one subject."""
    cells = {}
    for shape in SHAPES:
        cases, reason = subject.cases.get(shape, []), subject.reasons.get(shape)
        tried = [tried for case in cases if (tried := _tried(case)) is not None]
        if cases and not tried:
            reason = REFUSED
        for key in product(DTYPES, ORDERS):
            found = [cells[key] for cells in tried if key in cells]
            cells[(shape, *key)] = _worst(found, reason)
    return Row(subject.kind, subject.name, cells)


def _worst(found: Iterable[Cell], reason: str | None) -> Cell:
    """Return the cell that failed, or the one with the largest error."""
    cells = sorted(found, key=lambda cell: (cell.state == "failed", cell.error or 0.0))
    if cells:
        return cells[-1]
    return Cell("reason", reason) if reason else Cell("hole", "no case and no reason")


def _tried(case: Case) -> dict[tuple[str, int], Cell] | None:
    """Return the cells of one case, by type and order; None if it is refused."""
    try:
        f, _ = case.make("float64")
        f()
    except Exception as error:
        if case.may_refuse and isinstance(error, ShapeError):
            return None
        failed = Cell("failed", f"{type(error).__name__}: {error}")
        return dict.fromkeys(product(DTYPES, ORDERS), failed)
    cells = {}
    for dtype in DTYPES[case.draws :]:  # what it draws in float32 are other numbers
        for order, cell in zip(ORDERS, _orders(case, dtype), strict=True):
            cells[dtype, order] = cell
    return cells


def _orders(case: Case, dtype: str) -> Iterator[Cell]:
    """Yield the cells of one type in order; after one that failed, all have."""
    done = 0
    try:
        for error in CHECKS[dtype](case.make):
            tolerance = TOLERANCES[dtype][done]
            if not error <= tolerance:  # so that nan fails
                raise ArithmeticError(f"off by {error:.3g}, more than {tolerance:g}")
            done += 1
            yield Cell("ok", "", error)
    except Exception as error:
        text = f"order {done + 1}: {type(error).__name__}: {error}"
        for _ in ORDERS[done:]:
            yield Cell("failed", text)
