import io
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sillar.data import read_npy
from sillar.errors import DataError

HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"
DATA = np.arange(6, dtype="<f4").tobytes()
DTYPES = (
    hnp.boolean_dtypes()
    | hnp.integer_dtypes(endianness="?")
    | hnp.unsigned_integer_dtypes(endianness="?")
    | hnp.floating_dtypes(endianness="?")
    | hnp.complex_number_dtypes(endianness="?")
    | hnp.unicode_string_dtypes(endianness="?", min_len=1, max_len=5)
    | hnp.byte_string_dtypes(min_len=1, max_len=5)
)


def npy(header=HEADER, data=DATA, version=1, length=None):
    """Return the bytes of an NPY file: the reference writer of these tests."""
    text = header.encode() if isinstance(header, str) else header
    size = len(text) if length is None else length
    field = size.to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + field + text + data


def saved(array, version=None):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version)
    return file.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("npy")


def read(folder, data):
    (folder / "file.npy").write_bytes(data)
    return read_npy(folder / "file.npy")


@given(
    array=hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0)),
    version=st.sampled_from([(1, 0), (2, 0), (3, 0)]),
    fortran=st.booleans(),
)
def test_what_numpy_saves_comes_back(folder, array, version, fortran):
    if fortran:
        array = np.asfortranarray(array)
    result = read(folder, saved(array, version))
    assert result.shape == array.shape
    assert result.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(result, array)
    assert result.flags.c_contiguous
    assert result.flags.writeable


def test_a_numpy_scalar_and_an_empty_array(folder):
    assert read(folder, saved(np.array(2.5))) == 2.5
    assert read(folder, saved(np.zeros((3, 0, 2)))).shape == (3, 0, 2)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_headers_of_other_writers(folder, version):
    header = '{"shape": (2, 3), "fortran_order": True, "descr": "<f4"}'
    result = read(folder, npy(header, version=version))
    np.testing.assert_array_equal(result, [[0, 2, 4], [1, 3, 5]])


def changed(old, new):
    assert old in HEADER
    return npy(HEADER.replace(old, new))


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("the file was unpickled",))


OBJECTS = npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"")
DAMAGED = "a header with descr, fortran_order and shape"
NO_SHAPE = "fortran_order True or False and a shape of at most 32 sizes"
NO_NUMBERS = "a dtype of plain numbers or text"
BROKEN = {
    "four bytes": (b"\x93NUM", "expected 8 bytes of the magic number, got 4"),
    "wrong magic": (b"1,2,3\n4,5,6\n", "starts with b'.x93NUMPY', got b'1,2,3.*save"),
    "a zip": (b"PK\3\4" + bytes(9), "it is a zip archive: use read_npz"),
    "version 4": (npy(version=4), "version 1.0, 2.0 or 3.0, got 4.0"),
    "version 1.1": (b"\x93NUMPY\1\1" + npy()[8:], "got 1.1; write the file again"),
    "no length": (npy()[:9], "expected 2 bytes of the header length, got 1"),
    "header cut": (npy()[:40], "expected 59 bytes of the header, got 30"),
    "huge header": (npy(" " * 10_001), "at most 10,000 bytes, got 10,001"),
    "vast header": (npy(version=2, length=2**32 - 1), "got 4,294,967,295; the file"),
    "no literal": (npy("import os"), DAMAGED),
    "a call": (npy("{'descr': open('/etc/passwd')}"), DAMAGED),
    "deep": (npy("(" * 9000), DAMAGED),
    "deep minus": (npy("-" * 9000 + "1"), DAMAGED),
    "no dictionary": (npy("[1, 2]"), DAMAGED),
    "null": (npy("{\0}"), DAMAGED),
    "unhashable": (npy("{[]: 1}"), DAMAGED),
    "other bytes": (npy(b"\xff\xfe", version=3), DAMAGED),
    "a key more": (changed("}", "'more': 1}"), DAMAGED),
    "a key less": (changed("'fortran_order': False,", ""), DAMAGED),
    "order": (changed("False", "0"), NO_SHAPE),
    "negative": (changed("(2, 3)", "(-2, -3)"), NO_SHAPE),
    "float": (changed("(2, 3)", "(2.0, 3)"), NO_SHAPE),
    "bool": (changed("(2, 3)", "(True, 3)"), NO_SHAPE),
    "list": (changed("(2, 3)", "[2, 3]"), NO_SHAPE),
    "beyond int64": (changed("(2, 3)", "(2, 9223372036854775808)"), NO_SHAPE),
    "axes": (changed("(2, 3)", f"({'1,' * 33})"), NO_SHAPE),
    "digits": (changed("(2, 3)", f"({'9' * 4200},) * 2"), DAMAGED),
    "product": (
        changed("(2, 3)", f"({'9223372036854775807,' * 32})"),
        "after the header, got 24",
    ),
    "vast and empty": (
        npy(HEADER.replace("(2, 3)", f"(0, {2**62}, {2**62})"), b""),
        "a shape that NumPy can hold",
    ),
    "objects": (OBJECTS + pickle.dumps(Trap()), "pickled Python objects, .* never"),
    "objects, sized": (changed("<f4", "<O8"), "pickled Python objects"),
    "structured": (changed("'<f4'", "[('a', '<f4')]"), NO_NUMBERS),
    "structured text": (changed("<f4", "f4,f4"), NO_NUMBERS),
    "sub-array": (changed("<f4", "(2,)f4"), NO_NUMBERS),
    "void": (changed("<f4", "|V4"), NO_NUMBERS),
    "date": (changed("<f4", "<M8[s]"), NO_NUMBERS),
    "unknown size": (changed("<f4", "<f3"), NO_NUMBERS),
    "no size": (changed("<f4", "<U0"), NO_NUMBERS),
    "great size": (changed("<f4", "<U999999999"), NO_NUMBERS),
    "name": (changed("<f4", "float32"), NO_NUMBERS),
    "number": (changed("'<f4'", "4"), NO_NUMBERS),
    "data cut": (npy()[:-1], r"24 bytes for float32 \(2, 3\) .* got 23; .* truncated"),
    "data trailing": (npy() + b"x", "got 25; the file is too long"),
    "vast": (
        changed("(2, 3)", "(1000000, 1000000)"),
        "expected 4,000,000,000,000 bytes",
    ),
    "no bool": (
        npy("{'descr': '|b1', 'fortran_order': False, 'shape': (2,)}", b"\1\2"),
        "expected bool values of at most 0x1, got 0x2",
    ),
    "no character": (
        npy("{'descr': '>U1', 'fortran_order': False, 'shape': (1,)}", b"\0\x11\0\0"),
        "expected str32 values of at most 0x10ffff, got 0x110000",
    ),
}


@pytest.mark.parametrize(("data", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_files_are_refused(folder, data, message):
    with pytest.raises(DataError, match=rf"^read_npy: '.*file.npy': .*{message}"):
        read(folder, data)


@pytest.mark.parametrize("array", [np.array([Trap()]), np.array([{}, None])])
def test_objects_are_never_unpickled(tmp_path, array):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match="pickled Python objects"):
        read_npy(tmp_path / "a.npy")


@given(position=st.integers(0, 90), byte=st.integers(0, 255), end=st.integers(0, 90))
def test_damage_is_read_or_refused(folder, position, byte, end):
    damaged = bytearray(npy())
    damaged[position % len(damaged)] = byte
    try:
        result = read(folder, bytes(damaged[: end or None]))
    except DataError:
        return
    repr(result)


@given(header=st.text(max_size=60) | st.from_regex(r"\A\{'descr': .{0,40}\}\Z"))
def test_any_header_is_read_or_refused(folder, header):
    with pytest.raises(DataError):
        read(folder, npy(header.encode("utf-8", "replace"), version=3))
