"""Runs on a device: a step and its update are one program that nothing waits for."""

import numpy as np
import pytest

import sillar as sl
from sillar import nn
from sillar.backends import load
from sillar.optim import Accumulate, ClipNorm, SkipNonFinite
from sillar.train.whole import Whole

pytest.importorskip("jax")
JAX = load("jax")
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(44, 4)).astype("float32"), RNG.integers(0, 2, 44)


class Loss(sl.Callback):
    """The mean loss so far, read after each step."""

    def __init__(self):
        self.seen = []

    def on_step(self, run):
        self.seen.append((run.step, run.metrics["loss"], run.metrics["accuracy"]))


def trained(home, x=X, **options):
    model = nn.Sequential(
        *(nn.Dense(4, 8, bias=False), nn.BatchNorm(8), nn.ReLU(), nn.Dense(8, 2))
    )
    model.init(sl.Rng(0)).to(home)
    given = {"epochs": 3, "batch_size": 8, "callbacks": (), **options}
    data = sl.data.Dataset(x, Y)
    run = sl.fit(model, sl.CrossEntropy(), sl.Adam(0.01), data, **given)
    return run, {name: np.array(a) for name, a in model.state().items()}


def same(found, expected):
    (run, state), (other, numpys) = found, expected
    for name, array in numpys.items():
        np.testing.assert_allclose(state[name], array, rtol=1e-4, atol=1e-5)
    for what in ("epoch", "batch", "step", "stop", "reason"):
        assert getattr(run, what) == getattr(other, what)
    assert run.optimizer.updates == other.optimizer.updates
    for name, value in other.sums.items():
        assert run.sums[name] == pytest.approx(value, rel=1e-5)


def test_a_run_has_numpys_numbers_and_one_program():
    kept = Loss(), Loss()
    options = {"transforms": [ClipNorm(0.5)]}
    found, expected = (
        trained(home, callbacks=[loss], **options)
        for home, loss in zip(("jax", "numpy"), kept, strict=True)
    )
    same(found, expected)
    np.testing.assert_allclose(kept[0].seen, kept[1].seen, rtol=1e-5)
    assert len(kept[0].seen) == 18
    whole = found[0].gradients.whole
    programs = {id(p.run.model): p.run.model for p in whole.compiled._plans.values()}
    sizes = [p.program._cache_size() for p in programs.values()]
    assert sizes == [1, 1]  # whole batches, and the last one of four


def test_a_step_is_under_way_before_the_loss_of_the_one_before_is_read(monkeypatch):
    events = []
    step, item = Whole.__call__, sl.Tensor.item

    def stepped(self, *given):
        tell = step(self, *given)
        events.append("step")
        return tell

    def read(self):
        events.append("read")
        return item(self)

    monkeypatch.setattr(Whole, "__call__", stepped)
    monkeypatch.setattr(sl.Tensor, "item", read)
    trained("jax", epochs=2)
    epoch = ["step", *["step", "read"] * 5, "read"]
    assert events == epoch * 2


def test_the_arrays_of_a_run_are_donated():
    held, deleted = [], []

    class Held(sl.Callback):
        def on_step(self, run):
            deleted.extend(old.is_deleted() for old in held)
            held.clear()
            for plan in run.gradients.whole.compiled._plans.values():
                if run.batch in (2, 3):  # the next one writes over these
                    held.extend(cell._value for cell in plan.run.written)

    trained("jax", epochs=2, callbacks=[Held()])
    assert len(deleted) == 4 * 6  # parameters, moments, statistics, alive
    assert sum(deleted) >= 3 * 6


@pytest.mark.parametrize("reads", [False, True])
@pytest.mark.parametrize("row", [0, 20, 43])
def test_a_loss_that_is_not_finite_moves_nothing_and_ends_the_run(row, reads):
    x = X.copy()
    x[row] = np.inf
    callbacks = [Loss()] if reads else []
    found, expected = (trained(h, x, callbacks=callbacks) for h in ("jax", "numpy"))
    assert expected[0].stop
    same(found, expected)
    assert "its inputs are not finite" in found[0].reason


def test_a_run_that_ends_early_counts_its_last_step():
    class End(sl.Callback):
        def on_step(self, run):
            if run.step == 9:
                run.end("enough")

    found, expected = (trained(h, callbacks=[End()]) for h in ("jax", "numpy"))
    same(found, expected)
    assert found[0].sums["examples"] == 24


def test_a_run_goes_on_to_the_same_bits(tmp_path):
    class End(sl.Callback):
        def on_step(self, run):
            if run.step == 9:
                run.end("enough")

    every = sl.every(steps=3)(sl.train.Checkpoint(tmp_path / "run"))
    trained("jax", run_dir=tmp_path / "run", callbacks=[every, End()])
    run, state = trained("jax", run_dir=tmp_path / "run", resume=True)
    straight, expected = trained("jax")
    assert run.step == straight.step == 18
    for name, array in expected.items():
        assert np.array_equal(state[name], array)


def test_what_has_to_decide_in_python_keeps_a_step_of_two_parts():
    for transforms in ([SkipNonFinite()], [Accumulate(2)]):
        found, expected = (trained(h, transforms=transforms) for h in ("jax", "numpy"))
        assert found[0].gradients.whole is None
        same(found, expected)


class Reading(nn.Layer):
    def forward(self, x):
        return x * (2.0 if float(x.sum()) > 1e9 else 1.0)


def test_what_cannot_be_compiled_runs_as_it_stands():
    model = nn.Sequential(nn.Dense(4, 2), nn.BatchNorm(2), Reading())
    model.init(sl.Rng(0)).to("jax")
    data = sl.data.Dataset(X, Y)
    given = {"epochs": 1, "callbacks": (), "compiled": True}
    run = sl.fit(model, sl.CrossEntropy(), sl.SGD(0.1), data, **given)
    assert "reads a tensor's values" in run.gradients.eager_because
    assert run.gradients.whole is None
    assert run.optimizer.updates == run.step == 2
