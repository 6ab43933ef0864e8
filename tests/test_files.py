import os
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sillar import files, header
from sillar.errors import ConfigError, FormatError
from sillar.files import read_arrays, read_header, read_into, write_arrays
from tests.fuzz_files import agree_with_safetensors, fuzz, valid_files

CODES = "?BHILbhilefd"
RAGGED = np.arange(24, dtype="f4").reshape(2, 3, 4)
ARRAYS = {
    **{f"of {code}": np.arange(6).astype(code).reshape(2, 3) for code in CODES},
    "big endian": np.arange(3, dtype=">f4"),
    "big endian, strided": np.arange(6, dtype=">i8")[::2],
    "scalar": np.float64(1.5),
    "python float": 1.5,
    "empty": np.zeros((0, 3), "f4"),
    "empty in the middle": np.zeros((2, 0, 3), "i2"),
    "transposed": RAGGED.T,
    "backwards": RAGGED[::-1, :, ::-2],
    "column": RAGGED[:, 1],
    "broadcast": np.broadcast_to(np.float32(1), (2, 3)),
    "fortran": np.asfortranarray(RAGGED),
    "nan": np.array([np.nan, -np.nan, np.inf, -0.0], "f2"),
    'weird " \\ \n \x00 \x7f \u2028 \U0001f600 ../../x': np.ones(1, "f4"),
    "long double's cousin": np.ones(2, np.longlong),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def assert_same(expected, actual):
    assert list(expected) == list(actual)
    for name, array in expected.items():
        array = np.asarray(array)
        little = array.dtype.newbyteorder("<")
        assert (little, array.shape) == (actual[name].dtype, actual[name].shape)
        assert array.astype(little).tobytes() == actual[name].tobytes()


def layout(text, data=b"", length=None):
    """Return the bytes of a file, which may lie about the length of its header."""
    length = len(text) if length is None else length
    return length.to_bytes(8, "little") + text + data


BAD_BOOL = b'{"m":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}}'


# Right


def test_arrays_come_back_the_same_and_writable(path):
    metadata = {"b": "2", "a": '{"x": "é \U0001f600"}', "": ""}
    write_arrays(path, ARRAYS, metadata)
    arrays, actual = read_arrays(path)
    assert_same(ARRAYS, arrays)
    assert metadata == actual
    assert all(a.flags.writeable and a.flags.owndata for a in arrays.values())


def test_safetensors_reads_what_we_write(path):
    safetensors = pytest.importorskip("safetensors.numpy", reason="the oracle")
    write_arrays(path, ARRAYS, {"a": "b"})
    actual = safetensors.load_file(path)
    assert_same(ARRAYS, {name: actual[name] for name in ARRAYS})
    agree_with_safetensors(read_arrays(path), path.read_bytes())


def test_we_read_what_safetensors_writes(path):
    safetensors = pytest.importorskip("safetensors.numpy", reason="the oracle")
    arrays = {name: np.array(array, order="C") for name, array in ARRAYS.items()}
    arrays = {name: a.astype(a.dtype.newbyteorder("=")) for name, a in arrays.items()}
    safetensors.save_file(arrays, path, {"a": "b"})
    actual, metadata = read_arrays(path)
    assert_same(arrays, {name: actual[name] for name in arrays})
    assert metadata == {"a": "b"}


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=60, deadline=None)
@given(
    arrays=st.dictionaries(
        NAMES.filter(lambda name: name not in ("", "__metadata__")),
        hnp.arrays(
            st.one_of(
                hnp.boolean_dtypes(),
                hnp.integer_dtypes(endianness="?"),
                hnp.unsigned_integer_dtypes(endianness="?"),
                hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
            ),
            hnp.array_shapes(min_dims=0, min_side=0, max_dims=4, max_side=4),
        ),
        max_size=5,
    ),
    metadata=st.dictionaries(NAMES, NAMES, max_size=3),
)
def test_anything_comes_back(tmp_path_factory, arrays, metadata):
    path = tmp_path_factory.mktemp("files") / "any.safetensors"
    write_arrays(path, arrays, metadata)
    actual, actual_metadata = read_arrays(path)
    assert_same(arrays, actual)
    assert metadata == actual_metadata
    agree_with_safetensors((actual, actual_metadata), path.read_bytes())


def test_equal_input_gives_equal_bytes_in_the_documented_layout(path):
    arrays = {"w": np.array([1, 2], "<f4"), "b": np.array([True])}
    write_arrays(path, arrays, {"b": "2", "a": "1"})
    first = path.read_bytes()
    write_arrays(path, {n: a.copy() for n, a in arrays.items()}, {"a": "1", "b": "2"})
    text = (
        b'{"__metadata__":{"a":"1","b":"2"},'
        b'"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
        b'"b":{"dtype":"BOOL","shape":[1],"data_offsets":[8,9]}}'
    )
    text += b" " * (-len(text) % 8)
    data = np.array([1, 2], "<f4").tobytes() + b"\x01"
    assert layout(text, data) == first == path.read_bytes()


def test_header_is_read_without_data(path):
    write_arrays(path, {"w": np.zeros((2, 3), "f2"), "n": np.int64(3)}, {"a": "b"})
    actual = read_header(path)
    assert actual.metadata == {"a": "b"}
    assert ("w", (np.dtype("<f2"), (2, 3), 0, 12)) == next(iter(actual.entries.items()))
    assert (np.dtype("<i8"), (), 12, 20) == actual.entries["n"]
    assert path.stat().st_size - 20 == actual.offset
    assert actual.offset % 8 == 0


def test_bools_are_written_as_0_and_1(path):
    write_arrays(path, {"mask": np.frombuffer(b"\x00\x02\xff", bool)})
    assert path.read_bytes()[-3:] == b"\x00\x01\x01"


def test_read_into_fills_views_of_any_layout(path):
    vector = np.zeros(10, "f4")
    wide = np.zeros((4, 6), ">f4")
    targets = {
        "weight": vector[:6].reshape(2, 3),
        "bias": vector[6:9],
        "scalar": vector[9:].reshape(()),
        "strided": wide[::2, ::2].T,
        "bools": np.zeros(2, bool),
        "empty": np.zeros((0, 2), "f4"),
    }
    values = {
        name: np.arange(1, 1 + a.size).reshape(a.shape).astype(a.dtype)
        for name, a in targets.items()
    }
    write_arrays(path, values, {"a": "b"})
    assert read_into(path, targets) == {"a": "b"}
    for name, array in values.items():
        np.testing.assert_array_equal(targets[name], array, strict=True)
    assert vector.tolist() == [1, 2, 3, 4, 5, 6, 1, 2, 3, 1]
    assert np.count_nonzero(wide) == 6


def test_paths_may_be_text_and_names_long(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "m" * 255
    write_arrays(name, {"a": np.ones(2)})
    assert read_arrays(Path(name))[0]["a"].tolist() == [1, 1]
    assert [name] == os.listdir()


# Refused


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "at least 8 bytes, got 0"),
        (b"1234567", "at least 8 bytes, got 7"),
        (layout(b"", length=1), "a header of 1 bytes, got a file of 8"),
        (layout(b"{}", length=3), "a header of 3 bytes, got a file of 10"),
        (layout(b"{}", length=2**20), "a header of 1048576 bytes, got a file of 10"),
        (layout(b"{}", length=2**20 + 1), "at most 1048576 bytes, got 1048577"),
        (layout(b"{}", length=2**64 - 1), "at most 1048576 bytes, got 1844674407"),
        (layout(b"[]"), "a header that begins with '{'"),
        (layout(b"{}", b"1"), "0 bytes of data after the header, got 1"),
        (layout(BAD_BOOL, b"\x01\x02"), "only 0 and 1 in 'm', got 2"),
    ],
)
def test_broken_file_is_refused(path, data, message):
    path.write_bytes(data)
    for read in (read_arrays, lambda path: read_into(path, {"m": np.ones(2, bool)})):
        with pytest.raises(FormatError, match=message) as caught:
            read(path)
        assert str(caught.value).startswith(f"read {str(path)!r}: expected ")


def test_what_is_no_file_is_refused_at_once(tmp_path, path):
    os.mkfifo(tmp_path / "pipe")
    cases = {
        path: "got No such file or directory; check the path",
        tmp_path: "got Is a directory",
        tmp_path / "pipe": "a regular file, got a pipe or device",
        "/dev/zero": "a regular file, got a pipe or device",
        "": "No such file",
    }
    for what, message in cases.items():
        with pytest.raises(FormatError, match=message):
            read_arrays(what)
    with pytest.raises(TypeError):
        read_arrays(0)  # an open descriptor is no path


def test_bool_that_is_none_never_lands(path):
    path.write_bytes(layout(BAD_BOOL, b"\x01\x02"))
    target = np.zeros(2, bool)
    with pytest.raises(FormatError, match="only 0 and 1 in 'm'"):
        read_into(path, {"m": target})
    assert target.tolist() == [False, False]


def after_header(monkeypatch, act):
    """Have `act` done to the file between its header and its data."""

    def parse(text, size):
        act()
        return header.parse(text, size)

    monkeypatch.setattr(files, "parse", parse)


def test_file_cut_short_while_read(path, monkeypatch):
    write_arrays(path, {"a": np.ones(100_000), "b": np.ones(100_000)})
    after_header(monkeypatch, lambda: os.truncate(path, 1_000_000))
    with pytest.raises(FormatError, match=r"800000 bytes for 'b', got \d+; .* cut"):
        read_arrays(path)


@pytest.mark.parametrize("change", [b"more", b""])
def test_file_changed_while_read(path, monkeypatch, change):
    write_arrays(path, {"a": np.ones(10)})
    later = time.time_ns() + 10**9

    def act():
        with open(path, "ab") as file:
            file.write(change)
        if not change:  # a write that keeps the size shows in the time
            os.utime(path, ns=(later, later))

    after_header(monkeypatch, act)
    with pytest.raises(FormatError, match="a file at rest, got one that changes"):
        read_arrays(path)


def test_read_into_names_every_difference_and_writes_nothing(path):
    write_arrays(
        path,
        {"a": np.ones(2), "b": np.ones((2, 3)), "c": np.ones(1), "e": ARRAYS["nan"]},
    )
    targets = {
        "a": np.zeros(2),
        "b": np.zeros((3, 2)),
        "c": np.zeros(1, "f4"),
        "d": np.zeros(1),
    }
    with pytest.raises(FormatError) as caught:
        read_into(path, targets)
    message = str(caught.value)
    assert "missing ['d']; unexpected ['e']; different ['b: " in message
    assert "b: float64 (2, 3) for float64 (3, 2)" in message
    assert "c: float64 (1,) for float32 (1,)" in message
    assert all(not array.any() for array in targets.values())


def test_read_into_needs_writable_arrays(path):
    write_arrays(path, {"a": np.ones(2), "b": np.ones(2)})
    targets = {"a": np.zeros(2), "b": np.zeros(2)}
    targets["b"].flags.writeable = False
    with pytest.raises(ConfigError, match=r"read-only \['b'\]; pass copies"):
        read_into(path, targets)
    assert targets["a"].tolist() == [0, 0]


# Bounded


def peak(call, *args):
    """Return the most memory a call takes, in bytes."""
    tracemalloc.start()
    try:
        call(*args)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_reading_takes_no_more_memory_than_the_file(path):
    arrays = {
        "a": np.ones((1000, 1000), "f4"),
        "b": np.ones(1_000_000),
        "m": np.ones(10, "?"),
    }
    write_arrays(path, arrays)
    assert peak(read_arrays, path) < path.stat().st_size + 2**18
    assert peak(read_into, path, arrays) < 2**18
    assert peak(read_header, path) < 2**18


def test_broken_files_are_refused_or_right():
    pytest.importorskip("safetensors", reason="the oracle")
    report = fuzz(read_arrays, valid_files(), count=2000, check=agree_with_safetensors)
    assert report.loaded > 50
    assert len(report.refused) > 10


@pytest.mark.parametrize("fault", ["exception", "memory", "wrong"])
def test_fuzzing_finds_planted_faults(fault):
    def load(path):
        if fault == "exception":
            raise KeyError(path)
        return np.zeros(2**20) if fault == "memory" else None

    def check(result, data):
        assert fault != "wrong"

    with pytest.raises(AssertionError, match="seed 0, case 0"):
        fuzz(load, valid_files(), count=1, check=check)
