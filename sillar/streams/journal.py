"""Journal: scores in a file that only grows, and where each source stands by them."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sillar.errors import ConfigError, DataError
from sillar.files import replacing

MARK = 5.0  # seconds between two files of positions
KEPT = 100_000  # sources that the copy of the positions has: the last scored
LONGEST = 2**16  # bytes of a record
BEGIN = b'{"source":'


class Journal:
    """An output of JSON lines, each of which says where in its source it ends.

    So there is no second file that could disagree: what stands in the output has been
    scored, what does not has not. A torn last line is cut off, and all lines after the
    last `mark`, a copy of the positions that only saves time, are read once on opening.
    `places` are where each source stands: its `end`, and the `mark` of what is before.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.places: dict[str, dict[str, Any]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("a+b")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.file.close()
            raise ConfigError(
                f"follow: another process writes to {str(path)!r}: end it, or choose"
                " another output"
            ) from None
        self.marked = 0.0
        try:
            self._recover()
        except DataError:
            self.file.close()
            raise

    def write(self, records: Iterable[dict[str, Any]], now: float) -> None:
        """Add records; once this returns they are on the disk."""
        for record in records:
            text = json.dumps(record, separators=(",", ":"))
            self.file.write(text.encode() + b"\n")
            self._place(record)
        self.file.flush()
        os.fsync(self.file.fileno())
        if now - self.marked > MARK:
            self.mark()
            self.marked = now

    def mark(self) -> None:
        """Keep the positions beside the output."""
        places = dict(list(self.places.items())[-KEPT:])
        known = {"size": self.file.tell(), "places": places}
        with replacing(str(self._beside())) as file:
            file.write(json.dumps(known).encode())

    def close(self) -> None:
        """Mark, and let others write."""
        self.mark()
        self.file.close()

    def _beside(self) -> Path:
        return self.path.with_name(self.path.name + ".state")

    def _recover(self) -> None:
        size = self.file.seek(0, os.SEEK_END)
        start = self._marked(size)
        self.file.seek(start)
        while line := self.file.readline(LONGEST):
            if not line.endswith(b"\n") and _is_torn(line):
                break
            self._take(line)
            start += len(line)
        self.file.truncate(start)
        self.file.seek(start)

    def _marked(self, size: int) -> int:
        """Take the positions that were kept; return how much of the output they are."""
        try:
            known = json.loads(self._beside().read_bytes())
            places, mark = known["places"], known["size"]
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        whole = isinstance(places, dict) and type(mark) is int and 0 <= mark <= size
        if not whole or not all(isinstance(p, dict) for p in places.values()):
            return 0
        self.places = places
        return int(mark)

    def _take(self, line: bytes) -> None:
        try:
            record = json.loads(line)
            self._place(record)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DataError(
                f"follow: {str(self.path)!r} has a line that is no score,"
                f" {line[:60]!r}: give another output"
            ) from None

    def _place(self, record: dict[str, Any]) -> None:
        """Note where a source stands now; the last scored stand last."""
        self.places.pop(record["source"], None)
        place = {"end": record["end"], "mark": record.get("mark")}
        self.places[record["source"]] = place


def _is_torn(line: bytes) -> bool:
    """Say whether this is the beginning of a record that was not written whole."""
    same = min(len(line), len(BEGIN))
    return line[:same] == BEGIN[:same] and len(line) < LONGEST
