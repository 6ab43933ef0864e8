"""Choosing on bits gives what NumPy's `where` gives, to the bit."""

import numpy as np
import pytest

from sillar.backends.numpy.select import FEW, where

rng = np.random.default_rng(0)
SHAPES = [(), (1,), (0,), (3, 4), (FEW + 1,), (2, FEW), (3, FEW, 1)]
HARD = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -3e38, 1.5], "float32")


def numbers(shape, dtype):
    values = np.asarray(rng.normal(size=shape), dtype)
    values.reshape(-1)[: HARD.size] = HARD[: values.size]
    return values


def bits(x):
    return np.asarray(x).tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "bool"])
@pytest.mark.parametrize("shape", SHAPES)
def test_values(shape, dtype):
    kind = "float64" if dtype in ("int64", "bool") else dtype
    with np.errstate(invalid="ignore", over="ignore"):
        a, b = (numbers(shape, kind).astype(dtype) for _ in range(2))
    condition = np.asarray(rng.random(shape) < 0.5)
    expected = np.where(condition, a, b)
    got = where(condition, a, b)
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    assert bits(got) == bits(expected)
    for out in (np.empty(shape, dtype), a.copy(), np.empty(shape[::-1], dtype).T):
        assert where(condition, a, b, out=out) is out
        assert bits(out) == bits(expected)
    assert bits(where(condition, a, b, out=a)) == bits(expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_broadcast(dtype):
    row, column = numbers((1, FEW), dtype), numbers((3, 1), dtype)
    condition = rng.random((3, FEW)) < 0.5
    for a, b in ((row, column), (column, 0.0), (2, row), (row, row[0])):
        expected = np.where(condition, a, b)
        got = where(condition, a, b)
        assert got.dtype == expected.dtype == dtype
        assert bits(got) == bits(expected)
        got = where(condition[:1], a, column)
        assert bits(got) == bits(np.where(condition[:1], a, column))


def test_other_conditions_and_mixed_types():
    a, b = numbers(2 * FEW, "float32"), numbers(2 * FEW, "float64")
    for condition in (rng.integers(0, 2, 2 * FEW), True, a > 0):
        got, expected = where(condition, a, b), np.where(condition, a, b)
        assert got.dtype == expected.dtype
        assert bits(got) == bits(expected)
