"""Calls in another order, or two as one: the bits of the step as it was written."""

import numpy as np
import pytest

import sillar as sl
from sillar import nn
from sillar.backends import backend_of
from sillar.backends.numpy import rewrite, threads
from sillar.core import ops


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    monkeypatch.setattr(threads._settings, "count", 1)


@pytest.fixture
def names(monkeypatch):
    """Return the names of the calls that were replayed, once a step is compiled."""
    found, backend = [], backend_of(np.zeros(1))

    def noted(trace, calls):
        calls = rewrite.simplified(trace, calls)
        found[:] = [rewrite._name(call) for call in calls]
        return calls

    monkeypatch.setattr(backend, "simplified", noted)
    return found


def images(*shape, kind="numbers", dtype="float32"):
    x = np.random.default_rng(0).normal(size=shape).astype(dtype)
    if kind == "ties":
        return np.round(x)
    if kind == "negative":
        return -abs(x)
    if kind == "nan":
        x[0, 1, 2, 0] = np.nan
    return x


def same(step, x, parameters=()):
    """Check that a replay gives the bits of the step, for results and gradients."""

    def whole(x):
        x = sl.Tensor(x.data, requires_grad=True)
        y = step(x)
        total = sl.sum(y * y + y)
        return [y, *sl.grad(total, [x, *parameters])]

    expected, compiled = whole(sl.Tensor(x)), sl.compile(whole)
    compiled(x)
    for a, b in zip(expected, compiled(x), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), strict=True)


POOLS = {
    "apart": nn.MaxPool2D(2),
    "overlapping": nn.MaxPool2D(3, stride=2),
    "gaps": nn.MaxPool2D(2, stride=3),
    "padded": nn.MaxPool2D(2, padding=1),
}


@pytest.mark.parametrize("kind", ["numbers", "ties", "negative", "nan"])
@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_relu_after_the_pooling_gives_the_same_bits(pool, kind, dtype, names):
    x = images(3, 9, 8, 5, kind=kind, dtype=dtype)
    same(lambda x: pool(sl.relu(x * 2.0)), x)
    if pool is not POOLS["padded"]:
        assert names.index("max_pool") < names.index("relu")
        greater = names.index("greater")
        assert names[greater:][:4] == ["greater", "astype", "multiply", "max_unpool"]


def pooled(x):
    return ops.max_pool(x, window=nn.MaxPool2D(2).window)


OTHER_USES = {
    "an output": lambda r: [r, pooled(r)],
    "a sum": lambda r: [pooled(r), sl.sum(r)],
    "two poolings": lambda r: [pooled(r), pooled(r)],
}


@pytest.mark.parametrize("use", OTHER_USES.values(), ids=OTHER_USES)
def test_relu_stays_where_somebody_else_needs_it(use, names):
    x = images(2, 6, 6, 3)

    def step(x):
        return use(sl.relu(x * 2.0))

    expected, compiled = step(sl.Tensor(x)), sl.compile(step)
    compiled(x)
    for a, b in zip(expected, compiled(x), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), strict=True)
    assert names.index("relu") < names.index("max_pool")


CONVOLUTIONS = {
    "winograd": nn.Conv2D(4, 8, 3, padding=1),
    "windows": nn.Conv2D(1, 8, 3),
    "strided": nn.Conv2D(4, 6, 3, stride=2),
    "groups": nn.Conv2D(4, 8, 3, groups=2, stride=2),
    "depthwise": nn.DepthwiseConv2D(4, 3),
    "1x1": nn.Conv2D(4, 3, 1),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("batch", [1, 9])
def test_a_bias_is_added_by_the_convolution(name, batch, names):
    layer = CONVOLUTIONS[name].init(sl.Rng(0))
    layer.bias.data[...] = images(*layer.bias.shape)
    x = images(batch, 23, 21, 1 if name == "windows" else 4)
    same(lambda x: sl.tanh(layer(x)), x, tuple(layer.parameters().values()))
    assert "conv_bias" in names
    assert "conv" not in names


def test_what_is_added_to_a_convolution_need_not_be_a_bias(names):
    x, w = sl.Tensor(images(2, 6, 6, 3)), sl.Tensor(images(3, 3, 3, 3))
    for other in (images(4, 4, 3), images(1), images(2, 4, 4, 3)):

        def step(x, other=other):
            return ops.conv(x, w, window=WINDOW3) + other

        compiled = sl.compile(step)
        compiled(x)
        np.testing.assert_array_equal(step(x).numpy(), compiled(x).numpy())
        assert "conv_bias" not in names


WINDOW3 = nn.Conv2D(1, 1, 3).window


def test_networks_of_both_give_the_same_bits(names):
    net = nn.Sequential(
        *(nn.Conv2D(1, 8, 3), nn.ReLU(), nn.MaxPool2D(2)),
        *(nn.Conv2D(8, 8, 3), nn.ReLU(), nn.MaxPool2D(2)),
        *(nn.Flatten(), nn.Dense(200, 3)),
    ).init(sl.Rng(0))
    same(net, images(5, 28, 28, 1), tuple(net.parameters().values()))
    assert names.count("conv_bias") == 2
