"""Text as examples: every place asks for the character after it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sillar.data import Dataset, read_text, text_lines, text_windows
from sillar.data.text import LIMIT, characters, encode
from sillar.errors import DataError, ShapeError

# A file


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"two\nlines\n", "two\nlines\n"),
        (b"\xef\xbb\xbfmark", "mark"),
        (b"a\r\nb\rc\n", "a\nb\nc\n"),
        ("ñandú 石 🪨".encode(), "ñandú 石 🪨"),
    ],
)
def test_text_is_read_as_python_reads_it(tmp_path, data, expected):
    path = tmp_path / "text"
    path.write_bytes(data)
    assert expected == read_text(path)
    assert expected == path.read_text(encoding="utf-8-sig")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "an empty file"),
        (b"abc\xff\xfe", "got byte 0xff at 3: it is no text, or must be converted"),
        (b"abc\xc3", "got byte 0xc3 at 3"),
        (b"\xed\xa0\x80", "got byte 0xed"),  # half of a pair of UTF-16
        (b"MZ\0\0", "NUL characters"),
        ("utf-16".encode("utf-16"), "expected UTF-8"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, data, message):
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_text(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(LIMIT + 1)
    with pytest.raises(DataError, match="at most 67,108,864 bytes, got 67,108,865"):
        read_text(path)


def test_what_is_no_file_is_refused(tmp_path):
    for path, message in ((tmp_path, "a folder"), (tmp_path / "no", "nothing at")):
        with pytest.raises(DataError, match=message):
            read_text(path)


# Numbers of characters


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_numbers_name_characters(text):
    classes = characters(text)
    assert list(classes) == sorted(set(text))
    assert text == "".join(classes[n] for n in encode(text, classes))


def test_an_unknown_character_is_named():
    with pytest.raises(DataError, match="'ñ' is not among the 2 that are known, 'an'"):
        encode("año", ("a", "n"))


# Windows


@given(st.integers(2, 60), st.integers(1, 20), st.none() | st.integers(1, 30))
def test_windows_are_pieces_of_the_text(size, context, count):
    text = "".join(chr(65 + i) for i in range(size))
    if context >= size:
        with pytest.raises(ShapeError, match=f"from 1 to {size - 1}"):
            text_windows(text, context, count=count)
        return
    data = text_windows(text, context, count=count)
    assert (count or (size - 1) // context, context) == data.x.shape == data.y.shape
    pieces = ["".join(data.classes[n] for n in row) for row in data.x]
    assert all(piece in text[:-1] for piece in pieces)
    np.testing.assert_array_equal(data.y, data.x + 1)  # the next letter
    starts = data.x[:, 0]
    if count is None:
        np.testing.assert_array_equal(starts, np.arange(len(data)) * context)
    else:
        assert starts[0] == 0
        assert count == 1 or starts[-1] == size - 1 - context
        assert np.ptp(np.diff(starts)) <= 1 if count > 2 else True


def test_windows_know_the_characters_they_are_told():
    data = text_windows("abab", 2, classes=("a", "b", "c"), name="x")
    assert data.classes == ("a", "b", "c")
    assert data.name == "x"
    with pytest.raises(DataError, match="'b' is not among"):
        text_windows("abab", 2, classes=("a",))


# Lines


def test_lines_begin_and_end_with_a_break_and_are_filled_up():
    data = text_lines(["ba", "", "a"])
    assert data.classes == ("\n", "a", "b")
    assert data.ignored == -1
    np.testing.assert_array_equal(data.x, [[0, 2, 1], [0, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(data.y, [[2, 1, 0], [0, -1, -1], [1, 0, -1]])


LINES = st.lists(st.text("abc", max_size=9), min_size=1, max_size=9)


@given(LINES)
def test_lines_come_back_from_their_rows(lines):
    data = text_lines(lines)
    for line, x, y in zip(lines, data.x, data.y, strict=True):
        kept = y != -1
        assert f"{line}\n" == "".join(data.classes[n] for n in y[kept])
        assert f"\n{line}" == "".join(data.classes[n] for n in x[kept])
    assert data.answers().size == sum(len(line) + 1 for line in lines)


@pytest.mark.parametrize("lines", [[], ["a\nb"]])
def test_what_are_no_lines_is_refused(lines):
    with pytest.raises(DataError, match="text_lines: expected at least one line"):
        text_lines(lines)


# Answers that are ignored


def test_places_without_an_answer_stay_so():
    y = np.array([[0, 1], [1, -1], [-1, -1]])
    data = Dataset(np.zeros((3, 2)), y, ("a", "b"), ignored=-1)
    assert data.take([1, 2]).ignored == -1
    assert [part.ignored for part in data.split(1, stratify=False)] == [-1, -1]
    np.testing.assert_array_equal(data.answers(), [0, 1, 1])
    np.testing.assert_array_equal(data.take([2]).answers(), [])
    other = Dataset(data.x, y + 0, ("a", "b"), ignored=-1)
    assert data.digest() == other.digest()
    assert Dataset(data.x, y).digest() != Dataset(data.x, y, ignored=-1).digest()


def test_only_the_ignored_number_may_be_no_class():
    y = np.array([0, -1, 1])
    for wrong in (None, -100, 1):
        with pytest.raises(DataError, match="class numbers in"):
            Dataset(np.zeros(3), y, ("a", "b"), ignored=wrong)
    with pytest.raises(DataError, match="0 to 2"):
        Dataset(np.zeros(3), np.array([0, -1, 2]), ("a", "b"), ignored=-1)
