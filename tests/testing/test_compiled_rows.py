"""Every row of the matrix in a compiled step, and while somebody listens."""

import numpy as np
import pytest

import sillar as sl
from sillar.backends import half, load
from sillar.backends.numpy import chain
from sillar.core.functional import stack
from sillar.core.listen import Listener
from sillar.errors import ShapeError
from sillar.testing.subjects import subjects

SUBJECTS = {f"{s.kind}-{s.name}": s for s in subjects() if s.cases}


def step_of(case):
    """Return a step from values of the variables to two orders, and the values.

    A layer's parameters stay in the layer, as in training.
    """
    f, variables = case.make("float64")
    given = [x for x in variables.values() if not isinstance(x, sl.nn.Parameter)]
    values = [x.data for x in given]

    def product(gradients):
        return stack([(g * g).sum() for g in gradients.values()]).sum()

    def step(*arrays):
        for x, array in zip(given, arrays, strict=True):
            x.data = array.data
        objective = sl.sin(f()).sum()
        first = sl.grad(objective, dict(variables), create_graph=True)
        return first, sl.grad(product(first), dict(variables))

    return step, values


def is_refused(case):
    try:
        case.make("float64")[0]()
    except ShapeError:
        return case.may_refuse
    return False


def assert_near(expected, got, tolerance):
    for ours, theirs in zip(expected, got, strict=True):
        for name, array in ours.items():
            scale = 1.0 + np.max(np.abs(array.numpy()), initial=0.0)
            np.testing.assert_allclose(
                theirs[name].numpy(), array.numpy(), 0, tolerance * scale, err_msg=name
            )


@pytest.mark.parametrize("name", SUBJECTS)
def test_replays_and_heard_steps_give_the_eager_derivatives(name):
    cases = [case for several in SUBJECTS[name].cases.values() for case in several]
    for case in cases:
        if is_refused(case):
            continue
        step, values = step_of(case)
        expected = step(*map(sl.Tensor, values))
        compiled = sl.compile(step_of(case)[0])
        compiled(
            *(np.asarray(value * 0.875) for value in values)
        )  # traced with other values
        assert_near(expected, compiled(*values), 1e-12)
        with Listener():
            assert_near(expected, compiled(*values), 0.0)


@pytest.fixture(params=[False, True], ids=["stored", "multiplied"])
def whole_halves(request, monkeypatch):
    """Let NumPy's halves be whole, so that only where they stand can be wrong."""
    kind, copy = type(load("numpy")), chain.ELEMENTWISE["astype"]
    monkeypatch.setattr(half, "LEAST", 2)
    monkeypatch.setattr(kind, "fast_half", request.param)
    monkeypatch.setattr(kind, "half", lambda self, name: np.dtype("float64"))
    monkeypatch.setattr(kind, "narrow", lambda self, x, dtype: x.copy())
    monkeypatch.setattr(kind, "widen", lambda self, x, dtype: x.copy())
    monkeypatch.setitem(chain.ELEMENTWISE, "narrow", copy)
    monkeypatch.setitem(chain.ELEMENTWISE, "widen", copy)


@pytest.mark.parametrize("name", SUBJECTS)
def test_halves_stand_where_they_should(name, whole_halves):
    def rewrite(trace, backend):
        half.rewrite(trace, "float16", backend)

    cases = [case for several in SUBJECTS[name].cases.values() for case in several]
    for case in cases:
        if is_refused(case):
            continue
        step, values = step_of(case)
        expected = step(*map(sl.Tensor, values))
        compiled = sl.Compiled(step_of(case)[0], rewrite=rewrite)
        compiled(*(np.asarray(value * 0.875) for value in values))
        assert_near(expected, compiled(*values), 1e-12)
