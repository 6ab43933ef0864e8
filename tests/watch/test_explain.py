"""`explain_step`: each operation on the way, with formulas that are true."""

import math
import time
from itertools import pairwise

import numpy as np
import pytest
from scipy.special import erf

import sillar as sl
from sillar import nn
from sillar.core import tape
from sillar.watch import explain_step, formulas, repeat

OURS = [p for p in tape.all_primitives() if p.forward.__module__.startswith("sillar.")]
RNG = sl.Rng(0)
X = RNG.split("x").normal((5, 6))
Y = np.arange(5) % 3


@pytest.mark.parametrize("primitive", OURS, ids=lambda p: p.name)
def test_every_primitive_has_a_formula(primitive):
    formula = formulas.FORMULAS[primitive.name]
    assert formulas.formula_of(primitive) is formula
    code = primitive.forward.__code__
    named = code.co_varnames[1 : code.co_argcount]
    if primitive.differentiable:
        assert len(formula.gradients) >= max(1, len(primitive.rules))
    else:
        assert formula.gradients == ()
    assert len(formula.arguments) >= len(named)


def test_no_formula_is_left_of_a_primitive_that_is_gone():
    assert {p.name for p in OURS} == set(formulas.FORMULAS)


NAMES = "exp log sqrt sin cos tanh sign maximum minimum where pi sum"
WORDS = {name: getattr(np, name) for name in NAMES.split()}
WORDS |= {"erf": erf, "abs": np.abs}
READABLE = [*formulas.ELEMENTWISE, "matmul"]


@pytest.mark.parametrize("name", READABLE)
def test_formulas_say_what_is_computed(name):
    primitive = next(p for p in OURS if p.name == name)
    formula = formulas.FORMULAS[name]
    shape = (3, 3)
    scope = dict(WORDS)
    for k, argument in enumerate(formula.arguments):
        scope[argument] = np.abs(RNG.split(name, k).normal(shape, "float64")) + 0.1
    if "condition" in scope:
        scope["condition"] = scope["a"] > scope["b"]
    args = [scope[a] for a in formula.arguments]
    tensors = [sl.Tensor(a, requires_grad=a.dtype != bool) for a in args]
    y = primitive(*tensors)
    np.testing.assert_allclose(y.numpy(), eval(formula.value, scope), rtol=1e-12)
    if not formula.gradients:
        return
    scope["y"], scope["g"] = y.numpy(), RNG.split("g").normal(shape, "float64")
    for t, text in zip(tensors, formula.gradients, strict=True):
        if t.requires_grad:
            found = sl.grad(y, t, cotangents=sl.Tensor(scope["g"])).numpy()
            np.testing.assert_allclose(found, eval(text, scope), rtol=1e-10)


def mlp():
    model = nn.Sequential(nn.Dense(6, 4), nn.Tanh(), nn.Dense(4, 3))
    return model.init(sl.Rng(0))


def loss_of(model, x=X):
    return lambda: sl.CrossEntropy()(model(x), Y)


def test_the_way_is_told_from_the_loss_to_the_weight():
    model = mlp()
    text = explain_step(loss_of(model), "layers.0.weight", model)
    order = ["cross_entropy", "layers.2 Dense(4, 3)", "tanh  (layers.1 Tanh)"]
    order += ["matmul  (layers.0 Dense(6, 4))", "d loss / d layers.0.weight: (6, 4)"]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    assert "y = a @ b:  a (5, 6), b (6, 4) -> (5, 4)" in text
    assert "db = a.T @ g, for the weight" in text
    assert "dx = g * (1 - y ** 2)" in text
    assert max(map(len, text.splitlines())) <= 80
    weight = model.parameters()["layers.0.weight"]
    assert text == explain_step(loss_of(model), weight, model)


def test_the_norms_are_those_of_the_gradients():
    model = mlp()
    w, b, v, c = (p.data.astype("float64") for p in model.parameters().values())
    h = np.tanh(X @ w + b)
    p = np.exp(h @ v + c)
    g = (p / p.sum(axis=1, keepdims=True) - np.eye(3)[Y]) / 5
    text = explain_step(loss_of(model), "layers.0.weight", model)
    norms = [float(r.split("= ")[1]) for r in text.splitlines() if "|g| =" in r]
    dh = g @ v.T
    dz = dh * (1 - h * h)
    expected = [np.linalg.norm(a) for a in (g, g, dh, dz, dz)]
    np.testing.assert_allclose(norms[-5:], expected, rtol=2e-3)
    last = float(text.rsplit("norm ", 1)[1])
    assert last == pytest.approx(np.linalg.norm(X.T @ dz), rel=1e-3)


def test_a_loss_computed_before_and_tensors_without_a_model():
    w = sl.Tensor([3.0, 4.0], requires_grad=True)
    text = explain_step((w * w).sum() * 0.5, w)
    assert "the gradient passes 3 of 3 operations" in " ".join(text.split())
    assert text.endswith("d loss / d the weight: (2,), norm 5")
    assert "da = g * b, for the weight\n     db = g * a, for the weight" in text


def test_ways_that_part_are_told_once_and_add_up():
    w = sl.Tensor([2.0], requires_grad=True)
    h = w * 3.0
    text = explain_step((sl.exp(h) + sl.sin(h)).sum(), w)
    assert text.count("multiply") == 1
    assert "g = the sum of what 3 and 4 give" in text
    expected = math.exp(6) + math.cos(6)
    assert f"|g| = {expected:.4g}" in text


def test_a_long_chain_tells_what_is_repeated_once():
    layers = [f() for _ in range(50) for f in (lambda: nn.Dense(6, 6), nn.ReLU)]
    model = nn.Sequential(*layers, nn.Dense(6, 3)).init(RNG)
    text = explain_step(loss_of(model), "layers.0.weight", model)
    assert "these 3 operations 48 times more, layers.97 to layers.2." in text
    assert len(text.splitlines()) < 80


def test_a_vanishing_chain_shows_in_the_norms():
    w = sl.Tensor(np.ones(2), requires_grad=True)

    def chain():
        y = w * 1.0
        for _ in range(60):
            y = sl.sin(y * 0.5)
        return y.sum()

    text = explain_step(chain, w)
    assert float(text.rsplit("norm ", 1)[1]) < 1e-15


def test_a_hundred_thousand_operations_do_not_recurse():
    w = y = sl.Tensor(np.ones(2, "float32"), requires_grad=True)
    for i in range(50_000):
        y = sl.sin(y) * 1.01
        if i % 997 == 0:
            y = sl.cos(y)
    start = time.perf_counter()
    text = explain_step(y.sum(), w)
    assert time.perf_counter() - start < 60  # some 5 s, were it not for other work
    assert len(text) < 100_000


@pytest.fixture
def cube(monkeypatch):
    """Return a user's primitive; its first rule is wrong by a factor of 3 / 2."""
    monkeypatch.setattr(tape, "_PRIMITIVES", list(tape.all_primitives()))

    @sl.primitive
    def cube(xp, x):
        """Return x^3, the volume."""
        return xp.multiply(xp.multiply(x, x), x)

    cube.defvjp(lambda g, y, x: g * x * x * 2.0)
    return cube


def test_a_users_primitive_is_told_by_its_docstring(cube):
    w = sl.Tensor([1.0, 2.0], requires_grad=True)
    text = explain_step(cube(w).sum(), w)
    assert "y = x^3, the volume:  x (2,) -> (2,)" in text
    assert "dx = its own rule, for the weight" in text


def test_a_wrong_rule_is_found(cube):
    w = sl.Tensor([1.0, 2.0], requires_grad=True)
    text = explain_step(lambda: cube(w * 2.0).sum(), w, check=True)
    assert text.count("!!") == 1
    assert text.index("cube") < text.index("!! wrong rule") < text.index("multiply")
    cube.defvjp(lambda g, y, x: g * x * x * 3.0)
    assert "!!" not in explain_step(lambda: cube(w * 2.0).sum(), w, check=True)


def test_a_wrong_rule_among_repeated_parts_is_told(cube):
    w = sl.Tensor([1.0], requires_grad=True)

    def chain():
        y = w * 1.0
        for i in range(40):
            y = cube(y) if i == 20 else y * y * y
        return y.sum()

    assert explain_step(chain, w, check=True).count("!!") == 1


@pytest.mark.parametrize("check", [False, True])
def test_right_rules_are_not_accused(check):
    block = nn.TransformerBlock(8, 2, causal=True)
    model = nn.Sequential(
        *(nn.Embedding(7, 8), block, nn.GRU(8, 8), nn.BatchNorm(8), nn.Dense(8, 7))
    ).init(RNG)
    tokens = RNG.integers(0, 7, (3, 5))

    def loss():
        return sl.CrossEntropy()(model(tokens, rng=sl.Rng(1)), tokens)

    text = explain_step(loss, "layers.0.weight", model, check=check)
    assert "!!" not in text
    images = nn.Sequential(
        *(nn.Conv2D(1, 4, kernel=3), nn.ReLU(), nn.MaxPool2D(2), nn.AvgPool2D(2)),
        *(nn.Flatten(), nn.Dense(4, 3)),
    ).init(RNG)
    x = RNG.normal((5, 8, 8, 1))
    text = explain_step(loss_of(images, x), "layers.0.weight", images, check=check)
    assert "!!" not in text
    assert "dw = x * g, correlated, for the weight" in text


class Doubled(nn.Layer):
    """The identity; its own backward is wrong by a factor of 1000."""

    def forward(self, x):
        return x * 1.0

    def backward(self, g, x):
        return (g * 1000.0,)


def test_a_layers_own_backward_is_told_and_its_jump_shows():
    model = nn.Sequential(nn.Dense(6, 4), Doubled(), nn.Dense(4, 3)).init(RNG)
    text = explain_step(loss_of(model), "layers.0.weight", model, check=True)
    assert "Doubled" in text
    assert "its own backward" in text
    assert "not checked" in text
    norms = [float(r.split("= ")[1]) for r in text.splitlines() if "|g| =" in r]
    assert max(b / a for a, b in pairwise(norms)) > 500


def test_mistakes_are_explained():
    model = mlp()
    other = nn.Dense(2, 2).init(RNG)
    with pytest.raises(sl.errors.ConfigError, match=r"no parameter 'w'.*layers\.0"):
        explain_step(loss_of(model), "w", model)
    with pytest.raises(sl.errors.ConfigError, match="give the model"):
        explain_step(loss_of(model), "layers.0.weight")
    with pytest.raises(sl.errors.GradientError, match="does not depend on"):
        explain_step(loss_of(model), other.weight, model)
    with pytest.raises(sl.errors.GradientError, match="not computed from any"):
        explain_step(sl.Tensor([1.0]), other.weight)
    with pytest.raises(sl.errors.GradientError, match="scalar"):
        explain_step(lambda: model(X), "layers.0.weight", model)


def test_runs_cover_a_sequence_once():
    for keys in ("", "a", "abc", "aaaa", "xabababy", "aabaabaab", "ababcabab"):
        found = list(repeat.runs(keys, 5))
        told = "".join(keys[r.start : r.start + r.period] * r.times for r in found)
        assert told == keys
    (run,) = repeat.runs("abab" * 5, 5)
    assert (run.start, run.period, run.times) == (0, 2, 10)
