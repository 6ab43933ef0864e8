"""`diagnose`: sizes are those of a plain loop, and each fault that was put in shows."""

import math

import numpy as np
import pytest

import sillar as sl
from sillar import nn
from sillar.watch import diagnose

RNG = sl.Rng(0)
X = RNG.split("x").normal((64, 32))
Y = RNG.split("y").integers(0, 10, (64,))


def scaled(factor):
    """Return He's initialisation times a factor."""

    def initializer(rng, shape, dtype="float32"):
        return nn.initializers.he_normal(rng, shape, dtype) * np.float32(factor)

    return initializer


def tower(depth=50, factor=1.0, act=nn.ReLU, width=32, seed=0):
    layers = []
    for _ in range(depth):
        layers += [nn.Dense(width, width, initializer=scaled(factor)), act()]
    return nn.Sequential(*layers, nn.Dense(width, 10)).init(sl.Rng(seed))


def problems(diagnosis):
    return {finding.problem: finding.layer for finding in diagnosis.findings}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("width", [32, 128])
def test_fifty_layers_with_he_pass(seed, width):
    x = sl.Rng(seed).split("x").normal((64, width))
    diagnosis = diagnose(tower(width=width, seed=seed), (x, Y))
    assert diagnosis.ok, str(diagnosis)
    assert len(diagnosis.rows) == 101


def test_fifty_layers_that_begin_too_small_vanish():
    diagnosis = diagnose(tower(factor=0.5), (X, Y))
    assert not diagnosis.ok
    found = problems(diagnosis)
    assert {*found} == {"vanishing", "vanishing gradient"}
    # A factor of 1/2 for each Dense: 1/1000 after ten of them, and so on the way back.
    assert 16 <= int(found["vanishing"].split(".")[1]) <= 24
    assert 74 <= int(found["vanishing gradient"].split(".")[1]) <= 84
    assert "he_normal" in str(diagnosis)


def test_fifty_layers_that_begin_too_large_explode():
    diagnosis = diagnose(tower(factor=2.0), (X, Y))
    found = problems(diagnosis)
    assert {*found} == {"exploding", "exploding gradient"}
    assert 16 <= int(found["exploding"].split(".")[1]) <= 24


def test_a_single_small_layer_is_named():
    model = tower(10)
    model.layers[6].weight.data[...] *= np.float32(1e-6)
    assert problems(diagnose(model, (X, Y))) == {
        "vanishing": "layers.6",
        "vanishing gradient": "layers.5",
    }


def test_a_small_layer_that_a_normalisation_makes_good_is_fine():
    layers = [nn.Dense(32, 32, initializer=scaled(0.02)), nn.LayerNorm(32)]
    model = nn.Sequential(*layers, nn.ReLU(), nn.Dense(32, 10)).init(RNG)
    diagnosis = diagnose(model, (X, Y))
    assert diagnosis.ok, str(diagnosis)


def test_dead_units_are_found():
    model = tower(4)
    model.layers[2].bias.data[...] = -100
    assert problems(diagnose(model, (X, Y)))["dead"] == "layers.3"


@pytest.mark.parametrize("act", [nn.Tanh, nn.Sigmoid])
def test_saturated_units_are_found(act):
    assert problems(diagnose(tower(3, 10.0, act), (X, Y)))["saturated"] == "layers.1"
    assert "saturated" not in problems(diagnose(tower(3, 0.5, act), (X, Y)))


def test_equal_outputs_are_found():
    model = tower(4)
    model.layers[4].weight.data[...] = 0
    model.layers[4].bias.data[...] = np.linspace(1, 2, 32)
    assert problems(diagnose(model, (X, Y)))["equal examples"] == "layers.4"


def test_equal_units_are_found():
    model = tower(2)
    model.layers[0].weight.data[...] = 0.1
    assert problems(diagnose(model, (X, Y)))["equal units"] == "layers.0"


class Wrong(nn.Layer):
    """The identity with a gradient that is wrong by a factor."""

    def __init__(self, factor):
        self.factor = factor

    def forward(self, x):
        return x * 1.0

    def backward(self, g, x):
        return (g * self.factor,)


@pytest.mark.parametrize(("factor", "word"), [(1e-5, "vanishing"), (1e5, "exploding")])
def test_a_wrong_rule_shows(factor, word):
    model = nn.Sequential(nn.Dense(32, 16), nn.ReLU(), Wrong(factor), nn.Dense(16, 10))
    diagnosis = diagnose(model.init(RNG), (X, Y))
    assert problems(diagnosis) == {f"{word} gradient": "layers.1"}


def test_what_is_not_finite_is_named():
    model = tower(5)
    model.layers[4].weight.data[3, 3] = np.nan
    diagnosis = diagnose(model, (X, Y))
    assert problems(diagnosis) == {"not finite": "layers.4"}
    assert "find_nonfinite" in str(diagnosis)
    assert problems(diagnose(tower(120, 5.0), (X, Y)))["not finite"]


class Steep(nn.Layer):
    """A square root, whose slope at 0 is infinite."""

    def forward(self, x):
        return sl.sqrt(x - x)


def test_a_gradient_that_is_not_finite_is_named():
    model = nn.Sequential(nn.Dense(32, 8), Steep(), nn.Dense(8, 10)).init(RNG)
    assert problems(diagnose(model, (X, Y)))["not finite"] == "layers.0"


def rms(array):
    return math.sqrt(np.mean(np.asarray(array, "float64") ** 2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_sizes_are_those_of_a_plain_computation(dtype):
    model = nn.Sequential(nn.Dense(32, 8), nn.Tanh(), nn.Dense(8, 10)).init(RNG, dtype)
    x = X.astype(dtype)
    diagnosis = diagnose(model, (x, Y))
    w, b, v, c = (p.data for p in model.parameters().values())
    z = x @ w + b
    h = np.tanh(z)
    logits = h @ v + c
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    g = (p - np.eye(10)[Y]) / 64
    gh = g @ v.T
    expected = [(z, gh * (1 - h * h)), (h, gh), (logits, g)]
    for row, (output, gradient) in zip(diagnosis.rows, expected, strict=True):
        assert row.output == pytest.approx(rms(output), rel=1e-5)
        assert row.gradient == pytest.approx(rms(gradient), rel=1e-4)
    assert diagnosis.loss == pytest.approx(
        -np.log(p[np.arange(64), Y]).mean(), rel=1e-5
    )


def test_the_model_stays_as_it_was_to_the_bit():
    model = nn.Sequential(
        nn.Dense(32, 16), nn.BatchNorm(16), nn.ReLU(), nn.Dropout(0.5), nn.Dense(16, 10)
    ).init(RNG)
    sl.fit(model, sl.CrossEntropy(), sl.SGD(0.1), sl.data.Dataset(X, Y), epochs=1)
    before = {k: v.tobytes() for k, v in model.state().items()}
    held = {k: id(b.data) for k, b in model.buffers().items()}
    vector = model.parameters().vector.tobytes()
    diagnose(model, (X, Y))
    with pytest.raises(sl.errors.ShapeError):
        diagnose(model, (X, Y[:3]))  # fails after the statistics were moved
    assert {k: v.tobytes() for k, v in model.state().items()} == before
    assert {k: id(b.data) for k, b in model.buffers().items()} == held
    assert model.parameters().vector.tobytes() == vector
    assert all(p.grad is None for p in model.parameters().values())


def test_losses_and_batches_of_every_kind():
    model = nn.Sequential(nn.Dense(32, 8), nn.ReLU(), nn.Dense(8, 1)).init(RNG)
    values = X[:, 0]
    expected = np.mean((model(X).numpy()[:, 0] - values) ** 2)
    assert diagnose(model, (X, values)).loss == pytest.approx(expected, rel=1e-5)
    huber = diagnose(model, (X, values), nn.Huber())
    assert huber.loss != pytest.approx(expected, rel=1e-2)
    assert diagnose(model, X).ok
    assert diagnose(model, sl.Tensor(X)).rows[0].shape == (64, 8)
    assert diagnose(model, (X[:1], values[:1])).ok
    with pytest.raises(sl.errors.ConfigError, match=r"x or \(x, y\), got 3 parts"):
        diagnose(model, (X, Y, Y))
    with pytest.raises(sl.errors.ConfigError, match=r"model\.init"):
        diagnose(nn.Dense(32, 8), X)


def test_nets_of_every_kind_pass():
    images = RNG.split("images").normal((16, 8, 8, 1))
    convnet = nn.Sequential(
        *(nn.Conv2D(1, 16, kernel=3), nn.BatchNorm(16), nn.ReLU(), nn.MaxPool2D(2)),
        *(nn.Flatten(), nn.Dropout(0.2), nn.Dense(144, 10)),
    )
    blocks = [nn.TransformerBlock(32, 4, causal=True) for _ in range(6)]
    language = nn.Sequential(nn.Embedding(40, 32), *blocks, nn.Dense(32, 40))
    recurrent = nn.Sequential(nn.Embedding(40, 16), nn.GRU(16, 32), nn.Dense(32, 40))
    tokens = RNG.split("tokens").integers(0, 40, (8, 12))
    for model, batch in (
        (convnet, (images, Y[:16])),
        (language, (tokens, tokens)),
        (recurrent, (tokens, tokens)),
    ):
        diagnosis = diagnose(model.init(RNG), batch)
        assert diagnosis.ok, str(diagnosis)


def test_it_prints_a_table_of_80_columns():
    text = str(diagnose(tower(factor=0.5), (X, Y)))
    assert max(map(len, text.splitlines())) <= 80
    lines = text.splitlines()
    assert lines[0].split() == ["layer", "kind", "output", "rms", "gradient", "rms"]
    assert any(line.startswith("layers.0 ") for line in lines)
    assert "…" in lines
    assert [line for line in lines if line.endswith("!")]
    assert "Nothing is wrong in 5 layers" in str(diagnose(tower(2), (X, Y)))
