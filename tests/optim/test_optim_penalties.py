"""Penalties: costs, gradients, proximal maps, and what they do to a training."""

import numpy as np
import pytest

from sillar.core.tensor import Tensor
from sillar.errors import ConfigError
from sillar.optim import L1, L2, SGD, Adam, AdamW, CosineAnnealing, RMSprop
from sillar.optim.optimizer import BLOCK

P = np.array([-2.0, -0.5, 0.0, 0.25, 3.0])


def test_costs():
    params = {"a": P, "b": np.array([[1.0, -1.0]])}
    assert L1(0.5).compute(params) == 0.5 * (5.75 + 2.0)
    assert L2(0.5).compute(params) == 0.25 * ((P**2).sum() + 2.0)
    assert L2(0.5, where="b").compute(params) == 0.5
    assert L1(0.5).compute({}) == 0


@pytest.mark.parametrize("penalty", [L1(0.3), L2(0.3)], ids=repr)
def test_compute_of_tensors_gives_the_gradient(penalty):
    p = Tensor(P[P != 0], requires_grad=True)
    cost = penalty.compute({"a": p})
    assert isinstance(cost, Tensor)
    assert cost.shape == ()
    cost.backward()
    np.testing.assert_allclose(p.grad.numpy(), penalty.gradient(p.data))


@pytest.mark.parametrize("penalty", [L1(0.3), L2(0.3)], ids=repr)
@pytest.mark.parametrize("step", [0.0, 0.1, 2.0])
def test_proximal_minimises_its_definition(penalty, step):
    grid = np.linspace(-4, 4, 80_001)
    cost = np.abs(grid) if isinstance(penalty, L1) else grid**2 / 2
    for p, actual in zip(P, penalty.proximal(P, step), strict=True):
        objective = step * 0.3 * cost + (grid - p) ** 2 / 2
        assert abs(grid[objective.argmin()] - actual) < 1e-4


def test_l1_threshold_gives_exact_zeros():
    actual = L1(1.0).proximal(P, 0.5)
    np.testing.assert_array_equal([-1.5, 0.0, 0.0, 0.0, 2.5], actual)


@pytest.mark.parametrize(
    "penalty", [L1(np.float64(0.3)), L2(np.float64(0.3))], ids=repr
)
def test_float32_stays_float32(penalty):
    p = P.astype("float32")
    assert penalty.gradient(p).dtype == np.float32
    assert penalty.proximal(p, 0.1).dtype == np.float32
    assert penalty.proximal(p, abs(p)).dtype == np.float32
    cost = penalty.compute({"p": Tensor(p, requires_grad=True)})
    assert cost.dtype == np.float32


def lasso(optimizer, parameters, penalty):
    """Fit y = x w, where 5 of 40 weights matter; return w."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 40))
    w = np.zeros(40)
    w[:5] = [3.0, -2.0, 1.5, -1.0, 2.5]
    y = x @ w + 0.1 * rng.normal(size=200)
    start = 0.1 * rng.normal(size=40)
    params = parameters(dense__weight=start, dense__bias=[0.0])
    optimizer.bind(params, penalty=penalty)
    for _ in range(500):
        weight, bias = (params[path].numpy() for path in params)
        error = x @ weight + bias - y
        optimizer.step([x.T @ error / 200, error.mean(keepdims=True)])
    return params["dense.weight"].numpy()


@pytest.mark.parametrize(
    "optimizer",
    [SGD(0.1), SGD(0.02, momentum=0.9), RMSprop(0.01), Adam(0.02), AdamW(0.02)],
    ids=repr,
)
def test_l1_sets_most_irrelevant_weights_to_exactly_zero(parameters, optimizer):
    w = lasso(optimizer, parameters, L1(0.1, where="*.weight"))
    assert (w[5:] == 0).mean() >= 0.5
    assert (np.abs(w[:5]) > 0.5).all()
    assert (lasso(optimizer, parameters, None)[5:] != 0).all()


FALL = CosineAnnealing(0.1, 2000)


@pytest.mark.parametrize(
    "optimizer",
    [
        SGD(0.3),
        SGD(0.05, momentum=0.9),
        SGD(0.05, momentum=0.8, nesterov=True),
        RMSprop(FALL),
        RMSprop(FALL, momentum=0.5),
        Adam(FALL),
    ],
    ids=repr,
)
def test_l1_finds_the_lasso_solution_with_every_rule(parameters, optimizer):
    linear_model = pytest.importorskip("sklearn.linear_model", reason="the oracle")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 10)), rng.normal(size=100)
    oracle = linear_model.Lasso(alpha=0.05, fit_intercept=False, tol=1e-12).fit(x, y)
    optimizer.bind(parameters(w=np.ones(10)), penalty=L1(0.05))
    for _ in range(2000):
        optimizer.step([x.T @ (x @ optimizer.params.vector - y) / 100])
    np.testing.assert_allclose(optimizer.params.vector, oracle.coef_, atol=1e-5)
    assert ((oracle.coef_ == 0) == (optimizer.params.vector == 0)).all()


def test_l2_in_the_loss_is_weight_decay_for_sgd_and_not_for_adam(parameters):
    def run(optimizer, penalty):
        optimizer.bind(parameters(p=P))
        for _ in range(10):
            g = np.cos(optimizer.params.vector)
            optimizer.step(g + penalty.gradient(optimizer.params.vector))
        return optimizer.params.vector

    in_loss = run(SGD(0.1, momentum=0.5), L2(0.2))
    decayed = run(SGD(0.1, momentum=0.5, weight_decay=0.2), L2(0.0))
    np.testing.assert_allclose(in_loss, decayed)
    adam = Adam(0.1).bind(parameters(p=P), penalty=L2(0.2))
    for _ in range(10):
        adam.step(np.cos(adam.params.vector))
    assert np.abs(run(Adam(0.1), L2(0.2)) - adam.params.vector).max() > 0.01


def test_where_picks_parameters_and_leaves_the_others(parameters):
    params = parameters(a__weight=P, a__bias=P, b__weight=P, c__scale=P)
    optimizer = SGD(1.0).bind(params, penalty=L1(0.5, where="*.weight"))
    optimizer.step(np.zeros(20))
    shrunk = L1(0.5).proximal(P, 1.0)
    expected = {"a.weight": shrunk, "a.bias": P, "b.weight": shrunk, "c.scale": P}
    for path, value in expected.items():
        np.testing.assert_array_equal(value, params[path].numpy())


def test_penalty_uses_the_scheduled_rate_and_every_block(parameters):
    p = np.random.default_rng(0).normal(size=2 * BLOCK + 5)
    optimizer = SGD(0.25).bind(parameters(a=p[:7], b=p[7:]), penalty=L2(2.0))
    optimizer.step(np.zeros_like(p))
    np.testing.assert_array_equal(p / 1.5, optimizer.params.vector)


def test_messages(parameters):
    for call, message in (
        (lambda: L1(-1), "L1: rate must be in [0, inf), got -1"),
        (lambda: L2(float("nan")), "L2: rate must be in [0, inf), got nan"),
        (
            lambda: Adam().bind(parameters(a=P), penalty=L1(1, where="*.weight")),
            "L1: where='*.weight' selects none of ['a']: give a glob such as '*weight'",
        ),
    ):
        with pytest.raises(ConfigError) as caught:
            call()
        assert message == str(caught.value)


def test_no_parameters_at_all(parameters):
    assert Adam().bind(parameters(), penalty=L1(1.0)).step([])
