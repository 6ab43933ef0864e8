"""The kernels of cross-entropy against the namespace's form and PyTorch's."""

import numpy as np
import pytest
import torch

import sillar as sl
from sillar.backends import Backend, backend_of
from sillar.backends.numpy import softmax

NUMPY = backend_of(np.zeros(1))
rng = np.random.default_rng(0)
SHAPES = [
    *((5, 3), (1, 3), (5, 1), (1, 1), (0, 3), (7, softmax.WIDE), (0, 60)),
    *((2, 3, 4), (2, 0, 4), (40000, 2), (600, 60), (3, 2 * softmax.BLOCK)),
]
HARD = {
    "large": [[1e4, 0.0, -1e4], [1e4, 1e4, 1e4], [-1e4, 0.0, 1e4]],
    "equal": [[2.0, 2.0, 2.0], [0.0, 0.0, 0.0], [-3.0, -3.0, -3.0]],
    "impossible classes": [[-np.inf, 0.0, 1.0], [-np.inf, -np.inf, 3.0], [0, 1, 2.0]],
    "sure": [[30.0, 0.0, 0.0], [0.0, 50.0, 0.0], [0.0, 0.0, 100.0]],
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_are_the_composed_form(shape, dtype):
    x = (rng.normal(size=shape) * 3).astype(dtype)
    labels = rng.integers(0, shape[-1], shape[:-1])
    tolerance = {"rtol": 1e-12, "atol": 1e-13}
    if dtype == "float32":
        tolerance = {"rtol": 2e-5, "atol": 2e-6}
    got = softmax.cross_entropy(x, labels)
    expected = Backend.cross_entropy(NUMPY, x, labels)
    np.testing.assert_allclose(got, expected, strict=True, **tolerance)
    for g in (0.5, rng.normal(size=shape[:-1]).astype(dtype)):
        got = softmax.cross_entropy_input(g, x, labels)
        expected = Backend.cross_entropy_input(NUMPY, g, x, labels)
        np.testing.assert_allclose(got, expected, strict=True, **tolerance)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("values", HARD.values(), ids=HARD)
@pytest.mark.parametrize("repeats", [1, 20])  # few classes, many
def test_hard_values_are_pytorchs(values, repeats, order):
    x = np.asarray(np.repeat(np.array(values, "float32"), repeats, axis=1), order=order)
    labels = np.array([0, 1, 2]) * repeats
    if np.isneginf(values).any():
        labels = np.array([1, 2, 2]) * repeats
    theirs = torch.tensor(x, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(
        theirs, torch.tensor(labels), reduction="none"
    )
    expected.sum().backward()
    got = softmax.cross_entropy(x, labels)
    assert (got >= 0).all()
    np.testing.assert_allclose(got, expected.detach(), rtol=1e-6, atol=1e-7)
    slopes = softmax.cross_entropy_input(1.0, x, labels)
    np.testing.assert_allclose(slopes, theirs.grad, rtol=1e-6, atol=1e-7)


def test_a_class_that_cannot_be_costs_infinitely_much():
    x = np.array([[-np.inf, 0.0, 1.0]], "float32")
    assert softmax.cross_entropy(x, np.array([0])) == np.inf
    slope = softmax.cross_entropy_input(1.0, x, np.array([0]))[0]
    np.testing.assert_allclose(slope, [-1, 0.26894143, 0.7310586], rtol=1e-6)


@pytest.mark.parametrize(
    "same",
    [
        {"weights": [1.0, 1.0, 1.0]},
        {"ignore_index": -1},
        {"label_smoothing": 1e-300},
    ],
    ids=lambda same: next(iter(same)),
)
def test_the_loss_is_that_of_its_composed_form_to_second_order(same):
    values, labels = rng.normal(size=(5, 3)), np.array([0, 2, 1, 1, 0])
    u, v = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    results = []
    for loss in (sl.CrossEntropy(), sl.CrossEntropy(**same)):
        x = sl.Tensor(values, requires_grad=True)
        y = loss(sl.sin(x), labels)
        first = sl.grad(y, x, create_graph=True)
        second = sl.grad((first * u).sum(), x, create_graph=True)
        third = sl.grad((second * v).sum(), x)
        results.append([t.numpy() for t in (y, first, second, third)])
    for got, expected in zip(*results, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-13)
