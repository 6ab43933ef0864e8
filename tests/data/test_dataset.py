import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sillar.data import Dataset
from sillar.errors import ConfigError, DataError, ShapeError

X = np.arange(12, dtype=np.float32).reshape(6, 2)
Y = np.array([0, 1, 0, 1, 2, 2])
NAMES = ("cat", "dog", "owl")


def dataset(x=X, y=Y, classes=NAMES, name="pets"):
    return Dataset(x, y, classes, name)


def labelled(sizes):
    """Return a dataset whose x tells its rows apart, with classes of these sizes."""
    y = np.repeat(np.arange(len(sizes)), sizes)
    return Dataset(np.arange(len(y), dtype=np.float64), y)


def test_it_knows_its_length_and_describes_itself():
    data = dataset()
    assert len(data) == 6
    assert repr(data) == "Dataset('pets', x=float32 (6, 2), y=int64 (6,), classes=3)"
    assert repr(dataset(classes=None)).endswith("y=int64 (6,))")


def test_it_is_frozen_and_leaves_the_given_array_writable():
    x = X.copy()
    data = dataset(x=x)
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.x = X
    with pytest.raises(ValueError, match="read-only"):
        data.x[0] = 1
    assert x.flags.writeable
    assert np.shares_memory(data.x, x)


def test_foreign_byte_order_becomes_native():
    data = dataset(x=X.astype(">f4"), y=Y.astype(">i8"))
    assert data.x.dtype == np.dtype("float32")
    assert data.x.dtype.isnative
    np.testing.assert_array_equal(data.x, X)
    assert data.digest() == dataset().digest()


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int64", "float16", "float64", "complex64"]
)
def test_numbers_keep_their_dtype(dtype):
    assert dataset(x=X.astype(dtype)).x.dtype == dtype


def test_an_empty_dataset_is_a_dataset():
    data = Dataset(np.zeros((0, 3)), np.zeros(0, dtype=np.int64), ("a",))
    assert len(data) == 0
    assert len(data[:]) == 0
    assert len(data.digest()) == 64


BROKEN = [
    ({"x": [[1, 2]]}, DataError, "x as a plain NumPy array, got list"),
    ({"y": None}, DataError, "y as a plain NumPy array, got NoneType"),
    ({"x": np.ma.masked_array(X)}, DataError, "got MaskedArray.*fill masked values"),
    ({"x": X.astype(object)}, DataError, "numbers in x, got dtype object"),
    ({"y": np.array(list("abcdef"))}, DataError, "numbers in y, got dtype <U1"),
    ({"x": np.float32(1)[...]}, ShapeError, "x with one row per example"),
    ({"x": X[:5]}, ShapeError, r"got x \(5, 2\) and y \(6,\)"),
    ({"classes": "cat"}, DataError, "tuple of names, got 'cat'"),
    ({"classes": (1, 2, 3)}, DataError, "tuple of names, got"),
    ({"classes": ("a", "b", "a")}, DataError, "different class names"),
    ({"classes": ("a", "b")}, DataError, r"in \[0, 2\) in y, got 0 to 2"),
    ({"y": Y - 1}, DataError, r"in \[0, 3\) in y, got -1 to 1"),
    (
        {"y": Y.astype(float)},
        DataError,
        r"class numbers \(integers\) in y, got float64",
    ),
]


@pytest.mark.parametrize(("change", "error", "message"), BROKEN)
def test_what_is_no_dataset_is_refused(change, error, message):
    with pytest.raises(error, match=f"^Dataset: expected.*{message}"):
        dataset(**change)


@pytest.mark.parametrize(
    ("indices", "rows"),
    [
        (slice(1, 4), [1, 2, 3]),
        (slice(None, None, -2), [5, 3, 1]),
        ([4, 0, 0, -1], [4, 0, 0, 5]),
        (np.array([2, 1], dtype=np.uint8), [2, 1]),
        (Y == 2, [4, 5]),
        ([], []),
        (np.zeros(6, dtype=bool), []),
    ],
    ids=str,
)
def test_rows_are_taken_by_slice_number_or_mask(indices, rows):
    part = dataset()[indices]
    np.testing.assert_array_equal(part.x, X[rows])
    np.testing.assert_array_equal(part.y, Y[rows])
    assert (part.classes, part.name) == (NAMES, "pets")
    assert part.x.dtype == X.dtype


@pytest.mark.parametrize(
    ("indices", "error", "message"),
    [
        (3, ConfigError, r"for one row write dataset\[i : i \+ 1\]"),
        ([0.5], ConfigError, "got float64 of shape"),
        ([[1]], ConfigError, r"got int64 of shape \(1, 1\)"),
        ([0, 6], ConfigError, r"row numbers in \[-6, 6\), got 0 to 6"),
        ([-7], ConfigError, "got -7 to -7"),
        ([True], ShapeError, "a mask of 6 entries, one per row, got 1"),
    ],
    ids=str,
)
def test_rows_that_do_not_exist_are_refused(indices, error, message):
    with pytest.raises(error, match=message):
        dataset().take(indices)


# The split


@given(
    sizes=st.lists(st.integers(2, 40), min_size=1, max_size=8),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 2**40),
)
def test_a_stratified_split_is_exact(sizes, share, seed):
    data = labelled(sizes)
    n, k = len(data), len(sizes)
    count = min(max(int(n * share), k), n - k)
    rest, test = data.split(count, seed=seed)
    parts = np.concatenate([rest.x, test.x])
    np.testing.assert_array_equal(np.sort(parts), data.x)
    assert len(test) == count
    seats = np.bincount(test.y, minlength=k)
    assert (seats >= 1).all()
    assert (np.bincount(rest.y, minlength=k) >= 1).all()
    quota = np.array(sizes) * count / n
    if (quota >= 1).all() and (np.array(sizes) - quota >= 1).all():
        assert (np.abs(seats - quota) < 1).all()


def largest_remainder(sizes, count):
    """Return the seats of each class, in exact integers."""
    total = sum(sizes)
    seats = [size * count // total for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda i: -(sizes[i] * count % total))
    for i in by_remainder[: count - sum(seats)]:
        seats[i] += 1
    return seats


@given(
    sizes=st.lists(st.integers(20, 99), min_size=1, max_size=9),
    share=st.sampled_from([0.1, 0.2, 0.25, 0.5, 0.8]),
)
def test_seats_are_given_by_largest_remainder(sizes, share):
    _, test = labelled(sizes).split(share)
    assert len(test) == int(sum(sizes) * share + 0.5)
    seats = np.bincount(test.y, minlength=len(sizes)).tolist()
    assert seats == largest_remainder(sizes, len(test))


def test_a_rare_class_is_on_both_sides():
    rest, test = labelled([2, 98]).split(0.1)
    assert np.bincount(test.y).tolist() == [1, 9]
    rest, test = labelled([98, 2]).split(0.9)
    assert np.bincount(rest.y).tolist() == [9, 1]


def test_a_split_depends_on_its_seed_only():
    data = labelled([30, 30])
    first, again, other = (data.split(seed=seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.x, again.x)
    assert first.x.tolist() != other.x.tolist()


def test_a_split_is_the_same_for_ever():
    _, test = labelled([6, 6]).split(4, seed=0)
    assert test.x.tolist() == [2.0, 3.0, 9.0, 10.0]
    _, test = labelled([6, 6]).split(4, seed=0, stratify=False)
    assert test.x.tolist() == [0.0, 2.0, 3.0, 9.0]


@pytest.mark.parametrize("stratify", [True, False])
def test_rows_keep_their_order(stratify):
    for part in labelled([20, 30]).split(0.3, stratify=stratify):
        assert (np.diff(part.x) > 0).all()


@pytest.mark.parametrize("stratify", [False, None])
@pytest.mark.parametrize(
    ("test", "count"), [(0.25, 3), (1, 1), (9, 9), (np.int64(2), 2)]
)
def test_regression_is_split_without_classes(stratify, test, count):
    data = Dataset(X[:, :1].repeat(5, 0)[:10], np.linspace(0, 1, 10))
    rest, part = data.split(test, stratify=stratify)
    assert (len(rest), len(part)) == (10 - count, count)


def test_every_row_is_drawn_sooner_or_later():
    data = labelled([10, 10])
    drawn = [data.split(0.5, seed=seed)[1].x for seed in range(40)]
    often = np.bincount(np.concatenate(drawn).astype(int), minlength=20)
    assert often.min() >= 8
    assert often.max() <= 32


@pytest.mark.parametrize(
    "test", [0, 6, -1, 0.0, 1.0, 1.5, float("nan"), 0.01, 0.99, True, "0.2", None]
)
def test_sizes_out_of_range_are_refused(test):
    with pytest.raises(ConfigError, match=r"Dataset.split: test must.*got"):
        dataset().split(test, stratify=False)


def test_a_class_of_one_cannot_be_split():
    data = Dataset(np.zeros(5), np.array([0, 0, 0, 0, 2]), NAMES)
    with pytest.raises(DataError, match=r"at least 2 rows of every class.*class 'owl'"):
        data.split(0.4)
    with pytest.raises(DataError, match=r"class 2;.*stratify=False"):
        dataclasses.replace(data, classes=None).split(0.4)


@pytest.mark.parametrize("test", [2, 4])
def test_each_side_needs_room_for_each_class(test):
    with pytest.raises(DataError, match=r"each of 3 classes.*from 3 to 3 rows"):
        dataset().split(test)


@pytest.mark.parametrize("y", [np.eye(6), np.linspace(0, 1, 6)])
def test_only_class_numbers_are_stratified(y):
    with pytest.raises(DataError, match="stratify=True needs class numbers"):
        Dataset(X, y).split(0.5)


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_rows_cannot_be_split(n):
    with pytest.raises(ConfigError, match=f"each side of {n} rows"):
        Dataset(np.zeros(n), np.zeros(n, dtype=int)).split(0.5)


# The digest


def test_the_digest_is_the_same_for_ever():
    assert dataset().digest() == (
        "c7d16baf1517fe313546e6f10c4b6361458830601de51f1baa73c27619860472"
    )


def test_the_digest_does_not_depend_on_the_layout_or_the_name():
    columns = np.asfortranarray(X)
    assert dataset(x=columns, name="other").digest() == dataset().digest()
    assert dataset(x=X.repeat(2, 0)[::2]).digest() == dataset().digest()


@pytest.mark.parametrize(
    "change",
    [
        {"x": X + 1},
        {"x": X.astype(np.float64)},
        {"x": X.reshape(6, 2, 1)},
        {"x": X[::-1]},
        {"y": Y[::-1]},
        {"y": Y.astype(np.int32)},
        {"classes": None},
        {"classes": ("cat", "dog", "cow")},
        {"classes": ("cat", "dog", "owl", "bat")},
    ],
    ids=str,
)
def test_the_digest_depends_on_everything_else(change):
    assert dataset(**change).digest() != dataset().digest()


def test_the_digest_of_many_rows_does_not_depend_on_pieces(monkeypatch):
    whole = dataset().digest()
    monkeypatch.setattr("sillar.data.dataset._PIECE", 10)
    assert dataset().digest() == whole
