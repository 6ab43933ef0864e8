import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sillar.data import read_npz
from sillar.errors import DataError

ARRAYS = {
    "x": np.arange(6, dtype=np.float32).reshape(2, 3),
    "y": np.asfortranarray(np.eye(3, 2)),
    "names": np.array(["a", "ä"]),
}


def member(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def packed(members, method=zipfile.ZIP_DEFLATED):
    """Return a zip archive of (name, bytes) pairs."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return file.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("npz")


def read(folder, data):
    (folder / "file.npz").write_bytes(data)
    return read_npz(folder / "file.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_saves_comes_back(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    result = read_npz(tmp_path / "a.npz")
    assert list(result) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(result[name], array)
        assert result[name].dtype == array.dtype
        assert result[name].flags.c_contiguous
        assert result[name].flags.writeable


def test_an_archive_of_nothing(tmp_path):
    np.savez(tmp_path / "a.npz")
    assert read_npz(tmp_path / "a.npz") == {}


def test_an_empty_array_among_others(folder):
    data = packed([("a.npy", member(np.zeros((0, 2)))), ("b.npy", member(np.ones(1)))])
    assert {name: array.shape for name, array in read(folder, data).items()} == {
        "a": (0, 2),
        "b": (1,),
    }


ONE = member(np.arange(100))
GOOD = packed([("a.npy", ONE)])
START = GOOD.index(b"PK\1\2")  # of the central directory


def patched(offset, layout, value, data=GOOD, start=START):
    """Return an archive with one field of its central directory replaced."""
    broken = bytearray(data)
    struct.pack_into(layout, broken, start + offset, value)
    return bytes(broken)


def twice(name):
    with pytest.warns(UserWarning, match="Duplicate"):
        return packed([(name, ONE), (name, ONE)])


def overlapping():
    """Return an archive whose directory lists one member's bytes many times."""
    entry, end = GOOD[START : GOOD.index(b"PK\5\6")], bytearray(GOOD[-22:])
    entries = [entry.replace(b"a.npy", b"%c.npy" % (97 + i)) for i in range(9)]
    struct.pack_into("<HHI", end, 8, 9, 9, len(entry) * 9)
    return GOOD[:START] + b"".join(entries) + bytes(end)


BROKEN = {
    "no zip": (b"not a zip archive at all", "a zip archive of NPY files, got damage"),
    "an NPY file": (ONE, "or use read_npy for a single array"),
    "cut": (GOOD[:-30], "got damage"),
    "half": (GOOD[: len(GOOD) // 2], "got damage"),
    "body": (GOOD[:45] + bytes(9) + GOOD[54:], "got damage"),
    "checksum": (patched(16, "<I", 1), "got damage .*CRC-32"),
    "encrypted": (patched(8, "<H", 1), "readable members, got 'a.npy' encrypted"),
    "method": (patched(10, "<H", 14), "stored or deflated, got 'a.npy' .* method 14"),
    "bzip2": (packed([("a.npy", ONE)], zipfile.ZIP_BZIP2), "packed by method 12"),
    "nested": (packed([("a/b.npy", ONE)]), "NAME.npy without folders, got 'a/b.npy'"),
    "above": (packed([("../b.npy", ONE)]), "without folders, got '../b.npy'"),
    "backslash": (packed([("a\\b.npy", ONE)]), "without folders, got "),
    "folder": (packed([("a/", b"")]), "without folders, got 'a/'"),
    "no array": (packed([("a.txt", b"1")]), "members NAME.npy .*, got 'a.txt'"),
    "archive in archive": (packed([("a.npz", GOOD)]), "NAME.npy .*, got 'a.npz'"),
    "twice": (twice("a.npy"), "expected different names, got 'a.npy' twice"),
    "overlap": (overlapping(), "members overlap"),
    "vast claim": (patched(24, "<I", 2**31), "a claim of 2,147,483,648"),
    "long claim": (patched(24, "<I", len(ONE) + 8), r"got 808; the file is too long"),
    "short claim": (patched(24, "<I", len(ONE) - 8), "got damage .*CRC-32"),
    "beyond the file": (patched(20, "<I", 2**31), "at most .* bytes, the size of the"),
    "elsewhere": (patched(42, "<I", 7), "got damage"),
    "far away": (patched(42, "<I", 2**32 - 2), "got damage"),
    "no NPY": (
        packed([("a.npy", b"12345678")]),
        r"\[a.npy\]': expected an NPY file",
    ),
    "empty member": (packed([("a.npy", b"")]), "8 bytes of the magic number, got 0"),
    "objects": (packed([("a.npy", member(np.array([{}])))]), "pickled Python objects"),
    "member cut": (packed([("a.npy", ONE[:-1])]), "got 799; the file is truncated"),
    "member long": (packed([("a.npy", ONE + b"x")]), "got 801; the file is too long"),
}


@pytest.mark.parametrize(("data", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_files_are_refused(folder, data, message):
    with pytest.raises(DataError, match=rf"^read_npz: '.*file.npz.*{message}"):
        read(folder, data)


def test_a_bomb_is_left_at_its_claim(folder):
    honest = packed([("a.npy", member(np.zeros(2**25, dtype=np.uint8)))])
    start = honest.index(b"PK\1\2")
    bomb = patched(24, "<I", 2**16, honest, start)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"expected 33,554,432 bytes .* got 65,408"):
        read(folder, bomb)
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()


@given(
    position=st.integers(0, 2000), byte=st.integers(0, 255), end=st.integers(0, 2000)
)
def test_damage_is_read_or_refused(folder, position, byte, end):
    damaged = bytearray(GOOD)
    damaged[position % len(GOOD)] = byte
    if 0 < end < len(GOOD):
        del damaged[end:]
    try:
        result = read(folder, bytes(damaged))
    except DataError:
        return
    assert all(array.shape == (100,) for array in result.values())
