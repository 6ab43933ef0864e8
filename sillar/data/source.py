"""Source: bytes of a file that nobody vouches for, and errors that name the file."""

from __future__ import annotations

import contextlib
import math
import os
import stat
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, BinaryIO

import numpy as np

from sillar.errors import ConfigError, DataError

if TYPE_CHECKING:
    from gzip import GzipFile

DEFLATE_RATIO = 1032  # one packed byte never yields more
_PIECE = 1 << 20  # bytes read at a time, so memory follows what really comes


class Source:
    """A byte stream of `size` bytes, or, if `packed`, unpacked from `size` bytes."""

    def __init__(
        self,
        operation: str,
        name: str,
        stream: IO[bytes] | GzipFile,
        size: int,
        *,
        packed: bool = False,
        faults: tuple[type[Exception], ...] = (OSError,),
    ) -> None:
        self.operation, self.name, self.stream = operation, name, stream
        self.size, self.packed, self.faults = size, packed, faults
        self.position = 0

    def error(self, problem: str) -> DataError:
        """Return the error that names the operation, the file and the problem."""
        return DataError(f"{self.operation}: {self.name!r}: {problem}")

    def read(self, count: int) -> bytes:
        """Return up to `count` bytes, fewer only at the end."""
        try:
            data = self.stream.read(count)
        except EOFError:
            raise self.error(
                "expected more packed data, got the end of the file;"
                " it is truncated: fetch it again"
            ) from None
        except self.faults as fault:
            raise self.error(
                f"expected readable data, got damage ({fault}); fetch the file again"
            ) from None
        self.position += len(data)
        return data

    def take(self, count: int, what: str) -> bytes:
        """Return exactly `count` bytes, which hold `what`."""
        data = self.read(count)
        if len(data) < count:
            raise self.error(
                f"expected {count} bytes of {what}, got {len(data)};"
                " the file is truncated: fetch it again"
            )
        return data

    def array(self, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        """Return all the bytes left as an array, in C order and native byte order."""
        promised = math.prod(shape) * dtype.itemsize
        self._check_promise(promised, f"{dtype.name} {shape}")
        data = self._payload(promised)
        try:
            array = np.frombuffer(data, dtype=dtype).reshape(shape)
        except (ValueError, OverflowError):
            raise self.error(
                f"expected a shape that NumPy can hold, got {shape};"
                " the header is damaged: fetch the file again"
            ) from None
        return array.astype(dtype.newbyteorder("="), copy=False)

    def _check_promise(self, promised: int, what: str) -> None:
        """Refuse sizes that the file cannot hold, before any memory is taken."""
        left = self.size - self.position
        if self.packed and promised > self.size * DEFLATE_RATIO:
            raise self.error(
                f"expected {promised:,} bytes for {what}, got a file of {self.size:,}"
                " packed bytes, too small for that;"
                " it is truncated or its header is damaged: fetch it again"
            )
        if not self.packed and promised != left:
            raise self.error(
                f"expected {promised:,} bytes for {what} after the header,"
                f" got {left:,}; the file is"
                f" {'truncated' if left < promised else 'too long'}"
                " or its header is damaged: fetch it again"
            )

    def _payload(self, promised: int) -> bytearray:
        data = bytearray()
        while len(data) < promised:
            piece = self.read(min(_PIECE, promised - len(data)))
            if not piece:
                raise self.error(
                    f"expected {promised:,} bytes after the header,"
                    f" got {len(data):,}; the file is truncated: fetch it again"
                )
            data += piece
        if self.read(1):  # also makes an unpacker compare its checksum
            raise self.error(
                f"expected the end after {promised:,} bytes of data, got more;"
                " the file is too long or its header is damaged: fetch it again"
            )
        return data


@contextlib.contextmanager
def open_source(
    path: str | os.PathLike[str], operation: str, *, gzip: bool = False
) -> Iterator[Source]:
    """Open a regular file; with `gzip`, unpack one that is packed."""
    try:
        name = os.fsdecode(path)
    except TypeError:
        raise ConfigError(
            f"{operation}: expected a path, got {type(path).__name__};"
            " give a string or a pathlib.Path"
        ) from None
    with _open_regular(name, operation) as file:
        status = os.fstat(file.fileno())
        _check_regular(status, name, operation)
        source = Source(operation, name, file, status.st_size)
        if source.size == 0:
            raise source.error("expected data, got an empty file; fetch it again")
        if gzip and _is_packed(source):
            with _unpacked(source) as unpacked:
                yield unpacked
        else:
            yield source


def _open_regular(name: str, operation: str) -> BinaryIO:
    """Open without waiting for a pipe and without touching a device."""
    try:
        _check_regular(os.stat(name), name, operation)
        return open(name, "rb", opener=_open_without_waiting)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(
            f"{operation}: {name!r}: expected a file, got nothing at this path;"
            " check the spelling and the folder"
        ) from None
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or fault
        raise DataError(
            f"{operation}: {name!r}: expected a file that can be opened,"
            f" got: {reason}; check the path and its permissions"
        ) from None


def _open_without_waiting(name: str, flags: int) -> int:
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


def _check_regular(status: os.stat_result, name: str, operation: str) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
    raise DataError(
        f"{operation}: {name!r}: expected a regular file, got {kind};"
        " give the path of the file itself"
    )


def _is_packed(source: Source) -> bool:
    start = source.stream.read(2)
    source.stream.seek(0)
    if start == b"\x1f\x8b":
        return True
    if source.name.lower().endswith(".gz"):
        raise source.error(
            f"expected gzip data as the name says, got bytes {start.hex(' ')};"
            " if the file is unpacked already, take .gz off its name"
        )
    return False


@contextlib.contextmanager
def _unpacked(source: Source) -> Iterator[Source]:
    import gzip
    import zlib

    with gzip.GzipFile(fileobj=source.stream) as stream:
        yield Source(
            source.operation,
            source.name,
            stream,
            source.size,
            packed=True,
            faults=(OSError, zlib.error),
        )
