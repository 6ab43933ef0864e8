"""The kernels of normalisation against the namespace's form and exact values."""

import numpy as np
import pytest
import torch

import sillar as sl
from sillar import nn
from sillar.backends import Backend, backend_of
from sillar.backends.numpy import normalization
from sillar.backends.numpy.normalization import BLOCK, LINE

NUMPY = backend_of(np.zeros(1))
rng = np.random.default_rng(0)
SHAPES = [
    *((5, 3), (1, 3), (5, 1), (1, 1), (0, 3), (2, 3, 4), (2, 0, 4)),
    *((LINE + 1, 2), (3 * LINE, 1), (4, LINE - 1), (4, LINE + 1), (7, 9, 11, 5)),
    *((BLOCK, 3), (2, BLOCK + 1)),
]
each = pytest.mark.parametrize("shape", SHAPES)
both = pytest.mark.parametrize("dtype", ["float32", "float64"])


def near(got, expected):
    tolerance = {"rtol": 1e-4, "atol": 1e-5}
    if expected.dtype == np.float64:
        tolerance = {"rtol": 1e-10, "atol": 1e-12}
    np.testing.assert_allclose(got, expected, strict=True, **tolerance)


def numbers(shape, dtype):
    return (rng.normal(size=shape) * 2 + 1).astype(dtype)


@both
@each
def test_channels_are_the_composed_form(shape, dtype):
    g, x = numbers(shape, dtype), numbers(shape, dtype)
    centre, slope, total, weight, bias = numbers((5, shape[-1]), dtype)
    spread = weight * weight
    near(
        normalization.channel_squares(x, centre),
        Backend.channel_squares(NUMPY, x, centre),
    )
    near(
        normalization.batch_norm_weight(g, x, centre, spread, 0.1),
        Backend.batch_norm_weight(NUMPY, g, x, centre, spread, 0.1),
    )
    for w, b in ((weight, bias), (1.0, 0.0)):
        forward = x, w, b, centre, spread, 0.1
        expected = Backend.batch_norm(NUMPY, *forward)
        near(normalization.batch_norm(*forward), expected)
        out = np.empty_like(x)
        assert normalization.batch_norm(*forward, out) is out
        near(out, expected)
        back = g, x, w, centre, spread, slope, total, 0.1
        expected = Backend.batch_norm_input(NUMPY, *back)
        near(normalization.batch_norm_input(*back), expected)


def test_arrays_need_not_lie_in_order():
    x = numbers((4, 5, 6), "float64")
    centre = numbers(4, "float64")
    for view in (x.T, x.transpose(2, 1, 0)[::-1]):
        given = view, 1.0, 0.0, centre, centre**2, 0.1
        near(normalization.batch_norm(*given), Backend.batch_norm(NUMPY, *given))


@pytest.mark.parametrize("value", [0.0, 1e4, -3e-5])
@pytest.mark.parametrize("layer", [nn.LayerNorm(6), nn.BatchNorm(6)], ids=repr)
def test_constant_values_are_zero_with_gradients_that_end(layer, value):
    layer.init(sl.Rng(0))
    x = sl.Tensor(np.full((8, 6), value, "float32"), requires_grad=True)
    y = layer(x, rng=sl.Rng(0))
    np.testing.assert_allclose(y.numpy(), 0, atol=max(1e-8, 1e-6 * abs(value)))
    g = sl.grad((y * numbers((8, 6), "float32")).sum(), x)
    assert np.isfinite(g.numpy()).all()


@pytest.mark.parametrize("offset", [0.0, 300.0])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("name", ["LayerNorm", "BatchNorm"])
def test_single_precision_is_as_near_as_pytorchs(name, offset, scale):
    x = (rng.normal(size=(64, 32)) * scale + offset).astype("float32")
    u = rng.normal(size=(64, 32)).astype("float32")
    make = {"LayerNorm": torch.nn.LayerNorm, "BatchNorm": torch.nn.BatchNorm1d}[name]

    def theirs(dtype):
        leaf = torch.tensor(x, dtype=dtype, requires_grad=True)
        y = make(32).to(dtype)(leaf)
        y.backward(torch.tensor(u, dtype=dtype))
        return y.detach().numpy(), leaf.grad.numpy()

    leaf = sl.Tensor(x, requires_grad=True)
    y = getattr(nn, name)(32).init(sl.Rng(0))(leaf, rng=sl.Rng(0))
    ours = y.numpy(), sl.grad(y, leaf, cotangents=sl.Tensor(u)).numpy()
    for got, single, exact in zip(
        ours, theirs(torch.float32), theirs(torch.float64), strict=True
    ):
        size = np.abs(exact).max()
        allowed = 4 * np.abs(single - exact).max() + 1e-6 * size
        assert np.abs(got - exact).max() <= allowed
