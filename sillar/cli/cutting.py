"""Cuts of a table by group and by time, where a cut at random would flatter a model."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np

from sillar.cli import show
from sillar.core.rng import Rng
from sillar.data import Dataset
from sillar.errors import DataError
from sillar.evidence import check_splits

START = datetime(1970, 1, 1, tzinfo=UTC)
ORDERS = (int, float, lambda cell: _moment(cell))  # how cells are read, first that fits


class Keys(NamedTuple):
    """What belongs together and when it was, for each row of a file; None: unknown."""

    groups: np.ndarray | None
    times: np.ndarray | None

    @property
    def any(self) -> bool:
        """Say whether there is anything to cut by."""
        return self.groups is not None or self.times is not None

    def cut(
        self, rows: Dataset, later: float | int, seed: int
    ) -> tuple[Dataset, Dataset]:
        """Return (rest, part): whole groups that are drawn, or the latest rows.

        `rows` has the numbers of its rows as x; `later` is the part's size. What was at
        the same time stays together. With groups and times, rows before the cut whose
        group goes on after it are left out.
        """
        numbers = rows.x[:, 0]
        count = later if isinstance(later, int) else round(later * len(rows))
        if not 0 < count < len(rows):
            raise DataError(
                f"data: expected a part of 1 to {len(rows) - 1} of {len(rows)} rows,"
                f" got {later}: change data.test or data.validation"
            )
        if self.times is None:
            chosen = _drawn(self._of(self.groups, numbers), count, seed)
            return rows.take(~chosen), rows.take(chosen)
        chosen = _latest(self._of(self.times, numbers), count)
        kept = ~chosen
        if self.groups is not None:
            groups = self._of(self.groups, numbers)
            kept &= ~np.isin(groups, groups[chosen])
            _tell_of_gone(int((~chosen).sum() - kept.sum()), int(kept.sum()))
        return rows.take(kept), rows.take(chosen)

    def _of(self, keys: np.ndarray | None, numbers: np.ndarray) -> np.ndarray:
        return np.zeros(len(numbers)) if keys is None else keys[numbers]


def _drawn(groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return a mask of whole groups in a drawn order, as near to `count` as can be."""
    names, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise DataError(
            f"data: expected two groups or more to cut between, got only {names[0]!r}:"
            " name another column in data.groups"
        )
    order = Rng(seed).split("groups").permutation(len(names))
    sums = np.cumsum(sizes[order])[:-1]
    return np.isin(codes, order[: 1 + int(np.argmin(np.abs(sums - count)))])


def _latest(times: np.ndarray, count: int) -> np.ndarray:
    """Return a mask of the latest rows, as near to `count` as whole moments can be."""
    moments, codes, sizes = np.unique(times, return_inverse=True, return_counts=True)
    if len(moments) < 2:
        raise DataError(
            f"data: expected two times or more to cut between, got {len(moments)}: name"
            " another column in data.time"
        )
    sums = np.cumsum(sizes[::-1])[:-1]  # of the last moment, of the last two, ...
    taken = 1 + int(np.argmin(np.abs(sums - count)))
    return np.asarray(codes >= len(moments) - taken)


def _tell_of_gone(gone: int, left: int) -> None:
    if not left:
        raise DataError(
            "data: expected groups that end before the cut in time, got only groups"
            " that go on after it: leave data.groups or data.time away"
        )
    if gone:
        show.say(
            f"{gone} rows are left out: they are before the cut in time, but their"
            " group goes on after it"
        )


def groups_of(cells: Sequence[str], where: str) -> np.ndarray:
    """Return the groups of a column; each row must have one."""
    _whole(cells, where, "the name of a group")
    return np.array(cells)


def times_of(cells: Sequence[str], where: str) -> np.ndarray:
    """Return the times of a column as numbers: numbers, or dates in ISO 8601."""
    _whole(cells, where, "a time")
    bad = ""
    for read in ORDERS:
        try:
            found = np.array([read(cell) for cell in cells])
            if found.dtype.kind in "if" and np.isfinite(found).all():
                return found
        except (ValueError, OverflowError) as error:
            bad = str(error)
    raise DataError(
        f"data: {where}: expected times that are all numbers, or all dates as"
        f" 2024-05-31 or 2024-05-31T12:00:00, got {bad!s:.80}: write them so"
    )


def _moment(cell: str) -> int:
    """Return microseconds since 1970; without a zone a time is UTC."""
    found = datetime.fromisoformat(cell.strip())
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return (found - START) // timedelta(microseconds=1)


def _whole(cells: Sequence[str], where: str, what: str) -> None:
    empty = [row for row, cell in enumerate(cells) if not cell.strip()]
    if empty:
        raise DataError(
            f"data: {where}, row {empty[0]}: expected {what}, got an empty cell, as in"
            f" {len(empty)} rows: fill them in, or leave the rows away"
        )


def confirm(parts: dict[str, tuple[Dataset, Keys]]) -> None:
    """Raise DataError where a group is in two parts, or the future in the first."""
    rows = {
        n: np.arange(len(p), dtype=np.int64)[:, None] for n, (p, _) in parts.items()
    }
    keys = {name: (part.x[:, 0], key) for name, (part, key) in parts.items()}
    groups = {n: k.groups[x] for n, (x, k) in keys.items() if k.groups is not None}
    times = {n: k.times[x] for n, (x, k) in keys.items() if k.times is not None}
    check_splits(rows, groups=groups or None, times=times or None, allowed=1.0)
