"""A compiled step does what the plain one does, to the same bits, at every call."""

import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sillar as sl
from sillar import nn
from sillar.backends import backend_of
from sillar.core import ops
from sillar.core.compile import compile
from sillar.errors import CompileError, DataError


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def same_bits(expected, got):
    return np.array_equal(expected.numpy(), got.numpy(), equal_nan=True)


def classifier(*layers):
    model = nn.Sequential(*layers).init(sl.Rng(0))
    parameters, loss = model.parameters(), sl.CrossEntropy()

    def step(x, y, rng):
        outputs = model(x, rng=rng)
        value = loss(outputs, y)
        return value, {"outputs": outputs}, sl.grad(value, parameters)

    return model, step


CONVNET = (
    *(nn.Conv2D(2, 6, 3, groups=2), nn.BatchNorm(6), nn.ReLU(), nn.MaxPool2D(2)),
    *(nn.Conv2D(6, 4, 2), nn.GELU(), nn.AvgPool2D(2), nn.Flatten(), nn.Dropout(0.4)),
    *(nn.LayerNorm(16), nn.Dense(16, 3)),
)


def test_a_whole_step_is_replayed_to_the_same_bits():
    labels = np.arange(5) % 3
    model, step = classifier(*CONVNET)
    twin, plain = classifier(*CONVNET)
    twin.load_state({k: v.copy() for k, v in model.state().items()})
    compiled = compile(step)
    for k in range(4):
        x = numbers(5, 12, 12, 2, seed=k)
        expected = plain(x, labels, sl.Rng(k))
        value, outputs, gradients = compiled(x, labels, sl.Rng(k))
        assert same_bits(expected[0], value)
        assert same_bits(expected[1]["outputs"], outputs["outputs"])
        assert all(same_bits(g, gradients[path]) for path, g in expected[2].items())
    for path, array in twin.state().items():  # the running statistics, too
        assert np.array_equal(array, model.state()[path]), path


def test_it_is_traced_once_for_each_shape_and_type():
    calls = []

    def step(x):
        calls.append(x.shape)
        return x * 2.0

    compiled = compile(step)
    for x in (numbers(3), numbers(3), numbers(4), numbers(3).astype("float64")):
        assert same_bits(sl.Tensor(x) * 2.0, compiled(x))
    assert calls == [(3,), (4,), (3,)]


def test_numbers_among_the_arguments_are_part_of_the_trace():
    compiled = compile(lambda x, n: x * n)
    x = numbers(3)
    for n in (2.0, 3.0, 2.0):
        assert same_bits(sl.Tensor(x) * n, compiled(x, n))


def test_new_values_of_the_parameters_are_seen():
    model = nn.Dense(3, 2).init(sl.Rng(0))
    compiled = compile(lambda x: model(x))
    x = numbers(4, 3)
    compiled(x)
    model.parameters().vector[...] *= 3  # as an optimizer writes
    assert same_bits(model(x), compiled(x))
    model.init(sl.Rng(1))  # a new vector
    assert same_bits(model(x), compiled(x))


def test_each_call_draws_anew_and_splits_make_the_keys():
    def step(x, rng):
        first = ops.random_uniform(rng.split("a", 1).key, shape=(4,), dtype="float32")
        return x + first + nn.Dropout(0.5)(x, rng=rng.split("b"))

    compiled, x = compile(step), numbers(4)
    for seed in (0, 1, 0):
        assert same_bits(step(sl.Tensor(x), sl.Rng(seed)), compiled(x, sl.Rng(seed)))


def test_checks_of_values_are_made_at_every_call():
    compiled = compile(lambda x, y: sl.CrossEntropy()(x, y))
    x = numbers(4, 3)
    compiled(x, np.array([0, 1, 2, 0]))
    with pytest.raises(DataError, match=r"labels must be in \[0, 3\), got 7"):
        compiled(x, np.array([0, 1, 7, 0]))


@pytest.mark.parametrize(
    "step",
    [
        lambda x, rng: x * 2 if x.sum() > 0 else x,
        lambda x, rng: x * x.sum().item(),
        lambda x, rng: x + x.numpy(),
        lambda x, rng: x + float(x.max()),
        lambda x, rng: x + rng.normal((3,)),
        lambda x, rng: x + rng.split("a").uniform((3,)),
    ],
    ids=["if", "item", "numpy", "float", "draw", "split draw"],
)
def test_values_cannot_be_read_in_python(step):
    with pytest.raises(CompileError, match="compile: "):
        compile(step)(numbers(3), sl.Rng(0))
    assert step(sl.Tensor(numbers(3)), sl.Rng(0)).shape == (3,)  # tracing has ended


@pytest.mark.parametrize("result", [None, 3.0, "text", {}, [np.ones(3)]])
def test_a_step_returns_tensors(result):
    with pytest.raises(CompileError, match="compile: "):
        compile(lambda x: result)(numbers(3))


def test_one_compiled_step_does_not_call_another():
    inner = compile(lambda x: x * 2.0)
    with pytest.raises(CompileError, match="while compiling"):
        compile(lambda x: inner(x) + 1.0)(numbers(3))


def test_an_argument_given_twice_is_two_arguments():
    compiled = compile(lambda a, b: a - b)
    x = numbers(3)
    assert same_bits(sl.Tensor(x - x), compiled(x, x))
    assert same_bits(sl.Tensor(x - 2 * x), compiled(x, 2 * x))


def test_results_of_one_call_are_not_changed_by_the_next():
    compiled = compile(lambda x: (x.exp() if hasattr(x, "exp") else sl.exp(x)) * 2.0)
    first = compiled(numbers(3, seed=1))
    kept = first.numpy().copy()
    compiled(numbers(3, seed=2))
    assert np.array_equal(kept, first.numpy())


def test_inputs_are_never_written():
    compiled = compile(lambda x: (x + 1.0) * x - x.reshape(6)[None].reshape(2, 3))
    x = numbers(2, 3)
    before = x.copy()
    for _ in range(3):
        compiled(x)
    assert np.array_equal(before, x)


def test_parameters_and_inputs_survive_a_copy_of_a_view_of_theirs():
    layer = nn.Dense(3, 3, bias=False).init(sl.Rng(0))
    before = layer.weight.numpy().copy()

    def step(x):
        turned = layer.weight.T.reshape(9)  # a copy in a buffer of the plan's own
        return layer.weight * 2.0 + x, turned * 3.0

    compiled = compile(step)
    for _ in range(3):
        compiled(numbers(3, 3))
    assert np.array_equal(before, layer.weight.numpy())


def test_the_optimizer_steps_inside_a_compiled_step():
    x, y = numbers(8, 5), np.arange(8) % 3
    vectors = []
    for compiled in (False, True):
        model = nn.Sequential(nn.Dense(5, 6), nn.Tanh(), nn.Dense(6, 3)).init(sl.Rng(0))
        parameters = model.parameters()
        optimizer = sl.AdamW(sl.CosineAnnealing(0.1, steps=5)).bind(parameters)

        def step(x, y, model=model, parameters=parameters, optimizer=optimizer):
            loss = sl.CrossEntropy()(model(x), y)
            optimizer.step(sl.grad(loss, parameters))
            return loss

        run = compile(step) if compiled else step
        for _ in range(5):
            run(x, y)
        assert optimizer.updates == 5
        vectors.append(parameters.vector)
    assert np.array_equal(*vectors)


UNARY = (
    lambda x: sl.tanh(x),
    lambda x: x * 2.0,
    lambda x: sl.relu(x),
    lambda x: x.T.reshape(*x.shape),
    lambda x: x[::-1],
    lambda x: x - x.mean(axis=0, keepdims=True),
    lambda x: x.reshape(-1)[:6].reshape(2, 3) + x,
    lambda x: x.astype("float32"),
    lambda x: sl.sigmoid(x).sum(axis=1, keepdims=True) + x * 0.5,
    lambda x: sl.einsum("ij->ji", x).T,
)
BINARY = (
    lambda a, b: a + b,
    lambda a, b: a * b,
    lambda a, b: sl.maximum(a, b),
    lambda a, b: (a @ b.T) @ b * 0.1,
    lambda a, b: sl.where(a > b, a, b),
    lambda a, b: sl.concat(a, b)[1:3],
)
STEPS = st.lists(st.tuples(st.integers(0, 15), st.integers(0, 9), st.integers(0, 9)))


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, seed=st.integers(0, 3))
def test_random_graphs_with_shared_memory_replay_to_the_same_bits(steps, seed):
    def graph(a, b):
        values = [a, b]
        for kind, i, j in steps:
            x, y = values[i % len(values)], values[j % len(values)]
            made = UNARY[kind](x) if kind < 10 else BINARY[kind - 10](x, y)
            values.append(sl.tanh(made))
        gradients = sl.grad(values[-1].sum(), [a, b]) if steps else []
        return values[-1], values[len(values) // 2], list(gradients)

    def step(a, b):
        return graph(*(sl.Tensor(x.data, requires_grad=True) for x in (a, b)))

    compiled = compile(step)
    for k in range(3):
        a, b = numbers(2, 3, seed=seed + k), numbers(2, 3, seed=seed + k + 9)
        expected = step(sl.Tensor(a), sl.Tensor(b))
        got = compiled(a, b)
        assert same_bits(expected[0], got[0])
        assert same_bits(expected[1], got[1])
        pairs = zip(expected[2], got[2], strict=True)
        assert all(same_bits(one, other) for one, other in pairs)


def test_what_was_traced_is_gone_before_the_plan_takes_memory(monkeypatch):
    w = sl.Tensor(numbers(4, 4), requires_grad=True)
    inside, alive = [], []

    def step(x):
        hidden = sl.tanh(x @ w)
        inside.append(weakref.ref(hidden))
        return hidden.sum()

    backend = backend_of(w.data)
    plain = type(backend).compile

    def compiling(self, trace, *, reuse):
        alive.append(inside[0]() is not None)
        return plain(self, trace, reuse=reuse)

    monkeypatch.setattr(type(backend), "compile", compiling)
    compile(step)(numbers(3, 4))
    assert alive == [False]
