"""Layers of your own: without registration, and with a gradient of their own."""

import numpy as np
import pytest

import sillar as sl
from sillar import nn
from sillar.errors import GradientError, ShapeError
from sillar.testing import check_layer
from sillar.testing.cases.layers import normal


class Gated(nn.Layer):
    """A layer as a user writes it."""

    def __init__(self, n_in, n_out):
        self.value = nn.Dense(n_in, n_out)
        self.gates = {"sigmoid": nn.Sequential(nn.Dense(n_in, n_out), nn.Sigmoid())}
        self.scale = nn.Parameter((n_out,), nn.initializers.ones)

    def forward(self, x):
        return self.value(x) * self.gates["sigmoid"](x) * self.scale


def blobs(n=60):
    centres = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 3.0]])
    y = np.arange(n) % 3
    return (centres[y] + normal(n, 2) * 0.5).astype("float32"), y


def test_a_users_layer_keeps_the_promises_of_a_layer():
    check_layer(Gated(2, 3), normal(4, 2))


def test_a_users_layer_trains_saves_and_loads(tmp_path):
    x, y = blobs()
    data = sl.data.Dataset(x, y)
    model = nn.Sequential(Gated(2, 8), nn.Tanh(), nn.Dense(8, 3))
    run = sl.fit(model, sl.CrossEntropy(), sl.Adam(0.05), data, epochs=10, seed=0)
    assert sl.evaluate(model, data)["accuracy"] > 0.95
    assert run.epoch == 10

    path = tmp_path / "model.safetensors"
    sl.save(model, path)
    fresh = nn.Sequential(Gated(2, 8), nn.Tanh(), nn.Dense(8, 3))
    loaded = sl.load(path, model=fresh)
    np.testing.assert_array_equal(model(x).numpy(), loaded(x).numpy())


class Cube(nn.Layer):
    """scale * x^3 with a gradient of its own."""

    def __init__(self):
        self.scale = nn.Parameter((), nn.initializers.ones)

    def forward(self, x):
        return x * x * x * self.scale

    def backward(self, g, x):
        return g * x * x * self.scale * 3.0, (g * x * x * x).sum()


class RawCube(Cube):
    """The same on raw arrays: right at first order, with no second."""

    def backward(self, g, x):
        g, x, scale = g.numpy(), x.numpy(), self.scale.numpy()
        return 3 * g * x * x * scale, np.sum(g * x * x * x)


class ConvertedCube(Cube):
    def backward(self, g, x):
        x = x.numpy()
        return 3 * np.asarray(g) * x * x * self.scale.numpy(), np.sum(g.numpy() * x**3)


@pytest.mark.parametrize("kind", [Cube, RawCube, ConvertedCube])
def test_a_right_gradient_of_its_own_passes(kind):
    check_layer(kind(), normal(3, 4))


def own(backward):
    return type("Wrong", (Cube,), {"backward": backward})()


WRONG = {
    "sign": lambda self, g, x: (-g * x * x * self.scale * 3.0, (g * x * x * x).sum()),
    "factor": lambda self, g, x: (g * x * x * self.scale, (g * x * x * x).sum()),
    "parameter": lambda self, g, x: (g * x * x * self.scale * 3.0, g.sum()),
    "second order": lambda self, g, x: (
        g * x.detach() * x * self.scale * 3.0,
        (g * x * x * x).sum(),
    ),
    "type": lambda self, g, x: (
        (g * x * x * self.scale * 3.0).astype("float32"),
        (g * x * x * x).sum(),
    ),
    "shape": lambda self, g, x: (
        (g * x * x * self.scale * 3.0)[:1],
        (g * x * x * x).sum(),
    ),
    "too few": lambda self, g, x: (g * x * x * self.scale * 3.0,),
    "too many": lambda self, g, x: (g, g.sum(), g),
    "none": lambda self, g, x: (None, (g * x * x * x).sum()),
}


@pytest.mark.parametrize("backward", WRONG.values(), ids=WRONG)
def test_a_wrong_gradient_of_its_own_is_caught(backward):
    with pytest.raises((GradientError, ShapeError), match="Wrong"):
        check_layer(own(backward), normal(3, 4))


def test_its_own_gradient_is_the_one_that_is_used():
    layer = own(lambda self, g, x: (g * 0.0 + 7.0, (g * x).sum())).init(sl.Rng(0))
    x = sl.Tensor([1.0, 2.0], requires_grad=True)
    g_x, g_scale = sl.grad(layer(x).sum(), [x, layer.scale])
    assert g_x.numpy().tolist() == [7, 7]
    assert g_scale.item() == 3


@pytest.mark.parametrize("kind", [Cube, RawCube, ConvertedCube])
def test_its_gradients_are_tensors_of_the_inputs_type(kind):
    layer = kind().init(sl.Rng(0))
    x = sl.Tensor(normal(3).astype("float32"), requires_grad=True)
    for g in sl.grad(layer(x).sum(), [x, layer.scale]):
        assert type(g) is sl.Tensor
        assert g.dtype == "float32"


def test_it_is_differentiated_to_every_order():
    layer = Cube().init(sl.Rng(0), "float64")
    x = np.array([0.5, 2.0])
    np.testing.assert_allclose(
        np.diag(6 * x), sl.hessian(lambda x: layer(x).sum(), x).numpy()
    )
    third = sl.jacobian(
        lambda x: sl.hessian(lambda z: layer(z).sum(), x).sum(axis=0), x
    )
    np.testing.assert_allclose(np.diag([6.0, 6.0]), third.numpy())


def test_it_works_inside_a_model_in_training_without_leaks():
    model = nn.Sequential(nn.Dense(2, 3), Cube(), nn.Dropout(0.2)).init(sl.Rng(0))
    loss = model(normal(4, 2).astype("float32"), rng=sl.Rng(1)).sum()
    gradients = sl.grad(loss, model.parameters())
    assert {path: g.shape for path, g in gradients.items()} == {
        "layers.0.weight": (2, 3),
        "layers.0.bias": (3,),
        "layers.1.scale": (),
    }


def test_indices_need_no_gradient_of_their_own():
    class Pick(nn.Layer):
        def __init__(self):
            self.table = nn.Parameter((4, 2), nn.initializers.standard_normal)

        def forward(self, i):
            return self.table[i]

        def backward(self, g, i):
            table = np.zeros(self.table.shape, g.dtype)
            np.add.at(table, i.numpy(), g.numpy())
            return None, table

    check_layer(Pick(), np.array([1, 1, 3]))
