"""A step with the optimizer in it: one XLA program that writes in place."""

import numpy as np
import pytest

import sillar as sl
from sillar import nn
from sillar.backends import load
from sillar.errors import DataError
from sillar.optim import L1, ClipNorm, ClipValue, CosineAnnealing, SkipNonFinite

jax = pytest.importorskip("jax")
JAX = load("jax")
X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
Y = np.arange(6) % 2


class Training:
    """A step with running statistics and an optimizer, and all that it moves."""

    def __init__(self, home="jax", optimizer=None, **bound):
        self.model = nn.Sequential(
            *(nn.Dense(4, 8, bias=False), nn.BatchNorm(8), nn.ReLU(), nn.Dense(8, 2))
        )
        self.model.init(sl.Rng(0)).to(home)
        self.loss = sl.CrossEntropy()
        self.optimizer = optimizer or sl.Adam(0.01)
        self.optimizer.bind(self.model.parameters(), **bound)
        self.compiled = sl.compile(self.step)

    def step(self, x, y, rng):
        found = self.loss(self.model(x, rng=rng), y)
        self.optimizer.step(sl.grad(found, self.optimizer.params))
        return found

    def run(self, steps):
        return [float(self.compiled(X, Y, sl.Rng(k))) for k in range(steps)]

    @property
    def vector(self):
        return self.optimizer.params.vector

    @property
    def plan(self):
        (plan,) = self.compiled._plans.values()
        return plan.run

    @property
    def programs(self):
        return self.plan.model.program._cache_size()


OPTIMIZERS = {
    "sgd": (lambda: sl.SGD(0.1, momentum=0.9), {}),
    "schedule": (lambda: sl.Adam(CosineAnnealing(0.1, 20)), {}),
    "rmsprop": (lambda: sl.RMSprop(0.01), {}),
    "clipped": (
        lambda: sl.AdamW(0.01),
        {"transforms": [ClipNorm(0.1), ClipValue(0.05)]},
    ),
    "penalty": (lambda: sl.Adam(0.01), {"penalty": L1(1e-2)}),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_whole_step_is_one_program_with_numpys_numbers(name):
    make, bound = OPTIMIZERS[name]
    found, expected = (Training(home, make(), **bound) for home in ("jax", "numpy"))
    np.testing.assert_allclose(found.run(12), expected.run(12), rtol=2e-5)
    np.testing.assert_allclose(np.asarray(found.vector), expected.vector, atol=2e-5)
    assert found.programs == 1
    assert found.optimizer.updates == expected.optimizer.updates == 12


def test_nothing_is_read_on_the_host_within_a_whole_step():
    training = Training(optimizer=sl.Adam(CosineAnnealing(0.1, 20)))
    given = JAX.from_numpy(X), JAX.from_numpy(Y), sl.Rng(1)
    training.compiled(*given)
    training.compiled(*given)
    with jax.transfer_guard_device_to_host("disallow"):
        for _ in range(3):
            training.compiled(*given)
    assert training.programs == 1


def test_what_is_written_to_is_donated():
    training = Training()
    training.run(3)
    cells = training.plan.written
    assert len(cells) == 5  # parameters, two moments, mean and variance
    before = [cell._value for cell in cells]
    training.run(1)
    assert all(old.is_deleted() for old in before)
    assert not any(cell._value.is_deleted() for cell in cells)


def test_what_somebody_else_holds_is_not_lost():
    training = Training()
    training.run(2)
    held, view = training.vector.value, np.asarray(training.vector)
    weight = training.model[0].weight
    part, before = weight.data.value, view.copy()
    training.run(3)
    assert not held.is_deleted()
    assert np.array_equal(np.asarray(held), before)
    assert np.array_equal(view, before)
    assert np.array_equal(np.asarray(part).ravel(), before[: part.size])
    assert not np.array_equal(np.asarray(training.vector), before)


def test_one_array_in_two_cells_and_among_the_arguments():
    training = Training()
    moments = training.optimizer._rule
    JAX.assign(moments["v"], moments["m"])  # now both hold one array
    assert np.isfinite(training.run(4)).all()
    model, given = nn.Dense(4, 4).init(sl.Rng(0)).to("jax"), []
    optimizer = sl.SGD(0.1).bind(model.parameters())

    @sl.compile
    def step(x):
        found = (model(x) ** 2).sum()
        optimizer.step(sl.grad(found, optimizer.params))
        return found, model.weight

    for _ in range(4):
        given.append(step(model.weight)[1])
    assert all(np.isfinite(t.numpy()).all() for t in given)


def test_a_step_that_is_refused_loses_nothing():
    training = Training()
    training.run(3)
    before = np.asarray(training.vector).copy()
    with pytest.raises(DataError, match="labels must be in"):
        training.compiled(X, Y + 7, sl.Rng(0))
    assert np.array_equal(np.asarray(training.vector), before)
    assert training.optimizer.updates == 3
    assert np.isfinite(training.run(1)).all()


def test_a_changed_number_and_a_new_binding_are_seen():
    found, expected = Training(), Training("numpy")
    for training in (found, expected):
        training.run(3)
        training.optimizer.beta1 = 0.5
        training.run(3)
        training.optimizer.lr = 0.05
        training.run(3)
        saved = training.optimizer.state()
        training.optimizer.bind(training.model.parameters())
        training.run(3)
        training.optimizer.load_state(saved)
        training.run(3)
    np.testing.assert_allclose(
        np.asarray(found.vector), expected.vector, rtol=1e-3, atol=1e-4
    )
    assert found.optimizer.updates == expected.optimizer.updates == 12


def test_a_transform_that_decides_in_python_runs_apart():
    found, expected = (
        Training(home, transforms=[SkipNonFinite()]) for home in ("jax", "numpy")
    )
    np.testing.assert_allclose(found.run(4), expected.run(4), rtol=2e-5)
    assert not hasattr(found.plan, "program")


def test_clipping_on_a_device_is_clipping_on_the_host():
    for g in (
        [3.0, 4],
        [0.03, 0.04],
        [0, 0],
        [3e30, 4e30],
        [3e-30, 4e-30],
        [np.nan, 1],
    ):
        for clip in (ClipNorm(1.0), ClipNorm(1e-30), ClipNorm(1e31)):
            g = np.array(g, "float32")
            found = np.asarray(clip(JAX.from_numpy(g)))
            np.testing.assert_allclose(found, clip(g), rtol=1e-6)
    g = np.array([np.inf, 1], "float32")
    assert np.array_equal(np.asarray(ClipNorm(1.0)(JAX.from_numpy(g))), g)
