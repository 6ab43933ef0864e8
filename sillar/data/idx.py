"""IDX: the format of MNIST, a typed header and the raw array."""

from __future__ import annotations

import os
import struct

import numpy as np

from sillar.data.source import Source, open_source

_TYPES = {
    0x08: ">u1",
    0x09: ">i1",
    0x0B: ">i2",
    0x0C: ">i4",
    0x0D: ">f4",
    0x0E: ">f8",
}


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Return the array of an IDX file, plain or packed with gzip."""
    with open_source(path, "read_idx", gzip=True) as source:
        dtype, rank = _magic(source)
        sizes = struct.unpack(f">{rank}I", source.take(4 * rank, "sizes"))
        return source.array(dtype, sizes)


def _magic(source: Source) -> tuple[np.dtype, int]:
    """Return type and number of axes from the first four bytes."""
    magic = source.take(4, "the magic number")
    code, rank = magic[2:]
    if magic[:2] != b"\0\0":
        raise source.error(
            "expected an IDX file, which starts with bytes 00 00,"
            f" got {magic.hex(' ')};"
            " read other formats with read_csv, read_npy or read_npz"
        )
    if code not in _TYPES:
        known = ", ".join(f"{known:02x}" for known in _TYPES)
        raise source.error(
            f"expected an IDX type code out of {known}, got {code:02x};"
            " this is no IDX file or it is damaged: fetch it again"
        )
    if not 1 <= rank <= 32:
        raise source.error(
            f"expected 1 to 32 axes, got {rank};"
            " this is no IDX file or it is damaged: fetch it again"
        )
    return np.dtype(_TYPES[code]), rank
