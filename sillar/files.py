"""Arrays in a file that can run nothing: the safetensors layout, read as if hostile.

    8 bytes   n, the length of the header, little-endian
    n bytes   the header, JSON padded with spaces (`header.py`)
    the rest  the arrays, little-endian and row-major, every byte in exactly one

The header is checked whole against the file's size before an array is allocated, so
reading takes at most the size of the file plus `HEADER_MEMORY`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedReader, BufferedWriter
from types import MappingProxyType

import numpy as np

from sillar.errors import ConfigError, FormatError
from sillar.header import (
    HEADER_LIMIT,
    HEADER_MEMORY,
    Entry,
    Header,
    compose,
    little,
    parse,
    refusal,
    show,
)

__all__ = [
    "HEADER_LIMIT",
    "HEADER_MEMORY",
    "Entry",
    "Header",
    "read_arrays",
    "read_header",
    "read_into",
    "replacing",
    "write_arrays",
]

_Path = str | os.PathLike[str]


def read_header(path: _Path) -> Header:
    """Return the header of the file at `path`, checked; the data stays unread."""
    with _reading(path) as file:
        return _header(file)


def read_arrays(path: _Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays of the file at `path`, new and writable, and its metadata."""
    with _reading(path) as file:
        header = _header(file)
        arrays = {name: _read(file, header, name) for name in header.entries}
    return arrays, header.metadata


def read_into(path: _Path, destinations: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Fill `destinations`, which may be views, from `path`; return its metadata.

    Names, shapes and dtypes must agree; nothing is written before all were checked.
    """
    with _reading(path) as file:
        header = _header(file)
        _check_destinations(header.entries, destinations)
        for name, target in destinations.items():
            as_stored = target.dtype == header.entries[name].dtype
            if target.flags.c_contiguous and as_stored and target.dtype != bool:
                _fill(target, file, header, name)
            else:  # a bool, too, is checked before it lands
                target[...] = _read(file, header, name)
    return header.metadata


def write_arrays(
    path: _Path,
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write `arrays`, in their order, and `metadata` to `path`, whole or not at all.

    Equal input gives equal bytes. A symbolic link at `path` is replaced, not followed.
    """
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    text = compose(arrays, metadata)
    with replacing(os.fsdecode(path)) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays.values():
            raw = _bytes(np.ascontiguousarray(array, little(array.dtype)))
            file.write((raw != 0 if array.dtype == bool else raw).data)  # no bool of 2


@contextmanager
def replacing(path: str) -> Iterator[BufferedWriter]:
    """Yield a new file that takes the place of `path` once it is whole and on disk."""
    mode = None
    with suppress(FileNotFoundError):
        mode = os.stat(path).st_mode
    if mode is not None and not stat.S_ISREG(mode):
        raise ConfigError(
            f"write arrays: expected the path of a file, got {path!r}, a folder or"
            " device; choose another path"
        )
    folder = os.path.dirname(path) or os.curdir
    new = os.path.join(folder, f".{os.urandom(8).hex()}.tmp")
    try:
        with _new(new, path) as file:
            if mode is not None:
                os.chmod(new, stat.S_IMODE(mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(new)
        raise
    _sync_folder(folder)


def _new(name: str, path: str) -> BufferedWriter:
    """Open a new file; an error names the `path` that was asked for."""
    try:
        return open(name, "xb")
    except OSError as fault:
        raise type(fault)(fault.errno, fault.strerror, path) from None


def _sync_folder(folder: str) -> None:
    """Make a rename in `folder` outlast a power cut, where folders can be opened."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _reading(path: _Path) -> Iterator[BufferedReader]:
    """Yield the regular file at `path`; errors name it, and a change to it is one."""
    path = os.fsdecode(path)  # refuses an int, which open takes for a descriptor
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise refusal("a regular file", "a pipe or device", "copy it to disk")
            yield file
            after = os.fstat(file.fileno())
            if (before.st_size, before.st_mtime) != (after.st_size, after.st_mtime):
                raise refusal("a file at rest", "one that changes", "read it again")
    except OSError as error:
        raise FormatError(
            f"read {path!r}: expected a readable file, got {error.strerror or error};"
            " check the path and its permissions"
        ) from error
    except FormatError as error:
        error.args = (f"read {path!r}: {error.args[0]}",)
        raise


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for the other end of a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _header(file: BufferedReader) -> Header:
    """Read the header of `file` and check all that can be known without the data."""
    size = os.fstat(file.fileno()).st_size
    prefix = file.read(8)
    if len(prefix) < 8:
        raise refusal("at least 8 bytes", len(prefix))
    length = int.from_bytes(prefix, "little")
    if length > HEADER_LIMIT:
        raise refusal(f"a header of at most {HEADER_LIMIT} bytes", length)
    text = file.read(length) if length <= size - 8 else b""
    if len(text) < length:
        raise refusal(f"a header of {length} bytes", f"a file of {size}")
    return parse(text, size - 8 - length)


def _check_destinations(
    entries: Mapping[str, Entry], destinations: Mapping[str, np.ndarray]
) -> None:
    """Check that each entry has a writable destination of its shape and dtype."""
    different = [
        f"{name}: {entry.dtype} {entry.shape} for {target.dtype} {target.shape}"
        for name, entry in entries.items()
        if (target := destinations.get(name)) is not None
        and (entry.dtype.str, entry.shape) != (little(target.dtype), target.shape)
    ]
    faults = {
        "missing": [name for name in destinations if name not in entries],
        "unexpected": [name for name in entries if name not in destinations],
        "different": different,
    }
    if any(faults.values()):
        got = "; ".join(f"{fault} {show(it)}" for fault, it in faults.items() if it)
        raise refusal("the arrays asked for", got, "read it as what it was saved from")
    fixed = [name for name, array in destinations.items() if not array.flags.writeable]
    if fixed:
        raise ConfigError(
            f"read into arrays: expected writable ones, got read-only {show(fixed)};"
            " pass copies"
        )


def _bytes(array: np.ndarray) -> np.ndarray:
    """Return the memory of a contiguous array as bytes (n,)."""
    return array.reshape(-1).view(np.uint8)


def _read(file: BufferedReader, header: Header, name: str) -> np.ndarray:
    """Return the array `name` in memory of its own."""
    entry = header.entries[name]
    array = np.empty(entry.shape, entry.dtype)
    _fill(array, file, header, name)
    return array


def _fill(array: np.ndarray, file: BufferedReader, header: Header, name: str) -> None:
    """Read the bytes of `name` straight into a contiguous `array`."""
    raw = _bytes(array)
    file.seek(header.offset + header.entries[name].begin)
    got = file.readinto(raw.data)
    if got < raw.size:
        what = f"{raw.size} bytes for {show(name)}"
        raise refusal(what, got, "the file was cut short while it was read")
    if array.dtype == bool and raw.max(initial=0) > 1:
        raise refusal(f"only 0 and 1 in {show(name)}", raw.max())
