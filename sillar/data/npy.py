"""NPY: NumPy's own format for one array, without pickled objects."""

from __future__ import annotations

import ast
import os
import re
from typing import TypeGuard

import numpy as np

from sillar.data.source import Source, open_source

_MAGIC = b"\x93NUMPY"
_HEADER_LIMIT = 10_000  # bytes; a header of plain numbers needs about a hundred
_PLAIN_TYPE = re.compile(r"[<>=|]?[biufcSU][0-9]{1,9}|\|?\?")
_KEYS = {"descr", "fortran_order", "shape"}


def read_npy(path: str | os.PathLike[str]) -> np.ndarray:
    """Return the array of an NPY file of numbers or text, in C order."""
    with open_source(path, "read_npy") as source:
        return read_array(source)


def read_array(source: Source) -> np.ndarray:
    """Return the array of a stream in NPY format."""
    dtype, fortran, shape = open_array(source)
    if fortran:
        array = source.array(dtype, shape[::-1]).T
    else:
        array = source.array(dtype, shape)
    _check_values(source, array)
    return np.ascontiguousarray(array).reshape(shape)


def open_array(source: Source) -> tuple[np.dtype, bool, tuple[int, ...]]:
    """Return type, whether in Fortran order, and shape; the values come next."""
    return _parse(source, _header(source))


def _header(source: Source) -> str:
    """Return the text of the header; its length field has 2 bytes in version 1, else 4.

    Format: numpy.lib.format, versions 1.0, 2.0 and 3.0.
    """
    start = source.take(8, "the magic number")
    if start[:6] != _MAGIC:
        advice = "; it is a zip archive: use read_npz" if start[:2] == b"PK" else ""
        raise source.error(
            f"expected an NPY file, which starts with {_MAGIC!r},"
            f" got {start[:6]!r}{advice or '; check that numpy.save wrote it'}"
        )
    major, minor = start[6:]
    if major not in (1, 2, 3) or minor != 0:
        raise source.error(
            f"expected NPY version 1.0, 2.0 or 3.0, got {major}.{minor};"
            " write the file again with numpy.save"
        )
    field = source.take(2 if major == 1 else 4, "the header length")
    length = int.from_bytes(field, "little")
    if length > _HEADER_LIMIT:
        raise source.error(
            f"expected a header of at most {_HEADER_LIMIT:,} bytes, got {length:,};"
            " the file is damaged or hostile: write it again with numpy.save"
        )
    header = source.take(length, "the header")
    return header.decode("utf-8" if major == 3 else "latin-1", "replace")


def _parse(source: Source, header: str) -> tuple[np.dtype, bool, tuple[int, ...]]:
    try:
        fields = ast.literal_eval(header.strip())
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        fields = None
    if not isinstance(fields, dict) or set(fields) != _KEYS:
        raise source.error(
            "expected a header with descr, fortran_order and shape,"
            f" got {header[:80]!r}; the file is damaged: write it again with numpy.save"
        )
    fortran, shape = fields["fortran_order"], fields["shape"]
    if not isinstance(fortran, bool) or not _is_shape(shape):
        raise source.error(
            "expected fortran_order True or False and a shape of at most 32 sizes,"
            f" got {header[:80]!r}; the file is damaged: write it again with numpy.save"
        )
    return _dtype(source, fields["descr"]), fortran, shape


def _is_shape(shape: object) -> bool:
    return (
        isinstance(shape, tuple)
        and len(shape) <= 32
        and all(type(size) is int and 0 <= size < 2**63 for size in shape)
    )


def _dtype(source: Source, descr: object) -> np.dtype:
    """Return the type of plain numbers or text that `descr` names."""
    if isinstance(descr, str) and descr.lstrip("<>=|").startswith("O"):
        raise source.error(
            "expected numbers or text, got pickled Python objects, which can run"
            " code and are never read; save each array with a numeric dtype"
        )
    try:
        dtype = np.dtype(descr) if _is_plain(descr) else None
    except (TypeError, ValueError):  # a size that NumPy does not have
        dtype = None
    if dtype is None or dtype.itemsize == 0:
        raise source.error(
            f"expected a dtype of plain numbers or text, got {repr(descr)[:80]};"
            " save each column as an array of its own"
        )
    return dtype


def _is_plain(descr: object) -> TypeGuard[str]:
    return isinstance(descr, str) and _PLAIN_TYPE.fullmatch(descr) is not None


def _check_values(source: Source, array: np.ndarray) -> None:
    """Refuse bytes that are no value of the type; NumPy itself would crash on them."""
    flat = array.T.reshape(-1) if array.flags.f_contiguous else array.reshape(-1)
    if array.dtype.kind == "b":
        highest = flat.view(np.uint8).max(initial=0)
        allowed = 1
    elif array.dtype.kind == "U":
        highest = flat.view(np.uint32).max(initial=0)
        allowed = 0x10FFFF
    else:
        return
    if highest > allowed:
        raise source.error(
            f"expected {array.dtype.name} values of at most {allowed:#x},"
            f" got {highest:#x}; the file is damaged: fetch it again"
        )
