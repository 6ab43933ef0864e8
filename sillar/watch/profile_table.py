"""A profile as text, 80 columns wide."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sillar.watch.limits import limits

ROWS = 12  # of each table; `rows()` has them all
WAYS = ("forward", "backward")
_NAMES = ("operation", "layer", "line")
_SHORT = {"compute": "c", "memory": "m", "": " "}
_FOOT = (
    "limit: the share of what the machine can do, c compute, m memory; above 100 %"
    "\nthe data came from a cache."
)


def text_of(
    wall: float, rows: list[dict[str, Any]], layers: list[dict[str, Any]]
) -> str:
    """Return the tables: by layer, then by operation, forward and backward apart."""
    lines = [*_head(wall, rows), "", *_by_layer(layers)]
    for direction in WAYS:
        chosen = [row for row in rows if row["direction"] == direction]
        if chosen:
            lines += ["", *_by_operation(direction, chosen)]
    return "\n".join([*lines, "", _FOOT])


def _head(wall: float, rows: list[dict[str, Any]]) -> Iterator[str]:
    calls = sum(row["calls"] for row in rows if row["direction"])
    most = limits()
    yield f"{wall * 1e3:.1f} ms, {calls:,} calls; limits measured in float32:"
    yield (
        f"{most.operations / 1e9:.1f} GFLOP/s (matrix product),"
        f" {most.bytes / 1e9:.1f} GB/s (copy)"
    )


def _by_layer(layers: list[dict[str, Any]]) -> Iterator[str]:
    heading = ("layer", "ms", "share", "forward", "backward", "GFLOP", "MB", "limit")
    yield "{:<28}{:>8}{:>6}{:>8}{:>9}{:>7}{:>7}{:>7}".format(*heading)
    for row in layers[:ROWS]:
        kind = row["kind"] if row["kind"] != row["layer"] else ""
        name = f"{row['layer']} ({kind})" if kind else row["layer"]
        both = row["forward"] or row["backward"]
        ways = [f"{row[way] * 1e3:.2f}" if both else "" for way in WAYS]
        yield (
            f"{_fitted(name, 28)}{row['seconds'] * 1e3:>8.2f}{row['share']:>6.0%}"
            f"{ways[0]:>8}{ways[1]:>9}{_work(row)}{_limit(row):>7}".rstrip()
        )
    yield from _rest(layers)


def _by_operation(direction: str, rows: list[dict[str, Any]]) -> Iterator[str]:
    seconds = sum(row["seconds"] for row in rows)
    share = sum(row["share"] for row in rows)
    yield f"{direction}: {seconds * 1e3:.2f} ms, {share:.0%}"
    widths = (14, 13, 13) if any(row["line"] for row in rows) else (20, 20, 0)
    titles = "".join(map(_fitted, _NAMES, widths))
    heading = ("calls", "ms", "share", "GFLOP", "MB", "limit")
    yield titles + "{:>5}{:>8}{:>6}{:>7}{:>7}{:>7}".format(*heading)
    for row in rows[:ROWS]:
        names = "".join(_fitted(row[n], w) for n, w in zip(_NAMES, widths, strict=True))
        yield (
            f"{names}{row['calls']:>5}"
            f"{row['seconds'] * 1e3:>8.2f}{row['share']:>6.0%}{_work(row)}"
            f"{_limit(row) + _SHORT[row['bound']]:>7}".rstrip()
        )
    yield from _rest(rows)


def _rest(rows: list[dict[str, Any]]) -> Iterator[str]:
    if len(rows) > ROWS:
        left = rows[ROWS:]
        share = sum(row["share"] for row in left)
        milliseconds = sum(row["seconds"] for row in left) * 1e3
        yield f"and {len(left)} more, {milliseconds:.2f} ms, {share:.0%}"


def _work(row: dict[str, Any]) -> str:
    if not row["operations"] and not row["bytes"]:
        return " " * 14
    return f"{row['operations'] / 1e9:>7.3f}{row['bytes'] / 1e6:>7.1f}"


def _limit(row: dict[str, Any]) -> str:
    if not row["least_seconds"]:
        return ""
    return f"{min(9.99, row['least_seconds'] / row['seconds']):.0%}"


def _fitted(text: str, width: int) -> str:
    """Return the text in `width` columns, the last one blank; of a path its end."""
    room = width - 1
    if len(text) > room > 0:
        path = "." in text
        text = f"…{text[1 - room :]}" if path else f"{text[: room - 1]}…"
    return f"{text[:width]:<{width}}"
