"""The attention kernel against the slow composition, on sizes that need many blocks."""

import numpy as np
import pytest

from sillar.backends import attention as composed
from sillar.backends import backend_of
from sillar.backends.numpy import attention as kernel

NUMPY = backend_of(np.zeros(1))
SIZES = [  # batch, tokens, heads, width of a head
    *[(1, 1, 1, 1), (3, 5, 2, 3), (7, 64, 4, 2), (2, 300, 2, 4), (1, 521, 1, 3)],
    *[(0, 4, 2, 2), (40, 17, 3, 2), (2, 129, 40, 1)],
]
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


def masks(batch, n, heads):
    rng = np.random.default_rng(5)
    some = rng.random((batch, heads, n, n)) < 0.5
    keys = some[:, :1, :1]
    blind = some.copy()
    blind[:, :, ::3] = False
    return [True, keys, some[:1], some[:, :1], blind]


def compare(qkv, g, mask, heads, causal):
    tolerance = TOLERANCE[str(qkv.dtype)]
    expected = composed.forward(NUMPY, qkv, mask, heads, causal)
    got = kernel.attention(qkv, mask, heads, causal)
    assert (got.shape, got.dtype) == (g.shape, qkv.dtype)
    scale = max(1, np.abs(qkv).max(initial=0))
    np.testing.assert_allclose(got, expected, atol=tolerance * scale)

    expected = composed.slope(NUMPY, g, qkv, mask, heads, causal)
    got = kernel.attention_slope(g, qkv, mask, heads, causal)
    assert (got.shape, got.dtype) == (qkv.shape, qkv.dtype)
    np.testing.assert_allclose(got, expected, atol=tolerance * scale**2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("spread", [1, 40])
def test_values_and_gradients(dtype, causal, size, spread):
    batch, n, heads, d = size
    rng = np.random.default_rng(0)
    qkv = (rng.normal(size=(batch, n, 3 * heads * d)) * spread).astype(dtype)
    qkv[..., 2 * heads * d :] /= spread
    g = rng.normal(size=(batch, n, heads * d)).astype(dtype)
    if dtype == "float32" and spread > 1:  # nothing but rounding is left of exactness
        qkv = np.round(qkv)
    for mask in masks(batch, n, heads) if n < 100 else [True]:
        compare(qkv, g, mask, heads, causal)


@pytest.mark.parametrize("causal", [False, True])
def test_long_masked_sequences(causal):
    rng = np.random.default_rng(0)
    qkv, g = rng.normal(size=(2, 200, 18)), rng.normal(size=(2, 200, 6))
    for mask in masks(2, 200, 3):
        compare(qkv, g, mask, 3, causal)


def test_inputs_stay_as_they_are_and_may_be_views():
    rng = np.random.default_rng(0)
    wide, wide_g = rng.normal(size=(2, 5, 24)), rng.normal(size=(5, 2, 4))
    qkv, g = wide[..., ::2], wide_g.transpose(1, 0, 2)
    before = qkv.copy(), g.copy()
    compare(qkv, g, True, 2, True)
    np.testing.assert_array_equal(before[0], qkv)
    np.testing.assert_array_equal(before[1], g)


def test_no_array_is_as_large_as_all_weights(monkeypatch):
    largest = []
    product = np.matmul

    def noted(a, b, **given):
        out = product(a, b, **given)
        largest.append(out.size)
        return out

    monkeypatch.setattr(np, "matmul", noted)
    qkv, g = np.ones((16, 512, 12), "float32"), np.ones((16, 512, 4), "float32")
    kernel.attention(qkv, True, 2, True)
    kernel.attention_slope(g, qkv, True, 2, True)
    assert max(largest) <= kernel.BLOCK < 16 * 2 * 512 * 512
