"""The header of an array file: JSON text to checked entries, and back.

    {"__metadata__": {text: text},
     name: {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...}

It is the safetensors layout, held to the letter: whatever the text says twice, says
outside this form, or says against the size of the data is refused.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from sillar.errors import ConfigError, DtypeError, FormatError

HEADER_LIMIT = 2**20  # bytes; room for about 10,000 arrays
HEADER_MEMORY = 48 * HEADER_LIMIT  # bytes; the worst header known to us takes 33 times

DTYPES = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "U16": np.dtype("<u2"),
    "U32": np.dtype("<u4"),
    "U64": np.dtype("<u8"),
    "I8": np.dtype("i1"),
    "I16": np.dtype("<i2"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}
_CODES = {dtype.str: code for code, dtype in DTYPES.items()}
_FOREIGN = ("BF16", "F8_", "F6_", "F4")  # the layout's types that NumPy lacks begin so
_METADATA = "__metadata__"
_FIELDS = ("dtype", "shape", "data_offsets")
_DEPTH = 3  # header, entry, shape
_RANK = 64  # NumPy's limit
_SHORT = reprlib.Repr()
_SHORT.maxstring = 100


class Entry(NamedTuple):
    """One array: bytes `begin` to `end` of the data, counted from the header's end."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    end: int


class Header(NamedTuple):
    """What a file says about itself; its data begins at byte `offset`."""

    metadata: dict[str, str]
    entries: dict[str, Entry]
    offset: int


def compose(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """Return the text that describes `arrays`, padded to a multiple of 8 bytes."""
    import json

    table: dict[str, Any] = {}
    if metadata:
        if not _are_text(*metadata, *metadata.values()):
            got = show(dict(metadata))
            raise _misuse("metadata from text to text", got, "turn it into strings")
        table[_METADATA] = dict(sorted(metadata.items()))
    begin = 0
    for name, array in arrays.items():
        if not _are_text(name) or name in ("", _METADATA):
            raise _misuse("names that are text", show(name), "rename the array")
        code = _code(name, array.dtype)
        span = [begin, begin + array.nbytes]
        table[name] = {"dtype": code, "shape": [*array.shape], "data_offsets": span}
        begin += array.nbytes
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > HEADER_LIMIT:
        limit = f"names and metadata within {HEADER_LIMIT} bytes"
        raise _misuse(limit, len(text), "shorten them or write two files")
    return text


def _misuse(expected: str, got: object, advice: str) -> ConfigError:
    return ConfigError(f"write arrays: expected {expected}, got {got}; {advice}")


def _code(name: str, dtype: np.dtype[Any]) -> str:
    """Return what the layout calls `dtype`."""
    if little(dtype) not in _CODES:
        raise DtypeError(
            f"write arrays: expected {name!r} as bool, integer, float16, float32 or"
            f" float64, got {dtype}; convert it with .astype first"
        )
    return _CODES[little(dtype)]


def little(dtype: np.dtype[Any]) -> str:
    """Return NumPy's name of `dtype` in little-endian order."""
    return dtype.str.replace(">", "<")


def parse(text: bytes, size: int) -> Header:
    """Return the header that `text` holds, for a file with `size` bytes of data."""
    table = _load(text)
    metadata = table.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not _are_text(*metadata, *metadata.values()):
        raise refusal(f"{_METADATA} from text to text", show(metadata))
    entries = {name: _entry(name, fields) for name, fields in table.items()}
    _check_cover(entries, size)
    return Header(metadata, entries, 8 + len(text))


def refusal(expected: str, got: object, advice: str = "") -> FormatError:
    """Return the error that refuses a file; who knows the path adds it."""
    advice = advice or "it is damaged or no model file; save it again or fetch it anew"
    return FormatError(f"expected {expected}, got {got}; {advice}")


def show(value: object) -> str:
    """Return `value` in at most 400 characters, however long, deep or odd it is."""
    text = _SHORT.repr(value)
    return text if len(text) <= 400 else f"{text[:397]}..."


def _load(text: bytes) -> dict[str, Any]:
    """Return the JSON object in `text`: unique names, whole numbers, nothing deep."""
    import json

    if not text.startswith(b"{"):
        raise refusal("a header that begins with '{'", text[:8])
    unescaped = text.replace(rb"\\", b"").replace(rb"\"", b"")  # a quote is a quote now
    outside = b"".join(unescaped.split(b'"')[::2])
    if max(accumulate((c in b"[{") - (c in b"]}") for c in outside)) > _DEPTH:
        raise refusal(f"a header nested {_DEPTH} deep", "a deeper one")
    try:
        table: dict[str, Any] = json.loads(
            text.decode(),
            object_pairs_hook=_unique,
            parse_int=_whole,
            parse_float=_whole,
            parse_constant=_whole,
        )
    except ValueError as error:
        raise refusal("a header in JSON", error) from error
    return table


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return `pairs` as a dict; JSON lets a name stand twice, we do not."""
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("an object in which a name stands twice")
    return table


def _whole(text: str) -> int:
    """Return the number `text`, which must be whole, not negative and below 10**19."""
    if not text.isdigit() or len(text) > 19:
        raise ValueError(f"{show(text)} where a number from 0 to 10**19 - 1 is due")
    return int(text)


def _entry(name: str, fields: Any) -> Entry:
    """Return the entry that `fields` describe, if an array can be like that."""
    label = show(name)
    if not name or not _are_text(name):
        raise refusal("names that are text and not empty", label)
    if not isinstance(fields, dict) or fields.keys() != set(_FIELDS):
        raise refusal(f"{label} to have {', '.join(_FIELDS)}", show(fields))
    dtype = _dtype(label, fields["dtype"])
    shape, span = fields["shape"], fields["data_offsets"]
    if not _are_whole(shape) or len(shape) > _RANK:
        what = f"the shape of {label} to be a list of at most {_RANK} sizes"
        raise refusal(what, show(shape))
    if math.prod(max(n, 1) for n in shape) * dtype.itemsize >= 2**63:
        raise refusal(f"{label} to have less than 2**63 bytes", f"shape {show(shape)}")
    if not _are_whole(span) or len(span) != 2 or span[0] > span[1]:
        raise refusal(f"data_offsets of {label} to be [begin, end]", show(span))
    size = math.prod(shape) * dtype.itemsize
    if span[1] - span[0] != size:
        what = f"{size} bytes for {label}, {dtype} of shape {show(shape)}"
        raise refusal(what, f"data_offsets {span}")
    return Entry(dtype, tuple(shape), *span)


def _dtype(label: str, code: Any) -> np.dtype[Any]:
    """Return the dtype that the layout calls `code`."""
    if not isinstance(code, str) or code not in DTYPES:
        known = isinstance(code, str) and code.startswith(_FOREIGN)
        raise refusal(
            f"the dtype of {label} to be one of {', '.join(DTYPES)}",
            show(code),
            "it is known but not supported by NumPy; save it as F32" if known else "",
        )
    return DTYPES[code]


def _are_whole(value: Any) -> bool:
    """Return whether `value` is a list of numbers; `_whole` has seen to their range."""
    return isinstance(value, list) and all(type(n) is int for n in value)


def _are_text(*values: Any) -> bool:
    """Return whether all `values` are strings that UTF-8 can hold."""
    return all(
        isinstance(value, str) and value.encode(errors="ignore").decode() == value
        for value in values
    )


def _check_cover(entries: Mapping[str, Entry], size: int) -> None:
    """Check that `entries` use each of `size` bytes of data exactly once."""
    covered = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1][2:]):
        if entry.begin != covered:
            fault = "a hole" if entry.begin > covered else "an overlap"
            what = f"{show(name)} to begin at byte {covered} of the data"
            raise refusal(what, f"{entry.begin}, {fault}")
        covered = entry.end
    if covered != size:
        raise refusal(f"{covered} bytes of data after the header", size)
