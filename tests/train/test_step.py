"""The step of `fit`: compiled where it can be, the same bits either way."""

import numpy as np
import pytest

import sillar as sl
from sillar import nn
from sillar.errors import GradientError


def points(n=40):
    x = np.random.default_rng(0).normal(size=(n, 4)).astype("float32")
    return sl.data.Dataset(x, (x[:, 0] > 0).astype("int64"), ("no", "yes"))


def trained(model, **options):
    data = points()
    options = {"epochs": 3, "batch_size": 16, "callbacks": []} | options
    return sl.fit(model, sl.CrossEntropy(), sl.Adam(0.01), data, **options)


def network():
    return nn.Sequential(
        *(nn.Dense(4, 8), nn.BatchNorm(8), nn.ReLU(), nn.Dropout(0.3), nn.Dense(8, 2))
    )


class Wave(nn.Layer):
    def forward(self, x):
        return sl.sin(x)


class Peek(nn.Layer):
    """Moves a buffer, then reads a value in Python."""

    def __init__(self):
        self.seen = nn.Buffer((1,), nn.initializers.zeros)

    def forward(self, x):
        self.seen.assign(self.seen + 1.0)
        return x * 2.0 if x.sum().item() > 0 else x


def test_compiled_and_plain_training_give_the_same_bits():
    compiled, plain = network(), network()
    assert trained(compiled).gradients.eager_because == ""
    trained(plain, compiled=False)
    expected = plain.state()
    for path, array in compiled.state().items():
        assert np.array_equal(expected[path], array), path


def test_a_layer_of_your_own_is_compiled_when_asked(capsys):
    own = nn.Sequential(nn.Dense(4, 2), Wave())
    run = trained(own, callbacks=[sl.Progress()])
    assert "Wave is not Sillar's own: pass compiled=True" in run.gradients.eager_because
    assert capsys.readouterr().err.count("not compiled: Wave is not Sillar's own") == 1
    asked = nn.Sequential(nn.Dense(4, 2), Wave())
    assert trained(asked, compiled=True).gradients.eager_because == ""
    assert np.array_equal(own.state()["layers.0.weight"], asked[0].weight.data)


def test_what_cannot_be_compiled_is_run_as_it_stands():
    model = nn.Sequential(nn.Dense(4, 2), Peek())
    run = trained(model, compiled=True)
    assert "item() reads a tensor's values in Python" in run.gradients.eager_because
    assert model[1].seen.numpy() == [run.step]  # not once more for the attempt


def test_a_loss_that_left_the_graph_is_an_error():
    class Leaves(nn.Layer):
        def forward(self, x):
            return sl.Tensor(np.tanh(x.numpy()))

    with pytest.raises(GradientError, match="does not depend on any of"):
        trained(nn.Sequential(nn.Dense(4, 2), Leaves()))
