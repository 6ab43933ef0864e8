"""Kernels of recurrent sweeps against the same in the array standard's functions."""

import numpy as np
import pytest

from sillar.backends import Backend, backend_of
from sillar.backends.numpy import recurrent

NUMPY = backend_of(np.zeros(1))
GATES = {"lstm": 4, "gru": 3}
every_cell = pytest.mark.parametrize("cell", GATES)


def drawn(cell, steps, n_in, batch, hidden, dtype="float64"):
    """Return x, w and a gradient at the outputs."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(steps, n_in, batch))
    w = rng.normal(size=(n_in + 2 + hidden, GATES[cell] * hidden)) * 0.5
    g = rng.normal(size=(steps, hidden, batch))
    return [a.astype(dtype) for a in (x, w, g)]


def computed(kind, cell, x, w, g):
    """Return outputs and the gradients for x and w, as a back end of this kind has."""
    kept = kind.recurrent_keep(cell, x, w)
    slopes = kind.recurrent_slopes(cell, g, x, w, kept, True)
    less = kind.recurrent_slopes(cell, g, x, w, kept, False)
    alone = kind.recurrent_slopes(cell, g[-1:], x, w, kept, True)
    return (
        kind.recurrent_output(cell, x, w, kept, False),
        kind.recurrent_output(cell, x, w, kept, True),
        kind.recurrent_weight(cell, x, w, kept, alone, True),
        kind.recurrent_input(cell, x, w, slopes),
        kind.recurrent_weight(cell, x, w, kept, slopes, True),
        kind.recurrent_weight(cell, x, w, kept, less, False),
    )


class Default:
    """The functions that a back end has if it brings none."""

    def __getattr__(self, name):
        return lambda *args: getattr(Backend, name)(NUMPY, *args)


SIZES = [(1, 1, 1, 1), (3, 2, 5, 4), (4, 1, 7, 3), (2, 5, 13, 1), (5, 3, 0, 2)]


@every_cell
@pytest.mark.parametrize("block", [1, 3, 256])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_odd_sizes_in_blocks(cell, block, size, monkeypatch):
    monkeypatch.setattr(recurrent, "BLOCK", block)
    x, w, g = drawn(cell, *size)
    expected = computed(Default(), cell, x, w, g)
    for one, other in zip(expected, computed(NUMPY, cell, x, w, g), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-11, atol=1e-13, strict=True)


@every_cell
def test_inputs_in_any_order_of_memory(cell):
    x, w, g = drawn(cell, 4, 3, 6, 5)
    expected = computed(NUMPY, cell, x, w, g)
    turned = np.ascontiguousarray(x[::-1].transpose(2, 0, 1)).transpose(1, 2, 0)[::-1]
    got = computed(NUMPY, cell, turned, np.asfortranarray(w), np.asfortranarray(g))
    for one, other in zip(expected, got, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-12, atol=1e-14)


@every_cell
def test_float32_is_near_float64_over_many_steps(cell):
    arrays = drawn(cell, 50, 8, 40, 16)
    arrays[1] *= 0.5
    expected = computed(NUMPY, cell, *arrays)
    got = computed(NUMPY, cell, *(a.astype("float32") for a in arrays))
    for one, other in zip(expected, got, strict=True):
        assert other.dtype == "float32"
        assert np.abs(other - one).max() <= 1e-6 * max(1, np.abs(one).max())


@every_cell
def test_large_values_saturate(cell):
    x, w, g = drawn(cell, 3, 2, 4, 3, "float32")
    with np.errstate(all="raise", under="ignore"):
        for part in computed(NUMPY, cell, x * 1e4, w * 1e4, g):
            assert np.isfinite(part).all()


@pytest.mark.parametrize("stored", ["bfloat16", "float16"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize(
    "sizes", [(3, 2, 5, 7), (1, 1, 1, 1), (4, 3, 3, 1030), (2, 1, 3, 0)]
)
def test_a_sweep_narrows_what_its_cell_keeps(cell, stored, sizes):
    steps, n_in, n, batch = sizes
    x, w, g = drawn(cell, steps, n_in, batch, n, "float32")
    whole = NUMPY.recurrent_keep(cell, x, w)
    kept = NUMPY.recurrent_keep_half(cell, x, w, stored)
    assert kept.dtype == NUMPY.half(stored)
    for last in (True, False):  # outputs are not rounded
        np.testing.assert_array_equal(
            *(NUMPY.recurrent_output(cell, x, w, k, last) for k in (whole, kept))
        )
    expected, got = (
        NUMPY.recurrent_slopes(cell, g, x, w, k, True) for k in (whole, kept)
    )
    assert got.dtype == np.float32
    for gradient in (
        lambda k, s: NUMPY.recurrent_input(cell, x, w, s),
        lambda k, s: NUMPY.recurrent_weight(cell, x, w, k, s, True),
    ):
        a, b = gradient(whole, expected), gradient(kept, got)
        assert np.linalg.norm(a - b) <= 0.02 * np.linalg.norm(a)
