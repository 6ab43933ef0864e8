"""Initial values: variances and limits by formula, fans by PyTorch's rule."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import sillar as sl
from sillar import nn
from sillar.errors import ShapeError
from sillar.nn import initializers
from sillar.nn.architecture import INITIALIZERS

DENSE, CONV = (80, 120), (3, 5, 16, 24)


def fans_of_torch(shape):
    """Return PyTorch's fans of the same weight in its own order of axes."""
    weight = torch.empty(*reversed(shape[-2:]), *shape[:-2])
    return torch.nn.init._calculate_fan_in_and_fan_out(weight)


@pytest.mark.parametrize("shape", [DENSE, CONV, (1, 1), (7, 2, 3)])
def test_fans_are_pytorchs(shape):
    assert initializers.fans(shape) == fans_of_torch(shape)


def test_fans_of_vectors_and_scalars_are_their_sizes():
    assert initializers.fans((5,)) == (5, 5)
    assert initializers.fans(()) == (1, 1)


VARIANCES = {  # of (fan_in, fan_out)
    initializers.xavier_normal: lambda i, o: 2 / (i + o),
    initializers.xavier_uniform: lambda i, o: 2 / (i + o),
    initializers.he_normal: lambda i, o: 2 / i,
    initializers.he_uniform: lambda i, o: 2 / i,
    initializers.lecun_normal: lambda i, o: 1 / i,
    initializers.lecun_uniform: lambda i, o: 1 / i,
    initializers.standard_normal: lambda i, o: 1,
    initializers.small_normal: lambda i, o: 0.02**2,
}
TORCH = {  # the same bound or deviation, from PyTorch's own functions
    initializers.xavier_uniform: torch.nn.init.xavier_uniform_,
    initializers.xavier_normal: torch.nn.init.xavier_normal_,
    initializers.he_uniform: lambda w: torch.nn.init.kaiming_uniform_(
        w, nonlinearity="relu"
    ),
    initializers.he_normal: lambda w: torch.nn.init.kaiming_normal_(
        w, nonlinearity="relu"
    ),
}
name = lambda f: getattr(f, "__name__", None)  # noqa: E731


@pytest.mark.parametrize("shape", [DENSE, CONV], ids=str)
@pytest.mark.parametrize("init", VARIANCES, ids=name)
def test_draws_have_the_variance_and_shape_of_their_formula(init, shape):
    draws = init(sl.Rng(0), shape, "float64")
    scaled = draws.ravel() / math.sqrt(VARIANCES[init](*fans_of_torch(shape)))
    uniform = stats.uniform(-math.sqrt(3), 2 * math.sqrt(3))
    distribution = uniform if "uniform" in init.__name__ else stats.norm
    assert stats.kstest(scaled, distribution.cdf).pvalue > 1e-3
    assert abs(scaled.var() - 1) < 5 * math.sqrt(2 / scaled.size)
    if distribution is uniform:
        assert np.abs(scaled).max() <= math.sqrt(3)


@pytest.mark.parametrize("init", TORCH, ids=name)
def test_spread_is_pytorchs(init):
    ours = init(sl.Rng(0), CONV, "float32")
    torch.manual_seed(0)
    theirs = TORCH[init](torch.empty(24, 16, 3, 5)).numpy()
    assert abs(ours.std() / theirs.std() - 1) < 5 / math.sqrt(ours.size)


def test_every_initializer_is_tested():
    others = {initializers.zeros, initializers.ones, initializers.orthogonal}
    assert {*VARIANCES, *others} == set(INITIALIZERS.values())


def test_zeros_and_ones_are_constant():
    assert np.all(initializers.zeros(sl.Rng(0), (2, 3)) == 0)
    assert np.all(initializers.ones(sl.Rng(0), (2, 3)) == 1)


@pytest.mark.parametrize("shape", [(6, 6), (8, 3), (3, 8), (3, 3, 4, 5), (1, 1, 2, 9)])
def test_orthogonal_has_orthonormal_rows_or_columns(shape):
    matrix = initializers.orthogonal(sl.Rng(0), shape, "float64")
    assert matrix.shape == shape
    matrix = matrix.reshape(-1, shape[-1])
    short = min(matrix.shape)
    product = matrix.T @ matrix if matrix.shape[1] == short else matrix @ matrix.T
    np.testing.assert_allclose(np.eye(short), product, atol=1e-12)


def test_orthogonal_matrices_are_drawn_uniformly():
    draws = np.array(
        [initializers.orthogonal(sl.Rng(i), (3, 3), "float64") for i in range(1000)]
    )
    assert stats.kstest(draws[:, 0, 0], stats.uniform(-1, 2).cdf).pvalue > 1e-3
    assert abs(np.sign(np.linalg.det(draws)).mean()) < 0.15


def test_orthogonal_needs_a_matrix():
    with pytest.raises(ShapeError, match=r"two axes or more, got shape \(3,\)"):
        initializers.orthogonal(sl.Rng(0), (3,))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("init", INITIALIZERS.values(), ids=name)
def test_values_have_shape_and_type_and_depend_on_the_rng_alone(init, dtype):
    first = init(sl.Rng(3), (4, 5), dtype)
    assert (first.shape, first.dtype) == ((4, 5), dtype)
    np.testing.assert_array_equal(first, init(sl.Rng(3), (4, 5), dtype))
    assert init(sl.Rng(3), (4, 5)).dtype == "float32"
    if init not in (initializers.zeros, initializers.ones):
        assert not np.array_equal(first, init(sl.Rng(4), (4, 5), dtype))


@pytest.mark.parametrize("init", INITIALIZERS.values(), ids=name)
def test_empty_weights_are_drawn_without_complaint(init):
    assert init(sl.Rng(0), (0, 3)).shape == (0, 3)


@pytest.mark.parametrize("init", INITIALIZERS.values(), ids=name)
def test_layers_take_any_initializer(init):
    for layer in (
        nn.Dense(3, 4, initializer=init),
        nn.Embedding(3, 4, initializer=init),
        nn.Conv2D(2, 4, 3, initializer=init),
    ):
        layer.init(sl.Rng(0))
        expected = init(sl.Rng(0).split("weight"), layer.weight.shape, "float32")
        np.testing.assert_array_equal(expected, layer.weight.numpy())


def test_values_do_not_depend_on_the_order_of_construction():
    class Two(nn.Layer):
        def __init__(self, names):
            for each in names:
                setattr(self, each, nn.Dense(3, 3))

        def forward(self, x):
            return x

    forth = Two(["a", "b"]).init(sl.Rng(0)).state()
    back = Two(["b", "a"]).init(sl.Rng(0)).state()
    assert forth.keys() == back.keys()
    for path in forth:
        np.testing.assert_array_equal(forth[path], back[path])
    assert not np.array_equal(forth["a.weight"], forth["b.weight"])
