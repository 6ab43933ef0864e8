"""NPZ: NumPy's format for several arrays, a zip archive of NPY files."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from sillar.data.npy import read_array
from sillar.data.source import DEFLATE_RATIO, Source, open_source
from sillar.errors import DataError

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

_ENCRYPTED = 0x1  # bit of ZipInfo.flag_bits
_STORED, _DEFLATED = 0, 8  # zip compression methods
_SUFFIX = ".npy"
_FAULTS = (  # what zipfile raises over damage, besides BadZipFile
    EOFError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
    zlib.error,
)


def read_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Return the arrays of an NPZ file by name."""
    with open_source(path, "read_npz") as source, _archive(source) as archive:
        members = archive.infolist()
        _check_archive(source, members)
        return {
            member.filename.removesuffix(_SUFFIX): _member(source, archive, member)
            for member in members
        }


@contextmanager
def _archive(source: Source) -> Iterator[ZipFile]:
    import zipfile

    try:
        with zipfile.ZipFile(source.stream) as archive:
            yield archive
    except DataError:
        raise
    except (zipfile.BadZipFile, *_FAULTS) as fault:
        raise source.error(
            f"expected a zip archive of NPY files, got damage ({fault});"
            " fetch it again, or use read_npy for a single array"
        ) from None


def _check_archive(source: Source, members: list[ZipInfo]) -> None:
    seen: set[str] = set()
    for member in members:
        _check_member(source, member)
        if member.filename in seen:
            raise source.error(
                f"expected different names, got {member.filename!r} twice;"
                " write the file again with numpy.savez"
            )
        seen.add(member.filename)
    packed = sum(member.compress_size for member in members)
    if packed > source.size:
        raise source.error(
            f"expected members of at most {source.size:,} bytes, the size of the file,"
            f" got {packed:,}; members overlap, the file is damaged or hostile:"
            " write it again with numpy.savez"
        )


def _check_member(source: Source, member: ZipInfo) -> None:
    name = member.filename
    if not name.endswith(_SUFFIX) or "/" in name or "\\" in name:
        raise source.error(
            f"expected members NAME.npy without folders, got {name!r};"
            " write the file again with numpy.savez"
        )
    if member.flag_bits & _ENCRYPTED:
        raise source.error(
            f"expected readable members, got {name!r} encrypted;"
            " unpack the archive with its password and pack it again without one"
        )
    if member.compress_type not in (_STORED, _DEFLATED):
        raise source.error(
            f"expected members stored or deflated, got {name!r} packed by method"
            f" {member.compress_type}; write the file again with numpy.savez"
        )
    if member.file_size > member.compress_size * DEFLATE_RATIO:
        raise source.error(
            f"expected {name!r} to unpack to at most {DEFLATE_RATIO} times its"
            f" {member.compress_size:,} bytes, got a claim of {member.file_size:,};"
            " the file is damaged or hostile: write it again with numpy.savez"
        )


def _member(source: Source, archive: ZipFile, member: ZipInfo) -> np.ndarray:
    with archive.open(member) as stream:
        return read_array(
            Source(
                source.operation,
                f"{source.name}[{member.filename}]",
                stream,
                member.file_size,
            )
        )
