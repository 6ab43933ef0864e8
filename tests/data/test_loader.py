import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sillar.data import DataLoader, Dataset
from sillar.errors import ConfigError


def dataset(n=10, dtype=np.float32):
    return Dataset(np.arange(2 * n, dtype=dtype).reshape(n, 2), np.arange(n))


def rows(batches):
    return [int(row) for _, y in batches for row in y]


def test_batches_follow_the_rows():
    batches = list(DataLoader(dataset(5), 2))
    assert [y.tolist() for _, y in batches] == [[0, 1], [2, 3], [4]]
    np.testing.assert_array_equal(batches[1][0], [[4, 5], [6, 7]])


@given(
    n=st.integers(1, 50),
    batch_size=st.integers(1, 60),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
)
def test_an_epoch_holds_every_row_once(n, batch_size, shuffle, drop_last):
    if drop_last and batch_size > n:
        return
    loader = DataLoader(dataset(n), batch_size, shuffle=shuffle, drop_last=drop_last)
    batches = list(loader)
    assert len(batches) == len(loader)
    assert all(len(x) == len(y) <= batch_size for x, y in batches)
    assert all(len(y) == batch_size for _, y in batches[: n // batch_size])
    for x, y in batches:
        np.testing.assert_array_equal(x[:, 0], 2 * y)
    seen = rows(batches)
    assert (
        len(set(seen)) == len(seen) == (n // batch_size * batch_size, n)[not drop_last]
    )


def test_iterations_are_successive_epochs():
    loader = DataLoader(dataset(30), 7, shuffle=True, seed=3)
    first, second = rows(loader), rows(loader)
    assert first != second
    assert first == rows(loader.epoch(0))
    assert second == rows(loader.epoch(1))
    assert rows(loader) == rows(loader.epoch(2))


def test_the_order_depends_on_seed_and_epoch_only():
    one = DataLoader(dataset(30), 7, shuffle=True, seed=3)
    other = DataLoader(dataset(30), 4, shuffle=True, seed=3)
    list(one), list(one)
    assert rows(one.epoch(5)) == rows(other.epoch(5)) == rows(other.epoch(np.int64(5)))
    assert rows(one.epoch(5)) != rows(one.epoch(6))
    assert rows(one) != rows(DataLoader(dataset(30), shuffle=True, seed=4).epoch(2))


def test_the_order_is_the_same_for_ever():
    assert rows(DataLoader(dataset(8), shuffle=True, seed=0)) == [
        7,
        3,
        0,
        2,
        6,
        5,
        4,
        1,
    ]


def test_an_abandoned_iteration_counts_as_an_epoch():
    loader = DataLoader(dataset(30), 7, shuffle=True)
    next(iter(loader))
    assert rows(loader) == rows(loader.epoch(1))


def test_without_shuffling_every_epoch_is_alike():
    loader = DataLoader(dataset(5), 2)
    assert rows(loader) == rows(loader) == rows(loader.epoch(9)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_batch_has_memory_of_its_own(shuffle):
    data = dataset()
    for x, y in DataLoader(data, 4, shuffle=shuffle):
        x *= 0
        y *= 0
    np.testing.assert_array_equal(data.x, dataset().x)
    np.testing.assert_array_equal(data.y, dataset().y)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
def test_batches_keep_the_dtype(dtype):
    assert [x.dtype for x, _ in DataLoader(dataset(5, dtype), 4)] == [dtype, dtype]


def test_an_empty_dataset_has_no_batches():
    for drop_last in (True, False):
        loader = DataLoader(dataset(0), 4, shuffle=True, drop_last=drop_last)
        assert len(loader) == 0
        assert list(loader) == []


def test_a_batch_larger_than_the_data_is_the_data():
    loader = DataLoader(dataset(3), 32)
    assert len(loader) == 1
    assert rows(loader) == [0, 1, 2]


def test_dropping_everything_is_refused():
    assert len(DataLoader(dataset(3), 3, drop_last=True)) == 1
    with pytest.raises(ConfigError, match=r"at most the 3 rows.*got 4.*no batch"):
        DataLoader(dataset(3), 4, drop_last=True)


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, True, "4", None])
def test_batch_sizes_below_one_are_refused(batch_size):
    with pytest.raises(
        ConfigError, match="batch_size must be an integer of at least 1"
    ):
        DataLoader(dataset(), batch_size)


@pytest.mark.parametrize("n", [-1, 0.5, True, None])
def test_epochs_below_zero_are_refused_at_once(n):
    with pytest.raises(ConfigError, match="epoch must be an integer of at least 0"):
        DataLoader(dataset()).epoch(n)


def test_other_things_than_datasets_and_seeds_are_refused():
    with pytest.raises(ConfigError, match="expected a Dataset, got tuple"):
        DataLoader((np.zeros(3), np.zeros(3)))
    with pytest.raises(ConfigError, match="seed"):
        DataLoader(dataset(), seed=-1)
