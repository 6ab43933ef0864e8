"""Tensors, gradients and layers whose arrays are not NumPy's."""

import numpy as np
import pytest

import sillar as sl
from sillar import nn
from sillar.backends import load
from sillar.core.grad import grad
from sillar.core.tape import place
from sillar.errors import BackendError, ConfigError, ShapeError

torch = pytest.importorskip("torch")
TORCH = load("torch")


def variable(*shape, dtype="float32"):
    x = TORCH.from_numpy(sl.Rng(0).normal(shape, dtype))
    return sl.Tensor(x, requires_grad=True)


def test_a_tensor_takes_the_array_as_it_is():
    x = torch.ones(2, 3)
    t = sl.Tensor(x)
    assert t.data is x
    assert (t.shape, t.size, t.ndim, t.dtype) == ((2, 3), 6, 2, np.dtype("float32"))
    assert sl.Tensor(x, dtype="float64").data.dtype is torch.float64
    assert t.sum().item() == 6.0
    assert repr(sl.Tensor(torch.ones(2))) == "Tensor([1., 1.], dtype=float32)"


def test_arithmetic_stays_in_its_type_and_place():
    x = variable(3)
    for y in (x * 2.0, 1 - x, x / 3, x**2, sl.exp(x), x.mean(), x[::-1], x[None]):
        assert type(y.data) is torch.Tensor
        assert y.dtype == "float32"
    g = grad((x * x).sum(), x)
    assert type(g.data) is torch.Tensor
    np.testing.assert_allclose(2 * x.numpy(), g.numpy(), rtol=1e-6)


def test_numpys_arrays_come_to_the_others():
    x, a = variable(3), sl.Tensor(np.arange(3.0, dtype="float32"), requires_grad=True)
    for y in (x * a, a * x, sl.where(np.array([True, False, True]), x, 0.0)):
        assert type(y.data) is torch.Tensor
    dx, da = grad((a * x).sum(), [x, a])
    assert type(dx.data) is torch.Tensor
    assert type(da.data) is np.ndarray
    np.testing.assert_array_equal(x.numpy(), da.numpy())
    np.testing.assert_array_equal(x.numpy()[[2, 0]], x[np.array([2, 0])].numpy())


def test_dropout_draws_the_same_masks_compiled_or_not():
    layer, x = nn.Dropout(0.5), variable(20, 5)
    step = sl.compile(lambda x, rng: layer(x, rng=rng))
    for seed in (0, 1, 0):
        rng = sl.Rng(seed)
        expected = layer(x.numpy(), rng=rng)
        eager, compiled = layer(x, rng=rng), step(x, rng)
        assert type(compiled.data) is torch.Tensor
        np.testing.assert_array_equal(expected.numpy(), eager.numpy())
        np.testing.assert_array_equal(expected.numpy(), compiled.numpy())


def test_compiled_arguments_of_numpy_change_from_call_to_call():
    x = variable(3)
    step = sl.compile(lambda a: (x * a).sum())
    for a in (np.ones(3, "float32"), np.arange(3, dtype="float32")):
        assert step(a).item() == pytest.approx((x.numpy() * a).sum(), rel=1e-6)


def test_mistakes_are_explained():
    with pytest.raises(ShapeError, match=r"add: cannot take \(torch.float32 \(2,\)"):
        sl.Tensor(torch.ones(2)) + torch.ones(3)
    with pytest.raises(ConfigError, match="expected one of numpy, torch, jax, got"):
        load("cupy")
    with pytest.raises(BackendError, match="expected the device 'cpu', got 'cuda'"):
        load("numpy").from_numpy(np.ones(1), "cuda")
    labels = sl.Tensor(torch.tensor([0, 3]))
    with pytest.raises(sl.errors.DataError, match=r"labels must be in \[0, 3\), got 3"):
        nn.CrossEntropy().compute(sl.Tensor(torch.ones(2, 3)), labels)


def test_place_is_differentiable_twice():
    x = sl.Tensor(np.array([1.0, 2.0]), requires_grad=True)
    y = place(x, backend="torch")
    g = grad((y * y * y).sum(), x, create_graph=True)
    assert type(g.data) is np.ndarray
    h = grad(g.sum(), x)
    np.testing.assert_array_equal([6.0, 12.0], h.numpy())
