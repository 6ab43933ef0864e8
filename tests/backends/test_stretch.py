"""An optimizer's rule that processes do together, each on a stretch of the vectors."""

import subprocess
import sys

import numpy as np
import pytest

import sillar as sl
from sillar import nn, optim
from sillar.backends import numpy as backend
from sillar.backends.numpy import parts, sharing, stretch, threads
from sillar.errors import BackendError

N = 12
RULES = {
    "sgd": lambda: sl.SGD(0.1),
    "nesterov": lambda: sl.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: sl.Adam(optim.ExponentialDecay(0.1, 0.9)),
    "adamw": lambda: sl.AdamW(0.1, weight_decay=0.1),
    "rmsprop": lambda: sl.RMSprop(0.01),
}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs fork")


@pytest.fixture(autouse=True, params=[2, 3])
def count(request, monkeypatch):
    """Cut every step, and every vector, however small."""
    monkeypatch.setattr(parts, "WORTH", 0)
    monkeypatch.setattr(backend, "LARGE", 0)
    monkeypatch.setattr(threads._settings, "count", request.param)
    monkeypatch.setattr(threads._settings, "processes", True)
    return request.param


def made(rule=RULES["adam"], **how):
    """Return a model, a compiled step with its optimizer, and the optimizer."""
    model = nn.Sequential(nn.Dense(5, 7), nn.Tanh(), nn.Dense(7, 3)).init(sl.Rng(0))
    params, loss_of = model.parameters(), sl.CrossEntropy()
    optimizer = rule().bind(params, **how)

    def step(x, y):
        loss = loss_of(model(x), y)
        optimizer.step(sl.grad(loss, params))
        return loss

    return model, sl.compile(step), optimizer


def batch(seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(N, 5)).astype("float32"), rng.integers(0, 3, N)


def trained(step, optimizer, first=0, last=5):
    """Return what a few steps leave."""
    losses = [step(*batch(seed)).item() for seed in range(first, last)]
    return losses, optimizer.state() | {"p": optimizer.params.vector.copy()}


def same(expected, got):
    assert expected[0] == got[0]
    assert expected[1].keys() == got[1].keys()
    for name, value in expected[1].items():
        np.testing.assert_array_equal(value, got[1][name], err_msg=name)


@pytest.fixture
def done(monkeypatch):
    """Return how many elements of vectors are done in stretches of this process."""
    sizes, original = [], optim.Optimizer._stretch

    def noted(self, place):
        run = original(self, place)

        def counted(*given):
            sizes.append(place.stop - place.start)
            run(*given)

        return counted

    monkeypatch.setattr(optim.Optimizer, "_stretch", noted)
    return sizes


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_stretches_give_the_bits_of_the_whole(rule, count, done, monkeypatch):
    _, step, optimizer = made(rule)
    got = trained(step, optimizer)
    size = optimizer.params.size
    assert len(done) == 4  # the first step was traced
    assert all(0 < n < size for n in done)
    monkeypatch.setattr(parts, "stretches", lambda *_: None)
    _, step, optimizer = made(rule)
    same(trained(step, optimizer), got)
    assert len(done) == 4


def test_what_does_more_than_one_thing_to_each_element_is_done_whole(done):
    for how in (
        {"transforms": [optim.ClipNorm(0.1)]},
        {"penalty": optim.L2(0.1)},
    ):
        _, step, optimizer = made(**how)
        trained(step, optimizer)
        assert optimizer.updates == 5
    assert not done


def test_a_rule_that_changed_is_done_whole_from_then_on(done):
    def changing(optimizer, step):
        start = trained(step, optimizer)
        optimizer.beta1 = 0.5
        return start[0], trained(step, optimizer, 5, 8)[1]

    _, step, optimizer = made(lambda: sl.Adam(0.1))
    got = changing(optimizer, step)
    assert len(done) == 4
    _, _, other = made(lambda: sl.Adam(0.1))
    assert not np.array_equal(got[1]["p"], other.params.vector)
    plain = made(lambda: sl.Adam(0.1))
    expected = changing(plain[2], plain[1].step)
    np.testing.assert_allclose(expected[1]["p"], got[1]["p"], rtol=1e-4, atol=1e-5)
    assert expected[1]["updates"] == got[1]["updates"] == 8


def test_a_state_that_was_loaded_is_what_stretches_see(done):
    _, step, optimizer = made()
    trained(step, optimizer, 0, 3)
    state, p = optimizer.state(), optimizer.params.vector.copy()
    expected = trained(step, optimizer, 3, 6)
    optimizer.load_state(state)
    optimizer.params.vector[:] = p
    same(expected, trained(step, optimizer, 3, 6))
    assert len(done) == 8


def test_an_optimizer_bound_anew_starts_afresh(done):
    model, step, optimizer = made()
    trained(step, optimizer)
    optimizer.bind(model.parameters())
    _, state = trained(step, optimizer, 0, 2)
    assert state["updates"] == 2
    assert abs(state["rule.m"]).max() > 0


def test_a_failing_stretch_is_told(monkeypatch):
    def failing(self, place):
        def run(g, lr, t):
            if place.start and t == 3:
                raise ValueError("stretched too far")

        return run

    monkeypatch.setattr(optim.Optimizer, "_stretch", failing)
    _, step, _ = made()
    step(*batch(0))
    step(*batch(0))
    with pytest.raises((ValueError, BackendError), match="stretched too far"):
        step(*batch(0))


def test_parameters_of_a_model_stay_in_one_vector():
    model, _, optimizer = made()
    vector = optimizer.params.vector
    assert sharing.lasts(vector)
    assert np.shares_memory(model.parameters().vector, vector)
    part = model[0].parameters()
    bound = sl.Adam().bind(part)
    assert np.shares_memory(bound.params.vector, vector)
    assert np.shares_memory(model.parameters().vector, vector)


FORK = """
import os
import numpy as np
import sillar as sl
from sillar.backends.numpy import sharing

sl.set_threads(2)
model = sl.nn.Dense(1000, 1000).init(sl.Rng(0))
params = model.parameters()
optimizer = sl.SGD(0.1).bind(params)

def descend(x):
    loss = sl.sum(model(x))
    optimizer.step(sl.grad(loss, params))
    return loss

step = sl.compile(descend)
x = np.ones((1000, 1000), "float32")
step(x)
step(x)
vector = params.vector
assert sharing.lasts(vector)
before = vector.copy()
child = os.fork()
if child == 0:
    good = not sharing.lasts(vector) and np.array_equal(vector, before)
    step(x)
    os._exit(0 if good and not np.array_equal(vector, before) else 1)
assert os.waitpid(child, 0)[1] == 0
assert np.array_equal(vector, before) and sharing.lasts(vector)
step(x)
assert not np.array_equal(vector, before)
"""


def test_a_process_that_somebody_else_forks_has_vectors_of_its_own(count):
    code = FORK.replace("set_threads(2)", f"set_threads({count})")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_an_effect_without_work_is_for_one_process():
    assert stretch.stretches(lambda g: None, 2) is None
