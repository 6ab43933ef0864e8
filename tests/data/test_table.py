import codecs

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sillar.data import Dataset, read_csv
from sillar.errors import ConfigError, DataError, DtypeError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("table")


@pytest.fixture
def read(folder):
    def read_text(text, **options):
        data = text if isinstance(text, bytes) else text.encode()
        (folder / "flowers.csv").write_bytes(data)
        return read_csv(folder / "flowers.csv", **options)

    return read_text


IRIS = "length, width, kind\n5.1,3.5,setosa\n6.2, 2.9, virginica \n4.9,3.0,setosa\n"


def test_words_become_sorted_classes(read):
    data = read(IRIS, target="kind")
    assert isinstance(data, Dataset)
    assert repr(data) == "Dataset('flowers', x=float32 (3, 2), y=int64 (3,), classes=2)"
    assert data.classes == ("setosa", "virginica")
    assert data.y.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(
        data.x, np.float32([[5.1, 3.5], [6.2, 2.9], [4.9, 3]])
    )


@pytest.mark.parametrize("target", ["kind", " kind ", 2, -1])
def test_the_target_has_a_name_and_two_numbers(read, target):
    assert read(IRIS, target=target).y.tolist() == [0, 1, 0]


@pytest.mark.parametrize("target", ["b", 1, -2])
def test_the_target_may_stand_anywhere(read, target):
    data = read("a,b,c\n1,2,3\n4,5,6\n", target=target)
    assert data.x.tolist() == [[1, 3], [4, 6]]
    assert (data.y.tolist(), data.y.dtype, data.classes) == ([2, 5], np.int64, None)


def test_integers_stay_and_other_numbers_become_floats(read):
    assert read("1,-1\n2,+007\n", target=1).y.tolist() == [-1, 7]
    y = read("1,2\n2,.5\n3,1e3\n", target=1).y
    assert (y.tolist(), y.dtype) == ([2, 0.5, 1000], np.float32)
    assert read("1,2\n2,.5\n", target=1, dtype="float64").y.dtype == np.float64


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", np.float64, ">f4"])
def test_without_target_it_is_an_array(read, dtype):
    result = read("a,b\n1,2.25\n-3,4e2\n", dtype=dtype)
    assert result.tolist() == [[1, 2.25], [-3, 400]]
    assert result.dtype == np.dtype(dtype).newbyteorder("=")
    assert result.flags.writeable


HEADERS = [
    ("1,2\n3,4\n", None, [[1, 2], [3, 4]]),
    ("a,b\n3,4\n", None, [[3, 4]]),
    ("1,2\n3,4\n", True, [[3, 4]]),
    ("1,2\n3,4\n", False, [[1, 2], [3, 4]]),
    ("nan,inf\n3,4\n", None, [[3, 4]]),
]


@pytest.mark.parametrize(("text", "header", "expected"), HEADERS)
def test_a_header_is_found_or_declared(read, text, header, expected):
    assert read(text, header=header).tolist() == expected


FORMS = {
    "line ends of Windows": "1,2\r\n3,4\r\n",
    "line ends of old": "1,2\r3,4\r",
    "no last line end": "1,2\n3,4",
    "blank lines at the end": "1,2\n3,4\n\n\n",
    "blanks": " 1 ,\t2\n3, 4 \n",
    "quotes": '"1","2"\n"3", "4"\n',
    "byte order mark": "\ufeff1,2\n3,4\n",
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_forms_of_text(read, text):
    assert read(text).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("delimiter", [";", "\t", "|", " ", ":"])
def test_delimiters(read, delimiter):
    text = "1,2\n3,4\n".replace(",", delimiter)
    assert read(text, delimiter=delimiter).tolist() == [[1, 2], [3, 4]]


def test_names_beyond_ascii_and_quoted_delimiters(read):
    data = read('größe,"a, b"\n1,"früh, ""spät"""\n2,日本\n', target="a, b")
    assert data.classes == ('früh, "spät"', "日本")
    assert read("größe,b\n1,2\n", target="größe").x.tolist() == [[2]]


@given(
    rows=st.lists(
        st.tuples(
            st.floats(width=32, allow_nan=False, allow_infinity=False),
            st.integers(-(2**63), 2**63 - 1),
        ),
        min_size=1,
    )
)
def test_every_float_and_every_integer_comes_back(folder, rows):
    text = "".join(f"{value!r},{answer}\n" for value, answer in rows)
    (folder / "numbers.csv").write_text(text)
    data = read_csv(folder / "numbers.csv", target=1)
    assert data.x[:, 0].tolist() == [value for value, _ in rows]
    assert data.y.tolist() == [answer for _, answer in rows]


LONG = "1" * 200_000
BROKEN = {
    "blank": ("\n\n", {}, "expected rows, got blank lines only"),
    "header alone": ("a,b\n", {}, "rows below the header, got none"),
    "short row": ("1,2\n3\n", {}, "line 2: expected 2 cells as in line 1, got 1"),
    "long row": (
        "a,b\n1,2\n3,4,5\n",
        {},
        "line 3: expected 2 cells as in line 1, got 3",
    ),
    "blank inside": ("1,2\n\n3,4\n", {}, "line 2: expected a row, got a blank line"),
    "word": ("a,b\n1,2\n3,x\n", {}, r"line 3, column 2 \('b'\): .* number, got 'x'"),
    "word, no names": (
        "1,2\n3,x\n",
        {},
        "line 2, column 2: expected a number, got 'x'",
    ),
    "word in line 1": ("a,2\n3,4\n", {}, "line 1, column 1: .*pass header=True"),
    "missing": ("1,2\n3,\n", {}, "line 2, column 2: expected a number, got ''"),
    "underscore": (
        "1,2\n3,1_0\n",
        {},
        "line 2, column 2: expected a number, got '1_0'",
    ),
    "other digits": ("1,2\n3,४\n", {}, "line 2, column 2: expected a number, got '४'"),
    "hexadecimal": ("1,2\n3,0x1\n", {}, "expected a number, got '0x1'"),
    "nan": ("1,2\n3,nan\n", {}, "line 2, column 2: .* fits float32, got nan"),
    "infinity": ("1,2\n-Infinity,3\n", {}, "line 2, column 1: .* float32, got -inf"),
    "too large": ("1,2\n3,1e39\n", {}, "line 2, column 2: .* float32, got inf"),
    "right of target": (
        "a,b,c\n1,2,3\n4,5,x\n",
        {"target": "b"},
        r"line 3, column 3 \('c'\)",
    ),
    "left of target": ("1,2,3\nx,5,6\n", {"target": 1}, "line 2, column 1:"),
    "large right of target": ("1,2,3\n4,5,1e99\n", {"target": 1}, "line 2, column 3:"),
    "line in quotes": ('1,"2\n"\n3,x\n', {}, "line 3, column 2"),
    "unnamed": ("a,,c\n1,2,3\n", {}, "line 1: expected a name for column 2"),
    "named twice": ("a,b, a\n1,2,3\n", {}, "got 'a' for columns 1 and 3; rename"),
    "unknown target": (
        IRIS,
        {"target": "type"},
        "columns 'length', 'width', 'kind', got",
    ),
    "many columns": (
        ",".join(f"c{i}" for i in range(30)) + "\n",
        {"target": "x"},
        r"'c19', \.\.\., got",
    ),
    "name, no names": (
        "1,2\n",
        {"target": "b"},
        "no line of names, got 'b'; pass header",
    ),
    "far target": (IRIS, {"target": 3}, r"column number in \[-3, 3\), got 3"),
    "negative target": (IRIS, {"target": -4}, "got -4; count columns from 0"),
    "target alone": ("1\n2\n", {"target": 0}, "besides the target, got one column"),
    "no answer": (
        "1,2\n3,\n",
        {"target": 1},
        "line 2, target column: .* answer, got ''",
    ),
    "words and numbers": (
        "1,2\n3,4.5\n5,n/a\n",
        {"target": 1},
        "line 3, target column: expected a number as in line 1, got 'n/a'",
    ),
    "answer beyond int64": (
        "1,2\n3,9223372036854775808\n",
        {"target": 1},
        "line 2, target column: expected an integer of 64 bits",
    ),
    "answer of many digits": (
        f"1,2\n3,{LONG[:9000]}\n",
        {"target": 1},
        "line 2, target column: expected an integer of 64 bits, got '1{40}';",
    ),
    "answer too large": (
        "1,2.5\n3,1e39\n",
        {"target": 1},
        "line 2, target column: expected a number that fits float32, got '1e39'",
    ),
    "open quote": ('1,2\n3,"4\n', {}, "closed, doubled quotes, got damage"),
    "quote inside": ('1,2\n3,"4"5\n', {}, "line 2: .* got damage"),
    "long cell": (f"1,2\n3,{LONG}\n", {}, "line 2: .* got damage .*field limit"),
    "Latin-1": ("1,2\n3,é\n".encode("latin-1"), {}, "line 2: expected UTF-8 text"),
    "UTF-16": ("1,2\n".encode("utf-16"), {}, "line 1: expected UTF-8 text"),
    "UTF-16 without mark": ("1,2\n".encode("utf-16-le"), {}, "line 1: expected UTF-8"),
    "surrogate": (b"1,\xed\xa0\x80\n", {}, "line 1: expected UTF-8 text"),
    "zero byte": ("1,2\n3,\0\n", {}, "line 2: expected UTF-8 text"),
    "gzip": (codecs.encode(b"1,2\n", "zlib"), {}, "unpack the file"),
}


@pytest.mark.parametrize(("text", "options", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_files_are_refused(read, text, options, message):
    with pytest.raises(DataError, match=rf"^read_csv: '.*flowers.csv': .*{message}"):
        read(text, **options)


def test_a_line_without_end_is_refused(read, monkeypatch):
    monkeypatch.setattr("sillar.data.table._LINE_LIMIT", 20)
    assert read("1,2\n" * 20).shape == (20, 2)
    with pytest.raises(DataError, match="line 2: expected fewer than 20 characters"):
        read("1,2\n" + "1," * 20)


def test_many_digits_are_refused_in_no_time(read):
    with pytest.raises(DataError, match="expected a number"):
        read(f"1,2\n3,{LONG[:100_000]}x\n")
    with pytest.raises(DataError, match="expected a number as in line 1"):
        read(f"1,2\n3,{LONG[:100_000]}x\n", target=1)


OPTIONS = [
    ({"delimiter": ""}, ConfigError, "delimiter must be one character"),
    ({"delimiter": ", "}, ConfigError, "got ', '"),
    ({"delimiter": "."}, ConfigError, "got '.'"),
    ({"delimiter": "e"}, ConfigError, "got 'e'"),
    ({"delimiter": "\n"}, ConfigError, "delimiter must"),
    ({"delimiter": None}, ConfigError, "got None"),
    ({"header": 0}, ConfigError, "header must be True, False or None, got 0"),
    ({"target": True}, ConfigError, "name or the number of a column, got True"),
    ({"target": 1.0}, ConfigError, "got 1.0; count columns from 0"),
    ({"dtype": "int64"}, DtypeError, "float16, float32 or float64, got 'int64'"),
    ({"dtype": "number"}, DtypeError, "got 'number'"),
    ({"dtype": np.longdouble}, DtypeError, "float16, float32 or float64"),
]


@pytest.mark.parametrize(("options", "error", "message"), OPTIONS)
def test_options_out_of_range_are_refused(read, options, error, message):
    with pytest.raises(error, match=f"^read_csv: .*{message}"):
        read("1,2\n3,4\n", **options)


@given(data=st.binary(max_size=60) | st.text("0123.,;\"'\n\r eaé", max_size=60))
def test_any_file_is_read_or_refused(folder, data):
    raw = data if isinstance(data, bytes) else data.encode()
    (folder / "any.csv").write_bytes(raw)
    for options in ({}, {"target": 0}):
        try:
            result = read_csv(folder / "any.csv", **options)
        except DataError:
            continue
        x = result if isinstance(result, np.ndarray) else result.x
        assert np.isfinite(x).all()
