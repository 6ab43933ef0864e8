"""Folder: lines of all files in a directory, also while they are rotated."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatch
from hashlib import blake2b
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple
from zlib import crc32

CHUNK = 256 * 1024  # bytes at a time; longer lines come in pieces of that length
FIRST = 1024  # bytes of a first line that tell one file from another
OPEN = 128  # files that are kept open though nothing comes
TAIL = 64  # bytes before a position, by which a file is known again
CLIENT = "tcp:"  # begins the name of a source that is no file
MADE = "./"  # before a file's name that looks like that
PACKED = (".gz", ".xz", ".bz2", ".zst", ".zip")


class Block(NamedTuple):
    """Whole lines of a source, and where they begin and end in it.

    That is a number of bytes in a file, of lines where they are `numbered`.
    """

    source: str
    lines: bytes
    start: int
    end: int
    numbered: bool = False


def mark_of(before: bytes) -> int:
    """Return a checksum of the last line in the bytes before a position."""
    line = before[-TAIL:]
    line = line[:-1] if line.endswith(b"\n") else line
    return crc32(line.rpartition(b"\n")[2])


class _Open:
    """A file that is read, as one of the sources."""

    def __init__(self, source: str, file: int, position: int, tail: bytes) -> None:
        self.source, self.file = source, file
        self.position, self.tail = position, tail

    def read(self) -> bytes | None:
        """Return what comes after the position, or None if that is another file."""
        before = len(self.tail)
        found = os.pread(self.file, before + CHUNK, self.position - before)
        return found[before:] if found[:before] == self.tail else None

    def close(self) -> None:
        os.close(self.file)


class Folder:
    """The files of a directory whose names fit a pattern, each a source of lines.

    A source is known by its first line and by what stands before its position, not by
    a name or number: it goes on when the file is renamed, or copied and then cut, and
    begins anew when the file does. Packed files and links are left alone, and a last
    line waits for its end. `places`, which a `Journal` keeps, are where sources stand.
    """

    def __init__(
        self, path: Path, places: dict[str, dict[str, Any]], pattern: str = "*"
    ) -> None:
        self.path, self.places, self.pattern = path, places, pattern
        self.open: dict[tuple[int, int], _Open] = {}
        self.stands: dict[str, tuple[int, int]] = {}  # as read in this process
        self.idle: dict[tuple[int, int], tuple[int, int]] = {}  # size and time, closed
        self.waiting = False  # are there files to be opened once others are read?
        self.refused: set[str] = set()

    def scan(self) -> None:
        """Look which files there are now."""
        present: dict[tuple[int, int], tuple[str, tuple[int, int]]] = {}
        with os.scandir(self.path) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                fits = fnmatch(entry.name, self.pattern)
                if fits and not entry.name.endswith(PACKED):
                    with suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        if S_ISREG(status.st_mode):
                            key = status.st_dev, status.st_ino
                            state = status.st_size, status.st_mtime_ns
                            present[key] = entry.name, state
        for key in [k for k, held in self.open.items() if k not in present]:
            if b"\n" not in (self.open[key].read() or b""):  # gone, and all is read
                self.open.pop(key).close()
        self.idle = {k: s for k, s in self.idle.items() if k in present}
        self.waiting = False
        for key, (name, state) in present.items():
            if key in self.open or self.idle.get(key) == state:
                continue
            if len(self.open) >= 2 * OPEN:
                self.waiting = True
                break
            self.idle.pop(key, None)
            self._begin(key, name)

    def read(self) -> Iterator[Block]:
        """Yield the lines that have come, up to a chunk of each file."""
        for key, held in list(self.open.items()):
            data = held.read()
            if data is None:  # cut, or written anew: the next scan finds what it is
                self.open.pop(key).close()
                continue
            cut = data.rfind(b"\n") + 1
            if not cut and len(data) == CHUNK:
                cut, lines = CHUNK, data + b"\n"
            else:
                lines = data[:cut]
            if cut:
                start = held.position
                held.position += cut
                held.tail = (held.tail + data[:cut])[-TAIL:]
                self.stands[held.source] = held.position, mark_of(held.tail)
                yield Block(held.source, lines, start, held.position)
            elif len(self.open) > OPEN:
                self._lay_aside(key, held)

    def _lay_aside(self, key: tuple[int, int], held: _Open) -> None:
        """Close a file that has nothing new, until it changes."""
        status = os.fstat(held.file)
        self.idle[key] = status.st_size, status.st_mtime_ns
        self.open.pop(key).close()

    def close(self) -> None:
        """Close all files."""
        for held in self.open.values():
            held.close()
        self.open = {}

    def _begin(self, key: tuple[int, int], name: str) -> None:
        """Open a file, and go on where its source stands."""
        try:
            file = os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return
        except OSError as error:
            if name not in self.refused:
                warnings.warn(f"follow: cannot read {name}: {error}", stacklevel=2)
            self.refused.add(name)
            return
        first = os.pread(file, FIRST, 0)
        if b"\n" not in first and len(first) < FIRST:
            os.close(file)  # no line yet
            return
        mark = blake2b(first.split(b"\n")[0], digest_size=6).hexdigest()
        found = self._source(file, name, mark)
        if found is None:
            os.close(file)
        else:
            self.open[key] = found

    def _source(self, file: int, name: str, mark: str) -> _Open | None:
        """Return the file as the source that it is; None for a copy of an open one."""
        alike = [s for s in self.places if s.rpartition("#")[2].split("-")[0] == mark]
        busy = {held.source for held in self.open.values()}
        size = os.fstat(file).st_size
        for source in sorted(alike, key=lambda s: -self.places[s].get("end", 0)):
            end, known = self._stand(source)
            before = os.pread(file, min(TAIL, end), end - min(TAIL, end))
            if size >= end and known in (None, mark_of(before)):
                return None if source in busy else _Open(source, file, end, before)
        name = MADE + name if name.startswith(CLIENT) else name
        source = f"{name}#{mark}" + (f"-{len(alike) + 1}" if alike else "")
        self.places[source] = {"end": 0}
        return _Open(source, file, 0, b"")

    def _stand(self, source: str) -> tuple[int, int | None]:
        """Return where a source stands, and the checksum of what is before that.

        In a new process that is the end of what was scored. In this one it is the end
        of what was read, which will be scored.
        """
        place = self.places[source]
        return self.stands.get(source) or (place.get("end", 0), place.get("mark"))
