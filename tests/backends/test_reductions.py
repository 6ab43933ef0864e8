"""Sums by products, and sums at indices, against NumPy's own."""

import numpy as np
import pytest

from sillar.backends.numpy.reductions import ROWS, sum, sum_into
from sillar.backends.numpy.scatter import scatter_add

rng = np.random.default_rng(0)
SHAPES = [
    *((5, 3), (1, 3), (5, 1), (1, 1), (0, 3), (3, 0), (0, 0), (7,), (0,), ()),
    *((2, 3, 4), (2, 0, 4), (ROWS, 2), (ROWS + 1, 2), (3 * ROWS, 2), (2, ROWS + 1)),
    (2 * ROWS * ROWS // 64 + 3, 1, 2),
]
AXES = [None, 0, -1, (), (0,), (0, 1), (-1, 0), (1, 2), (0, 2)]


def fits(shape, axis):
    axes = (axis,) if isinstance(axis, int) else axis or ()
    inside = all(-len(shape) <= a < len(shape) for a in axes)
    return inside and len({a % len(shape) for a in axes}) == len(axes)


CASES = [(s, a) for s in SHAPES for a in AXES if fits(s, a)]


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "bool"])
@pytest.mark.parametrize(("shape", "axis"), CASES)
def test_sum_is_numpys(shape, axis, dtype, keepdims):
    x = (rng.normal(size=shape) * 3).astype(dtype)
    expected = np.sum(x, axis=axis, keepdims=keepdims, dtype="float64")
    got = sum(x, axis=axis, keepdims=keepdims)
    assert got.dtype == np.sum(x, axis=axis).dtype
    assert got.shape == expected.shape
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * 40)
    out = np.empty(got.shape, got.dtype)
    sum_into(x, axis, keepdims, out)
    np.testing.assert_array_equal(out, got)


@pytest.mark.parametrize("axis", [0, 1, (0, 1)])
def test_sums_of_views(axis):
    x = rng.normal(size=(6, 5, 4)).astype("float32")
    for view in (x[::2], x[:, ::-1], x.T, x.transpose(1, 0, 2), np.asfortranarray(x)):
        got = sum(view, axis=axis)
        np.testing.assert_allclose(got, view.sum(axis, dtype="float64"), rtol=1e-4)
        out = np.empty(got.T.shape, got.dtype).T
        sum_into(view, axis, False, out)
        np.testing.assert_allclose(out, got, rtol=1e-5)


def test_long_sums_are_precise():
    """Added one after another, a million tenths in float32 are 1 % away."""
    x = np.full((1_000_000, 2), 0.1, "float32")
    exact = 1e6 * float(np.float32(0.1))
    np.testing.assert_allclose(sum(x, axis=0), exact, rtol=1e-5)


def test_infinite_terms_stay_in_their_sum():
    x = np.ones((4, 3), "float32")
    x[1, 0], x[2, 1] = np.inf, np.nan
    np.testing.assert_array_equal(sum(x, axis=0), [np.inf, np.nan, 4])
    np.testing.assert_array_equal(sum(x, axis=1), [3, np.inf, np.nan, 3])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["int64", "int8", "uint16"])
@pytest.mark.parametrize(
    ("picked", "shape"),
    [((7,), (4, 3)), ((2, 5), (4, 3)), ((5,), (4,)), ((0,), (4, 3)), ((6,), (4, 2, 3))],
)
def test_rows_are_added_in_their_order(picked, shape, kind, dtype):
    rows = rng.integers(0, 4, picked).astype(kind)
    values = rng.normal(size=(*picked, *shape[1:])).astype(dtype)
    expected = np.zeros(shape, dtype)
    np.add.at(expected, rows, values)
    np.testing.assert_array_equal(scatter_add(values, (rows,), shape), expected)


def test_rows_may_be_counted_from_the_end():
    got = scatter_add(np.ones((3, 2), "float32"), (np.array([-1, 0, -1]),), (4, 2))
    np.testing.assert_array_equal(got[:, 0], [1, 0, 0, 2])


def test_rows_beyond_the_table_are_refused():
    for row in (4, -5):
        with pytest.raises(IndexError):
            scatter_add(np.ones((1, 2)), (np.array([row]),), (4, 2))
