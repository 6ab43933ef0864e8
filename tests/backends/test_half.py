"""Numbers in 16 bits: rounding, and where the largest of a window lies in one byte."""

import warnings

import numpy as np
import pytest

from sillar.backends import load
from sillar.backends.base import Window
from sillar.backends.numpy import half, pooling

ALL = np.arange(2**16, dtype=np.uint16)


def spread(n=200_000, low=-12, high=6):
    """Return numbers of all sizes and both signs."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=n) * 10.0 ** rng.uniform(low, high, n)).astype("float32")


def test_every_float16_comes_back_as_it_was():
    stored = ALL.view(np.float16)
    stored = stored[~np.isnan(stored)]
    wide = half.widen(stored, np.float32)
    np.testing.assert_array_equal(stored.astype("float32"), wide, strict=True)
    assert (np.signbit(stored) == np.signbit(wide)).all()
    again = half.narrow(wide, "float16")
    np.testing.assert_array_equal(stored.view("uint16"), again.view("uint16"))
    np.testing.assert_array_equal(wide.astype("float64"), half.widen(stored, "float64"))


def test_every_bfloat16_comes_back_as_it_was():
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="it is the oracle")
    known = ALL.view(ml_dtypes.bfloat16).astype("float32")
    wide = half.widen(ALL, np.float32)
    np.testing.assert_array_equal(known, wide, strict=True)
    numbers = ~np.isnan(wide)
    np.testing.assert_array_equal(ALL[numbers], half.narrow(wide[numbers], "bfloat16"))


@pytest.mark.parametrize("name", half.TYPES)
@pytest.mark.parametrize("shape", [(0,), (1,), (7, 0), (200_000,), (400, 500)])
def test_rounding_is_to_the_nearest(name, shape):
    x = spread()[: np.prod(shape)].reshape(shape)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = half.widen(half.narrow(x, name), "float32").astype("float64")
    # half a unit in the last place; float16 has no steps below 2^-24, and an end
    step = np.maximum(2.0**-8 * abs(x), 0.0) if name == "bfloat16" else None
    if step is None:
        step = np.maximum(2.0**-11 * abs(x), 2.0**-25)
        with np.errstate(over="ignore"):
            far = np.isinf(x.astype("float16"))
        assert np.isinf(got[far]).all()
        got, x, step = got[~far], x[~far], step[~far]
    # what is tiny is rounded twice, first to 13 bits more
    assert (abs(got - x) <= step * (1 + 2.0**-12)).all()


def test_views_and_other_types():
    x = spread(10_000).reshape(100, 100)
    for name in half.TYPES:
        expected = half.narrow(x, name)
        turned = half.narrow(x.T, name)
        np.testing.assert_array_equal(expected.T, turned)
        np.testing.assert_array_equal(expected, half.narrow(x.astype("float64"), name))
        wide = half.widen(expected, "float32")
        np.testing.assert_array_equal(wide.T, half.widen(expected.T, "float32"))


def test_ends_of_the_range():
    x = np.array([np.inf, -np.inf, np.nan, 65519.0, 65520.0, -1e30, -0.0], "float32")
    got = half.widen(half.narrow(x, "float16"), "float32")
    expected = [np.inf, -np.inf, np.inf, 65504.0, np.inf, -np.inf, -0.0]
    np.testing.assert_array_equal(expected, got)
    assert np.signbit(got[-1])
    got = half.widen(half.narrow(x, "bfloat16"), "float32")
    assert np.isinf(got[:2]).all()
    assert not np.isfinite(got[2])


WINDOWS = {
    "apart": Window((2, 2), (2, 2)),
    "overlapping": Window((3, 2), (1, 1)),
    "gaps": Window((2, 2), (3, 3)),
    "one": Window((1, 1), (1, 1)),
    "wide": Window((5, 5), (5, 5)),
}


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("kind", ["numbers", "ties", "nan", "large"])
def test_places_give_what_the_images_give(window, kind):
    n = 150 if kind == "large" else 3
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n, 11, 13, 4)).astype("float32")
    if kind == "ties":
        x = np.maximum(np.round(x), 0)
    if kind == "nan":
        x[0, 2, 3, 1] = np.nan
    g = rng.normal(size=(n, *window.positions((11, 13)), 4)).astype("float32")
    expected = pooling.max_unpool(g, x, window)
    places = pooling.max_places(x, window)
    assert places.dtype == np.uint8
    got = pooling.max_unplace(g, places, (11, 13), window)
    np.testing.assert_array_equal(expected, got, strict=True)


def test_other_back_ends_store_their_own_types():
    pytest.importorskip("torch", reason="the back end")
    torch = load("torch")
    x = torch.asarray(spread(100))
    for name in half.TYPES:
        stored = torch.narrow(x, name)
        assert stored.dtype == torch.half(name)
        assert stored.dtype.itemsize == 2
        expected = half.widen(half.narrow(spread(100), name), "float32")
        got = torch.to_numpy(torch.widen(stored, x.dtype))
        np.testing.assert_allclose(expected, got, rtol=2**-7, atol=1e-7)
