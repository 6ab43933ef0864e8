"""The error function and the normal distribution against math and SciPy."""

from __future__ import annotations

import math
import runpy
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sillar.backends.numpy import special
from sillar.backends.numpy.special import erf, normal_cdf, normal_pdf
from sillar.errors import DtypeError

DTYPES = ["float32", "float64"]
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "derive_erf.py"


def exact(x: np.ndarray) -> np.ndarray:
    """Return erf of every element of `x` in float64."""
    return np.array([math.erf(v) for v in x.ravel().tolist()]).reshape(x.shape)


def magnitudes(dtype: str) -> np.ndarray:
    """Return both signs of a dense grid on [0, 7] and of every power of ten."""
    smallest = -37 if dtype == "float32" else -307
    powers = 10.0 ** np.linspace(smallest, 0, 3001)
    positive = np.concatenate([np.linspace(0, 7, 30011), powers])
    return np.concatenate([positive, -positive]).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_erf_is_right_to_two_units_in_the_last_place(dtype):
    x = magnitudes(dtype)
    actual = erf(x)
    assert actual.dtype == x.dtype
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(
        actual.astype("float64"), exact(x), rtol=2 * eps, atol=0, strict=True
    )


def test_erf_in_float64_is_right_to_3e_16_absolutely():
    x = np.random.default_rng(0).normal(size=40_000) * 2
    assert np.abs(erf(x) - exact(x)).max() <= 3e-16


@pytest.mark.parametrize("dtype", DTYPES)
def test_erf_agrees_with_scipy(dtype):
    scipy_special = pytest.importorskip("scipy.special")
    x = np.random.default_rng(1).normal(size=(50, 40)).astype(dtype)
    expected = scipy_special.erf(x)
    np.testing.assert_allclose(erf(x), expected, rtol=3 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", ["float16", *DTYPES])
def test_erf_at_the_ends_is_exact_and_silent(dtype):
    largest = np.finfo(dtype).max
    x = np.array([0.0, -0.0, np.inf, -np.inf, largest, -largest, np.nan], dtype)
    with warnings.catch_warnings(), np.errstate(all="warn"):
        warnings.simplefilter("error")
        actual = erf(x)
    expected = np.array([0.0, -0.0, 1.0, -1.0, 1.0, -1.0, np.nan], dtype)
    np.testing.assert_array_equal(actual, expected, strict=True)
    np.testing.assert_array_equal(np.signbit(actual[:6]), np.signbit(expected[:6]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_erf_of_subnormal_numbers_raises_no_floating_point_flag(dtype):
    counts = np.arange(1, 2000).astype(f"int{np.dtype(dtype).itemsize * 8}")
    x = counts.view(dtype)
    with np.errstate(all="raise"):
        actual = erf(x)
    slack = np.finfo(dtype).smallest_subnormal
    assert np.all(np.abs(actual.astype("float64") - exact(x)) <= slack)


@pytest.mark.parametrize("dtype", DTYPES)
def test_erf_of_a_signalling_nan_is_nan_without_a_warning(dtype):
    size = np.dtype(dtype).itemsize * 8
    quiet = np.array([np.inf], dtype).view(f"int{size}")
    x = (quiet + 1).view(dtype)
    with np.errstate(all="raise"):
        assert np.isnan(erf(x)).all()


@given(st.floats(width=64))
def test_erf_of_any_float_is_odd_bounded_and_silent(value):
    x = np.array([value, -value])
    with np.errstate(all="raise"):
        y = erf(x)
    if math.isnan(value):
        assert np.isnan(y).all()
    else:
        assert y[0] == -y[1]
        assert abs(y[0]) <= 1.0
        assert y[0] == pytest.approx(math.erf(value), rel=5e-16, abs=1e-323)


def test_erf_of_every_float16_is_right_to_one_unit_in_the_last_place():
    x = np.arange(2**16, dtype=np.uint16).view(np.float16)
    x = x[np.isfinite(x)]
    expected = exact(x).astype(np.float16)
    np.testing.assert_array_max_ulp(erf(x), expected, maxulp=1, dtype=np.float16)
    assert np.count_nonzero(erf(x) != expected) < 10


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0), (2, 3, 4)])
def test_erf_keeps_the_shape(shape):
    x = np.full(shape, 0.5, "float32")
    actual = erf(x)
    assert isinstance(actual, np.ndarray)
    np.testing.assert_allclose(
        actual, np.full(shape, math.erf(0.5), "float32"), rtol=3e-7, strict=True
    )


def test_erf_leaves_its_input_alone_and_reads_any_layout():
    x = np.random.default_rng(2).normal(size=(120, 90))
    view = x.T[::-2, 1:]
    kept = x.copy()
    np.testing.assert_allclose(erf(view), exact(view), rtol=5e-16)
    np.testing.assert_array_equal(x, kept)


def test_erf_does_not_depend_on_where_a_block_ends():
    x = np.random.default_rng(3).normal(size=2 * special.BLOCK + 5)
    edge = slice(special.BLOCK - 20, special.BLOCK + 20)
    one_by_one = np.array([erf(v) for v in x[edge]])
    np.testing.assert_array_equal(erf(x)[edge], one_by_one)


@pytest.mark.parametrize("dtype", ["int64", "bool", "complex128"])
def test_erf_refuses_other_dtypes(dtype):
    with pytest.raises(DtypeError, match=r"erf: expected float16, .* got .*astype"):
        erf(np.ones(3, dtype))


NORMAL_ERRORS = [("float32", 1.3e-7, 1.2e-7), ("float64", 3e-16, 2e-16)]


@pytest.mark.parametrize(("dtype", "of_cdf", "of_pdf"), NORMAL_ERRORS)
def test_the_normal_distribution_is_scipys(dtype, of_cdf, of_pdf):
    stats = pytest.importorskip("scipy.stats")
    x = np.concatenate([magnitudes(dtype), 20 * magnitudes(dtype)])
    wide = x.astype("float64")
    cdf, pdf = normal_cdf(x), normal_pdf(x)
    assert cdf.dtype == pdf.dtype == x.dtype
    np.testing.assert_allclose(cdf, stats.norm.cdf(wide), rtol=0, atol=of_cdf)
    np.testing.assert_allclose(pdf, stats.norm.pdf(wide), rtol=0, atol=of_pdf)
    assert cdf.min() == 0
    assert cdf.max() == 1


def test_gelu_in_float32_is_nowhere_half_as_exact_as_pytorchs():
    torch = pytest.importorskip("torch")
    stats = pytest.importorskip("scipy.stats")
    x = np.linspace(-12, 12, 400_001).astype("float32")
    wide = x.astype("float64")
    exact = wide * stats.norm.cdf(wide)
    theirs = torch.nn.functional.gelu(torch.tensor(x)).numpy()
    for low, high in ((-12, -5), (-5, -3), (-3, -1), (-1, 1), (1, 3), (3, 12)):
        part = (low <= x) & (x <= high)
        ours, bar = (
            np.abs(y[part] - exact[part]).max() for y in (x * normal_cdf(x), theirs)
        )
        assert ours < 2 * bar


@pytest.mark.parametrize("dtype", ["float16", *DTYPES])
def test_the_normal_distribution_at_the_ends_is_exact_and_silent(dtype):
    largest = np.finfo(dtype).max
    x = np.array([0.0, -0.0, np.inf, -np.inf, largest, -largest, np.nan], dtype)
    with warnings.catch_warnings(), np.errstate(all="warn"):
        warnings.simplefilter("error")
        cdf, pdf = normal_cdf(x), normal_pdf(x)
    expected = np.array([0.5, 0.5, 1.0, 0.0, 1.0, 0.0, np.nan], dtype)
    np.testing.assert_array_equal(cdf, expected, strict=True)
    peak = 1 / math.sqrt(2 * math.pi)
    expected = np.array([peak, peak, 0.0, 0.0, 0.0, 0.0, np.nan], dtype)
    np.testing.assert_allclose(pdf, expected, rtol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("kernel", [normal_cdf, normal_pdf])
@pytest.mark.parametrize("dtype", ["float16", *DTYPES])
def test_a_result_may_lie_anywhere_even_on_its_input(kernel, dtype):
    x = np.random.default_rng(4).normal(size=(300, 70)).astype(dtype)
    expected = kernel(x)
    own, strided = x.copy(), np.empty((70, 300), dtype).T
    assert kernel(own, out=own) is own
    kernel(x, out=strided)
    np.testing.assert_array_equal(own, expected, strict=True)
    np.testing.assert_array_equal(strided, expected, strict=True)
    with pytest.raises(DtypeError, match=f"{kernel.__name__}: expected float16"):
        kernel(np.ones(3, "int64"))


@pytest.mark.parametrize(
    ("dtype", "arguments"), [("float32", (2.6, 3, 3)), ("float64", (3.6, 10, 9))]
)
def test_the_derivation_script_prints_the_table_in_use(dtype, arguments):
    pytest.importorskip("mpmath")
    p, q = runpy.run_path(str(SCRIPT))["table"](*arguments)
    table = special._TABLES[np.dtype(dtype)]
    assert p == table.p
    assert q == table.q


def test_the_derivation_script_prints_the_normal_table_in_use():
    pytest.importorskip("mpmath")
    assert runpy.run_path(str(SCRIPT))["normal"](6, 6) == special._NORMAL
