import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from sillar.errors import ConfigError, DtypeError, FormatError
from sillar.header import HEADER_LIMIT, HEADER_MEMORY, compose, parse

ROOT = Path(__file__).parents[1]


def entry(dtype="U8", shape=(2,), span=(0, 2), **extra):
    return {"dtype": dtype, "shape": shape, "data_offsets": span, **extra}


def empty(shape):
    return entry(shape=shape, span=[0, 0])


DEEP = "[" * 900
TEXTS = {
    "nothing": ("", r"begins with '\{', got b''"),
    "a list": ("[]", r"begins with '\{', got b'\[\]'"),
    "a byte order mark": ("\ufeff{}", r"begins with '\{', got b'\\xef"),
    "leading space": (" {}", r"begins with '\{', got b' \{\}'"),
    "UTF-16": ("{}".encode("utf-16-le"), "in JSON, got Expecting property name"),
    "no JSON": ("{abc", "in JSON, got Expecting property name"),
    "text after it": ("{} {}", "in JSON, got Extra data"),
    "NUL padding": ("{}\0\0", "in JSON, got Extra data"),
    "unfinished": ('{"a":', "in JSON, got Expecting value"),
    "control character": ('{"a\n":1}', "in JSON, got Invalid control character"),
    "not UTF-8": (b'{"\xff":1}', "in JSON, got .* can't decode byte 0xff"),
    "surrogate bytes": (b'{"\xed\xa0\x80":1}', "in JSON, got .* can't decode"),
    "deep lists": ('{"a":' + DEEP, "nested 3 deep, got a deeper one"),
    "deep objects": ('{"a":' * 900, "nested 3 deep, got a deeper one"),
    "deep after quotes": (r'{"\"":1,"\\":' + DEEP, "nested 3 deep"),
    "a shape of lists": ('{"a":{"shape":[[2]]}}', "nested 3 deep"),
    "a name twice": ('{"a":1,"a":1}', "in JSON, got .* a name stands twice"),
    "a field twice": ('{"a":{"dtype":"U8","dtype":"U8"}}', "stands twice"),
    "metadata twice": ('{"__metadata__":{},"__metadata__":{}}', "stands twice"),
    "metadata key twice": ('{"__metadata__":{"a":"","\\u0061":""}}', "stands twice"),
    "NaN": ('{"a":NaN}', "'NaN' where a number"),
    "infinity": ('{"a":-Infinity}', "'-Infinity' where a number"),
    "a fraction": ('{"a":1.0}', "'1.0' where a number"),
    "an exponent": ('{"a":1e2}', "'1e2' where a number"),
    "negative": ('{"a":-1}', "'-1' where a number from 0 to"),
    "minus zero": ('{"a":-0}', "'-0' where a number"),
    "many digits": ('{"a":' + "9" * 5000 + "}", r"'9+\.\.\.9+' where a number"),
    "20 digits": ('{"a":' + "1" * 20 + "}", "'1{20}' where a number"),
    "metadata a list": ({"__metadata__": []}, r"from text to text, got \[\]"),
    "metadata null": ({"__metadata__": None}, "from text to text, got None"),
    "metadata number": ({"__metadata__": {"a": 1}}, "from text to text, got {'a': 1"),
    "metadata nested": ({"__metadata__": {"a": {}}}, "from text to text, got"),
    "metadata surrogate": ({"__metadata__": {"a": "\ud800"}}, r"got {'a': '\\ud800'}"),
    "metadata odd key": ({"__metadata__": {"\udfff": ""}}, "from text to text"),
    "entry a list": ({"a": [1]}, r"'a' to have dtype, shape, data_offsets, got \[1\]"),
    "entry null": ({"a": None}, "'a' to have dtype, .*, got None"),
    "empty name": ({"": entry()}, "text and not empty, got ''"),
    "surrogate name": ({"a\ud800": entry()}, r"not empty, got 'a\\ud800'"),
}
ENTRIES = {
    "field missing": ({"dtype": "U8", "shape": []}, "'a' to have dtype, shape, data_o"),
    "field too many": (entry(strides=[1]), "'a' to have dtype, shape, data_offsets, g"),
    "dtype unknown": (entry("O"), "one of BOOL, U8, .* F64, got 'O'; it is damaged"),
    "dtype complex": (entry("C64"), "got 'C64'; it is damaged"),
    "dtype of NumPy": (entry("<f4"), "got '<f4'; it is damaged"),
    "dtype a list": (entry(["U8"]), r"got \['U8'\]"),
    "dtype a number": (entry(1), "dtype of 'a' .* got 1;"),
    "dtype null": (entry(None), "dtype of 'a' .* got None;"),
    "BF16": (entry("BF16"), "got 'BF16'; it is known but not supported by NumPy"),
    "F8": (entry("F8_E4M3"), "got 'F8_E4M3'; it is known but not supported by NumPy"),
    "shape a number": (entry(shape=2), "shape of 'a' to be a list .* got 2;"),
    "shape text": (entry(shape="2"), "shape of 'a' to be a list .* got '2'"),
    "shape of bools": (entry(shape=[True, 2]), r"shape of 'a' .* got \[True, 2\]"),
    "shape of null": (entry(shape=[None]), r"shape of 'a' .* got \[None\]"),
    "65 dimensions": (entry(shape=[1] * 64 + [2]), "a list of at most 64 sizes, got"),
    "overflow": (entry(shape=[2**62, 4]), r"'a' to have less than 2\*\*63 bytes"),
    "overflow to 2": (entry(shape=[2**63 + 1, 2]), r"less than 2\*\*63 bytes"),
    "overflow of empty": (empty([0, 2**62, 2]), r"less than 2\*\*63 bytes"),
    "size": (entry(shape=[3]), r"3 bytes for 'a', uint8 of shape \[3\], got data_off"),
    "size of F32": (entry("F32"), "8 bytes for 'a', float32"),
    "offsets one": (entry(span=[0]), r"'a' to be \[begin, end\], got \[0\]"),
    "offsets three": (entry(span=[0, 2, 2]), r"\[begin, end\], got \[0, 2, 2\]"),
    "offsets text": (entry(span=["0", "2"]), r"\[begin, end\], got \['0', '2'\]"),
    "offsets bools": (entry(shape=[1], span=[False, True]), r"got \[False, True\]"),
    "offsets null": (entry(span=None), r"\[begin, end\], got None"),
    "end before begin": (entry(span=[2, 0]), r"\[begin, end\], got \[2, 0\]"),
}
COVERS = {
    # spans, size of the data
    "hole at first": ([(1, 3)], 3, "'0' to begin at byte 0 of the data, got 1, a hole"),
    "hole": ([(0, 2), (3, 5)], 5, "'1' to begin at byte 2 of the data, got 3, a hole"),
    "overlap": ([(0, 2), (1, 3)], 3, "'1' to begin at byte 2 .* got 1, an overlap"),
    "the same": ([(0, 2), (0, 2)], 2, "'1' to begin at byte 2 .* got 0, an overlap"),
    "one inside": ([(0, 4), (1, 3)], 4, "'1' to begin at byte 4 .* an overlap"),
    "empty inside": ([(0, 2), (1, 1)], 2, "'1' to begin at byte 2 .* an overlap"),
    "empty outside": ([(0, 2), (3, 3)], 2, "'1' to begin at byte 2 .* a hole"),
    "trailing": ([(0, 2)], 3, "expected 2 bytes of data after the header, got 3"),
    "only data": ([], 1, "expected 0 bytes of data after the header, got 1"),
    "no data": ([(0, 2)], 0, "expected 2 bytes of data after the header, got 0"),
    "huge": ([(0, 2**50)], 2, "expected 1125899906842624 bytes of data .* got 2"),
}


def assert_refused(header, size, message):
    text = json.dumps(header) if isinstance(header, dict) else header
    text = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(FormatError, match=message) as caught:
        parse(text, size)
    assert str(caught.value).startswith("expected ")
    assert "; it is " in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("fault", TEXTS)
def test_text_that_is_no_header_is_refused(fault):
    header, message = TEXTS[fault]
    assert_refused(header, 2, message)


@pytest.mark.parametrize("fault", ENTRIES)
def test_entry_that_is_no_array_is_refused(fault):
    fields, message = ENTRIES[fault]
    assert_refused({"a": fields}, 2, message)


@pytest.mark.parametrize("fault", COVERS)
def test_data_must_be_covered_once(fault):
    spans, size, message = COVERS[fault]
    entries = {
        str(i): entry(shape=[end - begin], span=[begin, end])
        for i, (begin, end) in enumerate(spans)
    }
    assert_refused(entries, size, message)


def test_long_values_are_shown_short():
    long = {"x" * 10_000: ["\x1b[31m" * 100] * 1000}
    assert_refused({"a\x1b[31m" * 100: long}, 2, "to have dtype")
    assert_refused({"__metadata__": {"k" * 10**5: 1}}, 2, "from text to text")


def test_order_and_space_are_free():
    text = '{"b" : {"dtype":"U8","shape":[1],"data_offsets":[1,2]},\n'
    text += '"a": {"shape":[1, 1],"data_offsets":[0,1],"dtype":"U8"} }  \n'
    metadata, entries, offset = parse(text.encode(), 2)
    assert ({}, 8 + len(text)) == (metadata, offset)
    byte = np.dtype("u1")
    assert [("b", (byte, (1,), 1, 2)), ("a", (byte, (1, 1), 0, 1))] == [
        *entries.items()
    ]


def test_64_dimensions_and_wide_empty_arrays_are_fine():
    wide = {"a": entry(shape=[1] * 63 + [2]), "b": empty([0, 2**62])}
    entries = parse(json.dumps(wide).encode(), 2).entries
    for fields in entries.values():
        assert fields.shape == np.empty(fields.shape, fields.dtype).shape


BOMBS = [
    # before, what is repeated with a number for each #, after
    ('{"a":[', "[],", "[]]}"),
    ('{"a":[', "[0],", "[]]}"),
    ('{"a":[', '{"":0},', "{}]}"),
    ("{", '"":0,', '"":0}'),
    ("{", '"#":{"":[]},', '"":0}'),
    ('{"\U0001f600":0,', '"#":[0],', '"":0}'),
    ('{"__metadata__":{', '"#":"",', '"":""}}'),
    ("{", '"#":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},', '"":0}'),
    ("{", "[[[[[[[[", ""),
]


@pytest.mark.parametrize(("start", "unit", "end"), BOMBS)
def test_header_bombs_take_bounded_memory(start, unit, end):
    size, units = HEADER_LIMIT - 50, []
    while size > 0:
        units.append(unit.replace("#", f"{len(units):x}"))
        size -= len(units[-1])
    text = f"{start}{''.join(units)}{end}".encode()
    assert 0.9 * HEADER_LIMIT < len(text) <= HEADER_LIMIT
    tracemalloc.start()
    try:
        parse(text, 0)
    except FormatError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert len(text) + peak < HEADER_MEMORY


RAISED_LIMIT = """
import sys
from sillar.errors import FormatError
from sillar.header import HEADER_LIMIT, parse
sys.setrecursionlimit(10**7)
for text in (b'[', b'{"a":'):
    try:
        parse((b'{"a":' + text * HEADER_LIMIT)[:HEADER_LIMIT], 0)
    except FormatError as error:
        print("refused")
"""


def test_deep_header_is_harmless_under_any_recursion_limit():
    command = [sys.executable, "-c", RAISED_LIMIT]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stdout) == (0, b"refused\nrefused\n")


OTHER_DTYPES = [
    np.array([None]),
    np.array(["text"]),
    np.array([b"text"]),
    np.array(["text"], np.dtypes.StringDType()),
    np.ones(1, "c8"),
    np.ones(1, "M8[s]"),
    np.ones(1, "i4,f8"),
    np.ones(1, np.longdouble),
]


@pytest.mark.parametrize("array", OTHER_DTYPES, ids=lambda array: str(array.dtype))
def test_other_dtypes_are_refused(array):
    with pytest.raises(DtypeError, match=r"expected 'a' as bool, integer.*\.astype"):
        compose({"a": array}, {})


@pytest.mark.parametrize(
    ("name", "metadata", "message"),
    [
        ("", {}, "names that are text, got ''; rename the array"),
        ("__metadata__", {}, "names that are text, got '__metadata__'"),
        (3, {}, "names that are text, got 3"),
        ("\ud800", {}, r"names that are text, got '\\ud800'"),
        ("a", {"a": 1}, "text to text, got {'a': 1}; turn it into strings"),
        ("a", {1: "a"}, "metadata from text to text, got {1: 'a'}"),
        ("a", {"a": "\ud800"}, "metadata from text to text"),
        ("a", {"a": "x" * HEADER_LIMIT}, "within 1048576 bytes, got 1048"),
        ("a" * HEADER_LIMIT, {}, "within 1048576 bytes, got 1048"),
    ],
)
def test_what_no_header_can_hold_is_refused(name, metadata, message):
    with pytest.raises(ConfigError, match=message):
        compose({name: np.ones(1)}, metadata)
