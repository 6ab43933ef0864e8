"""Calls know their layer and the user's line, on both ways."""

import gc
import inspect
import weakref

import numpy as np

import sillar as sl
from sillar import nn
from sillar.watch import Listener
from sillar.watch.where import Places, named_layers


class Ears(Listener):
    """Writes down what was called where."""

    def __init__(self, model=None):
        self.places = Places(model)
        self.heard = []

    def after(self, primitive, args, arrays, static, out):
        self.heard.append((primitive.name, self.places.here(out)))

    def layers(self, name, *, backward):
        return [w.layer for n, w in self.heard if n == name and w.backward is backward]


class Block(nn.Layer):
    def __init__(self):
        self.inner = {"first": nn.Dense(3, 3), "last": nn.Dense(3, 3)}

    def forward(self, x):
        y = sl.exp(self.inner["first"](x))
        return self.inner["last"](y) * 2.0


class Squares(nn.Layer):
    """Brings its own gradient."""

    def forward(self, x):
        return x * x

    def backward(self, g, x):
        return (sl.tanh(g) + x,)


def model():
    layers = (nn.Dense(2, 3), Block(), nn.ReLU(), nn.Dense(3, 2))
    return nn.Sequential(*layers).init(sl.Rng(0))


def step(model, loss):
    y = model(np.ones((4, 2), np.float32))
    value = loss(y, np.array([0, 1, 0, 1]))
    return sl.grad(value, model.parameters())


def line_of(function, text):
    lines, start = inspect.getsourcelines(function)
    return start + next(i for i, line in enumerate(lines) if text in line)


def test_layers_are_named_by_their_path():
    m = model()
    for ears in (Ears(m), Ears()):
        with ears:
            step(m, sl.CrossEntropy())
        expected = ["layers.0", "layers.1.inner.first", "layers.1.inner.last"]
        expected += ["layers.3"]
        assert expected == ears.layers("matmul", backward=False)
        assert ears.layers("exp", backward=False)[0] == "layers.1"
        assert ears.layers("relu", backward=False) == ["layers.2"]


def test_the_way_back_has_the_layers_of_the_way_there():
    m = model()
    with Ears() as ears:
        step(m, sl.CrossEntropy())
    back = ears.layers("matmul", backward=True)
    expected = ["layers.3"] * 2 + ["layers.1.inner.last"] * 2
    expected += ["layers.1.inner.first"] * 2 + ["layers.0"]
    assert expected == back
    sums = ears.layers("sum", backward=True)  # of biases, which the engine does
    assert sums[-1] == "layers.0"


def test_losses_stand_for_layers():
    with Ears() as ears:
        step(model(), sl.CrossEntropy())
    assert {w.layer for n, w in ears.heard if "entropy" in n or n == "divide"} == {
        "CrossEntropy"
    }


def test_the_line_is_the_nearest_of_the_users_and_the_same_on_the_way_back():
    with Ears() as ears:
        step(model(), sl.CrossEntropy())
    where = {w.layer: w for n, w in ears.heard if n in ("exp", "matmul")}
    assert where["layers.0"].place.startswith("test_where.py:")
    assert where["layers.0"].line == line_of(step, "model(np")
    assert where["layers.1"].line == line_of(Block.forward, "sl.exp")
    assert where["layers.0"].function == "step"
    assert where["layers.1.inner.last"].line == line_of(Block.forward, '"last"')


def test_a_gradient_of_the_users_own_is_on_the_way_back():
    x = sl.Tensor(np.ones(3), requires_grad=True)
    layer = nn.Sequential(Squares())
    with Ears() as ears:
        sl.grad(layer(x).sum(), x)
    assert ears.layers("multiply", backward=False) == ["layers.0"]
    assert ears.layers("tanh", backward=True) == ["layers.0"]
    place = next(w for n, w in ears.heard if n == "tanh")
    assert place.line == line_of(Squares.backward, "tanh")


def test_calls_outside_of_layers_have_a_line_only():
    x = sl.Tensor(np.ones(3), requires_grad=True)
    with Ears() as ears:
        y = sl.exp(x).sum()
    sl.grad(y, x)
    where = ears.heard[0][1]
    assert (where.layer, where.kind, where.backward) == ("", "", False)
    assert ears.places.of(y) is ears.heard[1][1]
    assert str(where).startswith("test_where.py:")
    with Ears() as deaf:  # did not hear the way there
        sl.grad(y, x)
    assert {w.backward for n, w in deaf.heard} == {True}
    assert {w.layer for n, w in deaf.heard} == {""}


def test_second_order_stays_on_the_way_back():
    x = sl.Tensor(np.ones(2), requires_grad=True)
    with Ears() as ears:
        first = sl.grad(nn.Sequential(nn.Tanh())(x).sum(), x, create_graph=True)
        sl.grad(first.sum(), x)
    assert {w.layer for n, w in ears.heard if n == "multiply"} == {"layers.0"}


def test_text_of_a_place():
    m = model()
    with Ears(m) as ears:
        step(m, sl.CrossEntropy())
    line = line_of(step, "model(np")
    expected = f"layers.0 (Dense), test_where.py:{line} in step"
    assert expected == str(ears.heard[0][1])
    assert f"{expected}, on the way back" in {str(w) for n, w in ears.heard}


def test_every_layer_has_a_name():
    m = model()
    names = [name for name, layer in named_layers(m)]
    expected = ["", "layers.0", "layers.1", "layers.1.inner.first"]
    assert expected == names[:4]
    assert len(names) == 7


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr("sillar.watch.where._MOST_NODES", 5)
    x = sl.Tensor(np.ones(2), requires_grad=True)
    with Ears() as ears:
        for _ in range(20):
            x = sl.exp(x * 0.0)
    assert len(ears.places._nodes) == 5
    assert ears.places.of(x) is not None


def test_equal_places_are_one_object():
    m, x = model(), np.ones((4, 2), np.float32)
    with Ears() as ears:
        for _ in range(3):  # a new loss each time
            value = sl.CrossEntropy()(m(x), np.array([0, 1, 0, 1]))
            value * 2.0 * 3.0
    losses = {w for n, w in ears.heard if w.layer == "CrossEntropy"}
    assert len(losses) == 1
    assert len({w for n, w in ears.heard if n == "multiply" and not w.layer}) == 1


def test_layers_are_not_kept_alive():
    layer = nn.Dense(2, 2).init(sl.Rng(0))
    gone = weakref.ref(layer)
    with Ears() as ears:
        layer(np.ones((1, 2)))
        del layer
        gc.collect()
        assert gone() is None
        nn.Sequential(nn.ReLU())(np.ones((1, 2)))
    assert [w.layer for n, w in ears.heard] == ["Dense", "Dense", "layers.0"]
