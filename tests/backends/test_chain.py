"""Chains of elementwise calls in blocks give the same bits as whole ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sillar as sl
from sillar.backends.numpy import chain
from sillar.core import ops
from sillar.core.compile import compile

UNARY = (ops.exp, ops.tanh, ops.relu, ops.negative, ops.sign, ops.sigmoid, ops.erf)
BINARY = (
    *(ops.add, ops.subtract, ops.multiply, ops.maximum, ops.power),
    lambda a, b: ops.where(ops.not_equal(ops.sign(a), ops.sign(b)), a, b),
)
SHAPES = ((7, 3, 4), (1, 4), (4,), (7, 1, 1), (7, 3, 1), (1, 3, 4))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(chain, "BLOCK", 24)
    monkeypatch.setattr(chain, "LEAST", 2)


def numbers(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def test_what_is_only_used_inside_is_never_whole():
    compiled = compile(lambda x: sl.tanh(sl.exp(x * 2.0) + 1.0))
    x = numbers((64, 12))
    compiled(x)
    (plan,) = compiled._plans.values()
    kept = plan.run.__defaults__  # what the plan's function knows by name
    assert sum(k.size for k in kept if isinstance(k, np.ndarray)) == x.size
    assert [len(k) for k in kept if type(k) is list] == [32, 32]  # blocks and slices


@pytest.mark.parametrize("rows", [2, 7, 64])
def test_a_dense_layer_and_its_gradient(rows):
    w = sl.Tensor(numbers((12, 12)), requires_grad=True)
    b = sl.Tensor(numbers(12), requires_grad=True)

    def step(x):
        y = sl.relu(x @ w + b)
        return y, sl.grad((y * y).sum(), [w, b])

    x = numbers((rows, 12))
    expected_y, expected = step(sl.Tensor(x))
    compiled = compile(step)
    for _ in range(3):
        y, gradients = compiled(x)
        assert np.array_equal(expected_y.numpy(), y.numpy())
        for a, b_ in zip(expected, gradients, strict=True):
            assert np.array_equal(a.numpy(), b_.numpy())


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_graphs_give_the_same_bits(data):
    """Values are used again, broadcast, cast and returned at any place."""
    plan = []
    count = len(SHAPES)
    for _ in range(data.draw(st.integers(2, 14))):
        kind = data.draw(st.sampled_from(["one", "two", "cast", "number"]))
        pick = st.integers(0, count - 1)
        plan.append((kind, data.draw(pick), data.draw(pick), data.draw(pick)))
        count += 1
    wanted = data.draw(st.sets(st.integers(len(SHAPES), count - 1), min_size=1))

    def step(*xs):
        values = list(xs)
        for kind, i, j, k in plan:
            a, b = values[i], values[j]
            if kind == "one":
                values.append(UNARY[k % len(UNARY)](a))
            elif kind == "two":
                values.append(BINARY[k % len(BINARY)](a, b))
            elif kind == "cast":
                values.append(ops.astype(ops.greater(a, b), dtype="float32"))
            else:
                values.append(a * 0.5)
        return [values[i] for i in sorted(wanted)]

    compiled = compile(step)
    with np.errstate(all="ignore"):
        for seed in range(3):
            xs = [numbers(shape, seed=seed) for shape in SHAPES]
            expected = step(*map(sl.Tensor, xs))
            got = compiled(*xs)
            for a, b in zip(expected, got, strict=True):
                assert np.array_equal(a.numpy(), b.numpy(), equal_nan=True)
