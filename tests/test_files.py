import errno
import json
import os
import random
import stat
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sillar import files, header
from sillar.errors import ConfigError, DtypeError, FormatError
from sillar.files import (
    HEADER_LIMIT,
    HEADER_MEMORY,
    read_arrays,
    read_header,
    read_into,
    write_arrays,
)
from tests.fuzz_files import agree_with_safetensors, fuzz, valid_files

ROOT = Path(__file__).parents[1]
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


def layout(entries, data=b"", length=None):
    """Return the bytes of a file; `entries` are a dict, text or bytes."""
    if isinstance(entries, dict):
        entries = json.dumps(entries)
    text = entries if isinstance(entries, bytes) else entries.encode()
    length = len(text) if length is None else length
    return length.to_bytes(8, "little") + text + data


def entry(dtype="U8", shape=(2,), span=(0, 2), **extra):
    return {"dtype": dtype, "shape": shape, "data_offsets": span, **extra}


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


def test_entries_may_stand_in_any_order_and_space(path):
    text = ' {"b" : {"dtype":"U8","shape":[1],"data_offsets":[1,2]},\n'[1:]
    text += '"a": {"shape":[1, 1],"data_offsets":[0,1],"dtype":"U8"} }  \n'
    path.write_bytes(layout(text, b"\x05\x06"))
    arrays, metadata = read_arrays(path)
    assert metadata == {}
    assert (arrays["b"].tolist(), arrays["a"].tolist()) == ([6], [[5]])


def test_bools_are_written_as_0_and_1(path):
    write_arrays(path, {"mask": np.frombuffer(b"\x00\x02\xff", bool)})
    assert path.read_bytes()[-3:] == b"\x00\x01\x01"


def test_read_into_fills_views_of_any_layout(path):
    vector = np.zeros(10, "f4")
    wide = np.zeros((4, 6), ">f4")
    targets = {
        "w": vector[:6].reshape(2, 3),
        "b": vector[6:9],
        "s": vector[9:].reshape(()),
    }
    targets |= {
        "t": wide[::2, ::2].T,
        "m": np.zeros(2, bool),
        "e": np.zeros((0, 2), "f4"),
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


# Refused on reading

TWO = b"\x01\x02"
DEEP = "[" * 900 + "]" * 900
HEADERS = {
    # what is wrong: entries, data, words of the error
    "not JSON": ("{abc", b"", "JSON.*Expecting property name"),
    "text after the object": ("{} {}", b"", "JSON.*Extra data"),
    "NUL padding": (b"{}\0\0", b"", "JSON.*Extra data"),
    "unfinished": ('{"a":', b"", "JSON.*Expecting value"),
    "empty": ("", b"", r"begins with '\{', got b''"),
    "a list": ("[]", b"", r"begins with '\{', got b'\[\]'"),
    "a byte order mark": (b"\xef\xbb\xbf{}", b"", r"begins with '\{'"),
    "leading space": (" {}", b"", r"begins with '\{'"),
    "UTF-16": ("{}".encode("utf-16-le"), b"", "JSON.*Expecting property name"),
    "not UTF-8": (b'{"\xff":1}', b"", "JSON.*can't decode byte 0xff"),
    "surrogate bytes": (b'{"\xed\xa0\x80":1}', b"", "JSON.*can't decode"),
    "control character": ('{"a\n":1}', b"", "JSON.*Invalid control character"),
    "deep": ('{"a":' + DEEP + "}", b"", "nested 3 deep, got a deeper one"),
    "deep after quotes": (r'{"\"":1,"\\":' + DEEP + "}", b"", "nested 3 deep"),
    "a name twice": ('{"a":1,"a":1}', b"", "name stands twice"),
    "a field twice": ('{"a":{"dtype":"U8","dtype":"U8"}}', b"", "name stands twice"),
    "metadata twice": ('{"__metadata__":{},"__metadata__":{}}', b"", "stands twice"),
    "NaN": ('{"a":NaN}', b"", "'NaN' where a number"),
    "infinity": ('{"a":-Infinity}', b"", "'-Infinity' where a number"),
    "a fraction": ('{"a":1.0}', b"", "'1.0' where a number"),
    "an exponent": ('{"a":1e2}', b"", "'1e2' where a number"),
    "negative": ('{"a":-1}', b"", "'-1' where a number"),
    "minus zero": ('{"a":-0}', b"", "'-0' where a number"),
    "many digits": (
        '{"a":' + "9" * 5000 + "}",
        b"",
        r"'999.*\.\.\.999' where a number",
    ),
    "20 digits": ('{"a":' + "1" * 20 + "}", b"", "where a number"),
    "metadata a list": ({"__metadata__": []}, b"", "from text to text, got"),
    "metadata null": ({"__metadata__": None}, b"", "from text to text, got None"),
    "metadata of numbers": ({"__metadata__": {"a": 1}}, b"", "from text to text, got"),
    "metadata nested": ({"__metadata__": {"a": {}}}, b"", "from text to text, got"),
    "metadata surrogate": ({"__metadata__": {"a": "\ud800"}}, b"", "from text to text"),
    "metadata surrogate key": ({"__metadata__": {"\udfff": ""}}, b"", "text to text"),
    "empty name": ({"": entry()}, TWO, "text and not empty, got ''"),
    "surrogate name": ({"a\ud800": entry()}, TWO, r"not empty, got 'a\\ud800'"),
    "entry a list": ({"a": [1]}, b"", r"'a' to have dtype, .*, got \[1\]"),
    "entry null": ({"a": None}, b"", "'a' to have dtype, .*, got None"),
    "field missing": ({"a": {"dtype": "U8", "shape": []}}, b"", "'a' to have dtype"),
    "field too many": ({"a": entry(strides=[1])}, TWO, "'a' to have dtype"),
    "dtype unknown": (
        {"a": entry("O")},
        TWO,
        "BOOL, U8, .*F64, got 'O'; it is damaged",
    ),
    "dtype complex": ({"a": entry("C64")}, TWO, "got 'C64'; it is damaged"),
    "dtype of NumPy": ({"a": entry("<f4")}, TWO, "got '<f4'"),
    "dtype a list": ({"a": entry(["U8"])}, TWO, r"got \['U8'\]"),
    "dtype a number": ({"a": entry(1)}, TWO, "got 1;"),
    "BF16": (
        {"a": entry("BF16")},
        TWO,
        "BF16'; it is known but not supported by NumPy",
    ),
    "F8": (
        {"a": entry("F8_E4M3")},
        TWO,
        "E4M3'; it is known but not supported by NumPy",
    ),
    "shape a number": ({"a": entry(shape=2)}, TWO, "shape of 'a' .* got 2;"),
    "shape text": ({"a": entry(shape="2")}, TWO, "shape of 'a' .* got '2'"),
    "shape of bool": ({"a": entry(shape=[True, 2])}, TWO, r"got \[True, 2\]"),
    "shape of null": ({"a": entry(shape=[None])}, TWO, r"got \[None\]"),
    "shape of lists": (
        '{"a":{"dtype":"U8","shape":[[2]],"data_offsets":[0,2]}}',
        TWO,
        "deep",
    ),
    "65 dimensions": ({"a": entry(shape=[1] * 64 + [2])}, TWO, "at most 64 sizes"),
    "overflow": ({"a": entry(shape=[2**62, 4])}, TWO, r"less than 2\*\*63 bytes"),
    "overflow to 2": ({"a": entry(shape=[2**63 + 1, 2])}, TWO, r"less than 2\*\*63"),
    "overflow of empty": (
        {"a": entry(shape=[0, 2**62, 2], span=[0, 0])},
        b"",
        "less than",
    ),
    "size": (
        {"a": entry(shape=[3])},
        TWO,
        r"3 bytes for 'a', uint8 of shape \[3\], got",
    ),
    "size of F32": ({"a": entry("F32", [2])}, TWO, "8 bytes for 'a', float32"),
    "offsets one": ({"a": entry(span=[0])}, TWO, r"\[begin, end\], got \[0\]"),
    "offsets three": ({"a": entry(span=[0, 2, 2])}, TWO, "data_offsets of 'a' to be"),
    "offsets text": ({"a": entry(span=["0", "2"])}, TWO, "data_offsets of 'a' to be"),
    "offsets of bool": ({"a": entry(shape=[1], span=[False, True])}, b"1", "to be"),
    "offsets null": ({"a": entry(span=None)}, TWO, "data_offsets of 'a' to be"),
    "end before begin": (
        {"a": entry(span=[2, 0])},
        TWO,
        r"to be \[begin, end\], got \[2, 0\]",
    ),
    "hole at first": (
        {"a": entry(span=[1, 3])},
        b"123",
        "'a' to begin at byte 0 .* a hole",
    ),
    "hole": (
        {"a": entry(), "b": entry(span=[3, 5])},
        b"12345",
        "byte 2 .* got 3, a hole",
    ),
    "overlap": ({"a": entry(), "b": entry(span=[1, 3])}, b"123", "got 1, an overlap"),
    "same bytes": ({"a": entry(), "b": entry()}, TWO, "'b' to begin at byte 2"),
    "empty in between": (
        {"a": entry(), "b": entry(shape=[0], span=[1, 1])},
        TWO,
        "overlap",
    ),
    "trailing bytes": ({"a": entry()}, b"123", "expected 2 bytes of data .* got 3"),
    "data without entries": ({}, b"1", "expected 0 bytes of data .* got 1"),
    "data missing": ({"a": entry()}, b"1", "expected 2 bytes of data .* got 1"),
    "huge": (
        {"a": entry(shape=[2**40], span=[0, 2**40])},
        b"",
        "expected 1099511627776 b",
    ),
}


@pytest.mark.parametrize("fault", HEADERS)
def test_broken_header_is_refused(path, fault):
    entries, data, message = HEADERS[fault]
    path.write_bytes(layout(entries, data))
    for read in (read_header, read_arrays, lambda path: read_into(path, {})):
        with pytest.raises(FormatError, match=message) as caught:
            read(path)
        assert str(caught.value).startswith(f"read {str(path)!r}: expected ")
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "at least 8 bytes, got 0"),
        (b"1234567", "at least 8 bytes, got 7"),
        (layout("", length=1), "a header of 1 bytes, got a file of 8"),
        (layout("{}", length=3), "a header of 3 bytes, got a file of 10"),
        (layout("{}", length=HEADER_LIMIT), "a header of 1048576 bytes, got a file"),
        (layout("{}", length=HEADER_LIMIT + 1), "at most 1048576 bytes, got 1048577"),
        (
            layout("{}", length=2**64 - 1),
            "at most 1048576 bytes, got 18446744073709551615",
        ),
        (layout({"m": entry("BOOL")}, b"\x01\x02"), "only 0 and 1 in 'm', got 2"),
    ],
)
def test_broken_file_is_refused(path, data, message):
    path.write_bytes(data)
    with pytest.raises(FormatError, match=message):
        read_arrays(path)


def test_what_is_no_file_is_refused_at_once(tmp_path, path):
    os.mkfifo(tmp_path / "pipe")
    cases = {
        path: "got No such file or directory; check the path",
        tmp_path: "got Is a directory",
        tmp_path / "pipe": "a regular file, got a pipe or device",
        "/dev/zero": "a regular file, got a pipe or device",
        "": "No such file",
    }
    for path, message in cases.items():
        with pytest.raises(FormatError, match=message):
            read_arrays(path)
    with pytest.raises(TypeError):
        read_arrays(0)  # an open descriptor is no path


def test_bool_that_is_none_never_lands(path):
    path.write_bytes(layout({"m": entry("BOOL")}, b"\x01\x02"))
    target = np.zeros(2, bool)
    with pytest.raises(FormatError, match="only 0 and 1 in 'm'"):
        read_into(path, {"m": target})
    assert target.tolist() == [False, False]


def after_header(monkeypatch, act):
    """Have `act` done to the file between its header and its data."""

    def parse(text, size):
        result = header.parse(text, size)
        act()
        return result

    monkeypatch.setattr(files, "parse", parse)


def test_file_cut_short_while_read(path, monkeypatch):
    write_arrays(path, {"a": np.ones(100_000), "b": np.ones(100_000)})
    after_header(monkeypatch, lambda: os.truncate(path, 1_000_000))
    with pytest.raises(
        FormatError, match=r"800000 bytes for 'b', got \d+; .*cut short"
    ):
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


# Refused on writing


@pytest.mark.parametrize(
    "array",
    [
        np.array([None]),
        np.array([{}], object),
        np.array(["text"]),
        np.array([b"text"]),
        np.array(["text"], np.dtypes.StringDType()),
        np.ones(1, "c8"),
        np.ones(1, "M8[s]"),
        np.ones(1, "i4,f8"),
        np.ones(1, np.longdouble),
    ],
    ids=lambda array: str(array.dtype),
)
def test_other_dtypes_are_not_written(path, array):
    with pytest.raises(DtypeError, match=r"expected 'a' as bool, integer.*\.astype"):
        write_arrays(path, {"a": array})
    assert not path.exists()


@pytest.mark.parametrize(
    ("names", "metadata", "message"),
    [
        ([""], {}, "names that are text, got ''; rename"),
        (["__metadata__"], {}, "names that are text, got '__metadata__'"),
        ([3], {}, "names that are text, got 3"),
        (["\ud800"], {}, r"names that are text, got '\\ud800'"),
        (
            ["a"],
            {"a": 1},
            "metadata from text to text, got {'a': 1}; turn it into strings",
        ),
        (["a"], {1: "a"}, "metadata from text to text, got {1: 'a'}"),
        (["a"], {"a": "\ud800"}, "metadata from text to text"),
        (["a"], {"a": "x" * HEADER_LIMIT}, "within 1048576 bytes, got 10486"),
        (["a" * HEADER_LIMIT], {}, "within 1048576 bytes, got 10486"),
    ],
)
def test_what_no_header_can_hold_is_not_written(path, names, metadata, message):
    with pytest.raises(ConfigError, match=message):
        write_arrays(path, {name: np.ones(1) for name in names}, metadata)
    assert not path.exists()


def test_only_files_are_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(
            ConfigError, match="a folder or device; choose another path"
        ):
            write_arrays(path, {"a": np.ones(1)})
    assert os.listdir(tmp_path) == ["pipe"]
    with pytest.raises(FileNotFoundError):
        write_arrays(tmp_path / "no" / "folder", {"a": np.ones(1)})


# Whole or not at all


def test_file_and_folder_are_synced_around_the_rename(path, monkeypatch):
    calls = []

    def spy(name, call):
        def wrapper(first, *rest):
            kind = first if isinstance(first, str) else os.fstat(first).st_mode
            folder = not isinstance(kind, str) and stat.S_ISDIR(kind)
            calls.append(f"{name} folder" if folder else name)
            return call(first, *rest)

        monkeypatch.setattr(os, name, wrapper)

    spy("fsync", os.fsync)
    spy("replace", os.replace)
    write_arrays(path, {"a": np.ones(3)})
    assert calls == ["fsync", "replace", "fsync folder"]


@pytest.mark.parametrize("step", ["chmod", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), KeyboardInterrupt()])
def test_failed_step_leaves_the_old_file(path, monkeypatch, step, error):
    write_arrays(path, {"a": np.ones(3)})
    before = path.read_bytes()

    def fail(*args):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(type(error)):
            write_arrays(path, {"a": np.zeros(3)})
    assert [path.name] == os.listdir(path.parent)
    assert before == path.read_bytes()


def test_permissions_of_an_old_file_stay(path):
    old = os.umask(0o027)
    try:
        write_arrays(path, {"a": np.ones(3)})
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o600)
        write_arrays(path, {"a": np.zeros(3)})
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(old)


def test_link_is_replaced_and_its_file_left(path):
    other = path.with_name("other")
    other.write_text("other")
    path.symlink_to(other)
    write_arrays(path, {"a": np.ones(3)})
    assert not path.is_symlink()
    assert other.read_text() == "other"


def run(code, *args):
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


FULL_DISK = """
import resource, sys
import numpy as np
from sillar.files import write_arrays
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    write_arrays(sys.argv[1], {"a": np.zeros(10), "b": np.zeros(100_000)})
except OSError as error:
    print(error.errno)
"""


def test_full_disk_leaves_the_old_file(path):
    write_arrays(path, {"a": np.ones(3)})
    before = path.read_bytes()
    with run(FULL_DISK, path) as process:
        assert str(errno.EFBIG) == process.communicate(timeout=60)[0].strip()
    assert before == path.read_bytes()
    assert [path.name] == os.listdir(path.parent)


WRITE_FOREVER = """
import sys
import numpy as np
from sillar.files import write_arrays
arrays = [{"a": np.full(n, n), "b": np.full(99, n, "i2")} for n in (20_000, 30_000)]
print("ready", flush=True)
while True:
    for n in (0, 1):
        write_arrays(sys.argv[1], arrays[n], {"n": str(len(arrays[n]["a"]))})
"""


def test_killed_writer_leaves_a_whole_file(path):
    seen = set()
    for _ in range(6):
        write_arrays(path, {"a": np.full(3, 3), "b": np.full(99, 3, "i2")}, {"n": "3"})
        with run(WRITE_FOREVER, path) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(random.uniform(0, 0.05))
            process.kill()
        arrays, metadata = read_arrays(path)
        n = int(metadata["n"])
        assert n == len(arrays["a"])
        assert all((array == n).all() for array in arrays.values())
        seen.add(n)
    assert seen <= {3, 20_000, 30_000}


# Bounded


def peak(call, *args):
    """Return the most memory a call takes, in bytes."""
    tracemalloc.start()
    try:
        call(*args)
    except FormatError:
        pass
    finally:
        memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return memory


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


BOMBS = {
    "lists": '{{"a":[{}[]]}}',
    "full lists": "[0],",
}


def bomb(unit):
    """Return a header of the full length that repeats `unit`, numbered at each `#`."""
    size, units = HEADER_LIMIT - 20, []
    while size > 0:
        units.append(unit.replace("#", f"{len(units):x}"))
        size -= len(units[-1].encode())
    return "".join(units[:-1])


@pytest.mark.parametrize(
    ("start", "unit", "end"),
    [
        ('{"a":[', "[],", "[]]}"),
        ('{"a":[', "[0],", "[]]}"),
        ('{"a":[', '{"":0},', "{}]}"),
        ("{", '"":0,', '"":0}'),
        ("{", '"#":{"":[]},', '"":0}'),
        ('{"\U0001f600":0,', '"#":[0],', '"":0}'),
        ('{"__metadata__":{', '"#":"",', '"":""}}'),
        ("{", '"#":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},', '"":0}'),
        ("{", "[" * 9, ""),
    ],
)
def test_header_bombs_take_bounded_memory(path, start, unit, end):
    path.write_bytes(layout(start + bomb(unit) + end))
    assert 0.9 * HEADER_LIMIT < path.stat().st_size <= HEADER_LIMIT + 8
    assert peak(read_header, path) < HEADER_MEMORY


RAISED_LIMIT = """
import sys
from sillar.errors import FormatError
from sillar.files import read_header
sys.setrecursionlimit(10**7)
try:
    read_header(sys.argv[1])
except FormatError as error:
    print("refused")
"""


def test_deep_header_is_harmless_under_any_recursion_limit(path):
    path.write_bytes(layout('{"a":' + "[" * (HEADER_LIMIT - 5)))
    with run(RAISED_LIMIT, path) as process:
        assert process.communicate(timeout=60)[0].strip() == "refused"


def test_broken_files_are_refused_or_right():
    pytest.importorskip("safetensors", reason="the oracle")
    report = fuzz(read_arrays, valid_files(), count=3000, check=agree_with_safetensors)
    assert report.loaded > 300
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
