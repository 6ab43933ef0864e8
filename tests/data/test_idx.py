import gzip
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sillar.data import read_idx
from sillar.errors import DataError

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def idx(array):
    """Return the bytes of an IDX file: the reference writer of these tests."""
    code = CODES[array.dtype.str[1:]]
    head = struct.pack(f">4B{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("idx")


def read(folder, data, name="file"):
    (folder / name).write_bytes(data)
    return read_idx(folder / name)


@given(
    array=st.sampled_from(list(CODES)).flatmap(
        lambda code: hnp.arrays(
            code, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)
        )
    ),
    packed=st.booleans(),
)
def test_every_type_comes_back(folder, array, packed):
    data = gzip.compress(idx(array)) if packed else idx(array)
    result = read(folder, data)
    assert result.dtype == array.dtype
    assert result.dtype.isnative
    np.testing.assert_array_equal(result, array)
    assert result.flags.writeable
    assert result.flags.c_contiguous


def test_known_bytes():
    head = bytes([0, 0, 0x0B, 2, 0, 0, 0, 1, 0, 0, 0, 2])
    assert idx(np.array([[1, -2]], dtype=np.int16)) == head + b"\0\1\xff\xfe"


def test_several_gzip_members_and_padding(folder):
    data = idx(IMAGES)
    packed = gzip.compress(data[:9]) + gzip.compress(data[9:]) + bytes(8)
    np.testing.assert_array_equal(read(folder, packed), IMAGES)


def patched(position, value):
    data = bytearray(idx(IMAGES))
    data[position] = value
    return bytes(data)


PACKED = gzip.compress(idx(IMAGES), mtime=0)
BROKEN = {
    "three bytes": (b"\0\0\x08", "expected 4 bytes of the magic number, got 3"),
    "wrong magic": (b"P5 28 28", "starts with bytes 00 00, got 50 35 20 32"),
    "little-endian": (idx(IMAGES)[3::-1] + bytes(9), "got 03 08 00 00"),
    "unknown type": (patched(2, 0x0A), "out of 08, 09, 0b, 0c, 0d, 0e, got 0a"),
    "no axes": (patched(3, 0), "expected 1 to 32 axes, got 0"),
    "many axes": (patched(3, 255), "expected 1 to 32 axes, got 255"),
    "sizes cut": (idx(IMAGES)[:13], "expected 12 bytes of sizes, got 9"),
    "data cut": (
        idx(IMAGES)[:-1],
        r"24 bytes for uint8 \(2, 3, 4\).*got 23.*truncated",
    ),
    "data missing": (idx(IMAGES)[:16], "expected 24 bytes .* got 0; .* truncated"),
    "data trailing": (idx(IMAGES) + b"x", "expected 24 bytes .* got 25; .* too long"),
    "vast": (patched(4, 255), "expected 51,338,280,984 bytes for uint8"),
    "vast and empty": (
        struct.pack(">4B4I", 0, 0, 8, 4, 0, *[2**32 - 1] * 3),
        r"a shape that NumPy can hold, got \(0, 4294967295",
    ),
    "gzip cut": (PACKED[:-12], "expected more packed data, got the end of the file"),
    "gzip checksum cut": (PACKED[:-2], "got the end of the file; it is truncated"),
    "gzip header cut": (PACKED[:5], "got the end of the file; it is truncated"),
    "gzip checksum": (PACKED[:-8] + bytes(4) + PACKED[-4:], "got damage .*CRC"),
    "gzip body": (PACKED[:10] + b"\xff" * 20, "expected readable data, got damage"),
    "gzip tail": (PACKED + b"tail", "expected readable data, got damage .*gzip"),
    "gzip of nothing": (gzip.compress(b""), "4 bytes of the magic number, got 0"),
    "packed short": (
        gzip.compress(idx(IMAGES)[:-4]),
        "expected 24 bytes after the header, got 20; the file is truncated",
    ),
    "packed trailing": (
        gzip.compress(idx(IMAGES) + b"x"),
        "expected the end after 24 bytes of data, got more; the file is too long",
    ),
    "packed vast": (gzip.compress(patched(4, 255)), "packed bytes, too small for that"),
}


@pytest.mark.parametrize(("data", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_files_are_refused(folder, data, message):
    with pytest.raises(DataError, match=rf"^read_idx: '.*file': .*{message}"):
        read(folder, data)


def test_a_packed_name_needs_packed_data(folder):
    with pytest.raises(DataError, match=r"gzip data as the name says.*take .gz off"):
        read(folder, idx(IMAGES), "images.GZ")


@given(
    data=st.sampled_from([idx(IMAGES), PACKED]),
    position=st.integers(0, 200),
    byte=st.integers(0, 255),
    end=st.integers(0, 200),
)
def test_damage_is_read_or_refused(folder, data, position, byte, end):
    damaged = bytearray(data)
    damaged[position % len(data)] = byte
    try:
        result = read(folder, bytes(damaged[: end or None]))
    except DataError:
        return
    assert isinstance(result, np.ndarray)
