"""Named data sets: what they are, where they are kept, and whether they are whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sillar.errors import ConfigError, DataError

_TABLE = Path(__file__).with_name("files") / "sets.toml"
_PIECE = 1 << 20  # bytes
Report = Callable[[str, int, int], Any]  # (file, bytes that are there, bytes in all)


@dataclass(frozen=True)
class File:
    """One file of a data set; `sha256` is of its bytes, unpacked if it ends in .gz."""

    name: str
    size: int
    sha256: str
    address: str = ""

    @property
    def packed(self) -> bool:
        """Say whether the file is packed with gzip, which may be done in many ways."""
        return self.name.endswith(".gz")

    def fault(self, path: Path) -> str:
        """Say what is wrong with a copy of the file; nothing is an empty text."""
        if not path.is_file():
            return "it is missing"
        size = path.stat().st_size
        if not self.packed and size != self.size:
            return f"expected {self.size:,} bytes, got {size:,}"
        found = _digest(path, self.packed)
        if found != self.sha256:
            return f"expected SHA-256 {self.sha256[:16]}..., got {found[:16]}"
        return ""


@dataclass(frozen=True)
class NamedSet:
    """A public data set: its files, its home, and what its users must know."""

    name: str
    what: str
    home: str
    licence: str
    citation: str
    files: tuple[File, ...]

    @property
    def size(self) -> int:
        """Return the bytes of all files."""
        return sum(file.size for file in self.files)


def named_sets() -> dict[str, NamedSet]:
    """Return all named data sets by name."""
    import tomllib

    tables = tomllib.loads(_TABLE.read_text(encoding="utf-8"))
    return {
        name: NamedSet(
            name, **{**table, "files": tuple(File(**file) for file in table["files"])}
        )
        for name, table in tables.items()
    }


def named_set(name: str) -> NamedSet:
    """Return one of the named data sets."""
    sets = named_sets()
    if name not in sets:
        raise ConfigError(
            f"data: unknown data set {name!r:.60}; known are {', '.join(sets)}"
        )
    return sets[name]


def cache_folder() -> Path:
    """Return where data sets are kept: SILLAR_CACHE, or sillar in the user's cache."""
    own = os.environ.get("SILLAR_CACHE")
    if own:
        return Path(own)
    usual = os.environ.get("XDG_CACHE_HOME")
    return Path(usual if usual else Path.home() / ".cache") / "sillar"


def fetch(
    name: str,
    *,
    folder: str | os.PathLike[str] | None = None,
    report: Report | None = None,
) -> Path:
    """Return the folder of a named data set, every file of it there and verified.

    What is missing is copied from `folder`, which holds the files or a folder of the
    set's name, or else downloaded: from the mirror that SILLAR_MIRROR names, as
    MIRROR/NAME/FILE, or from the file's own address. A download that was cut goes on
    where it stopped. `report` hears of each piece.
    """
    from sillar.data.download import download

    wanted = named_set(name)
    target = cache_folder() / name
    target.mkdir(parents=True, exist_ok=True)
    for file in wanted.files:
        path = target / file.name
        if not file.fault(path):
            continue
        if folder is not None:
            _copy(wanted, file, Path(folder), path)
        else:
            download(wanted, file, path, report or _silent)
    return target


def faults(name: str, folder: str | os.PathLike[str] | None = None) -> dict[str, str]:
    """Return for each file of a set what is wrong with it, in the cache or a folder."""
    wanted = named_set(name)
    place = cache_folder() / name if folder is None else _place(wanted, Path(folder))
    return {file.name: file.fault(place / file.name) for file in wanted.files}


def _silent(name: str, done: int, total: int) -> None:
    """Tell nobody."""


def _place(wanted: NamedSet, folder: Path) -> Path:
    inner = folder / wanted.name
    return inner if inner.is_dir() else folder


def _copy(wanted: NamedSet, file: File, folder: Path, path: Path) -> None:
    source = _place(wanted, folder) / file.name
    fault = file.fault(source)
    if fault:
        raise DataError(
            f"data: {wanted.name}: {str(source)!r} is not the file: {fault};"
            f" look for it at {wanted.home}"
        )
    part = path.with_name(f"{path.name}.part")
    shutil.copyfile(source, part)
    part.replace(path)


def _digest(path: Path, packed: bool) -> str:
    """Return the SHA-256 of a file's bytes, in hex; of what is damaged, a word."""
    import gzip
    import hashlib
    import zlib

    sha = hashlib.sha256()
    opened = gzip.open if packed else open
    try:
        with opened(path, "rb") as file:
            while piece := file.read(_PIECE):
                sha.update(piece)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return "damaged gzip data"
    return sha.hexdigest()
