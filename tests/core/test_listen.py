"""Listeners hear every call at the waist, and change nothing."""

import numpy as np
import pytest

import sillar as sl
from sillar.core.state import recording
from sillar.watch import Listener


class Ears(Listener):
    """Writes down what it hears."""

    def __init__(self):
        self.heard = []

    def before(self, primitive, args, static):
        self.heard.append(f"before {primitive.name}")

    def after(self, primitive, args, arrays, static, out):
        self.heard.append(f"after {primitive.name} {out.shape}")


def test_calls_are_heard_in_order_and_only_within_the_block():
    x = sl.Tensor(np.ones((2, 3)), requires_grad=True)
    sl.exp(x)
    with Ears() as ears:
        y = sl.exp(x) * 2.0
    sl.exp(y)
    expected = ["before exp", "after exp (2, 3)"]
    expected += ["before multiply", "after multiply (2, 3)"]
    assert expected == ears.heard


def test_the_way_back_is_heard():
    x = sl.Tensor(np.ones(3), requires_grad=True)
    y = sl.exp(x).sum()
    with Ears() as ears:
        sl.grad(y, x)
    assert "before multiply" in ears.heard


def test_several_listeners_hear_the_same():
    with Ears() as first, Ears() as second:
        sl.exp(sl.Tensor([1.0]))
    assert first.heard == second.heard != []


def test_a_listener_that_raises_is_gone_afterwards():
    class Refuses(Listener):
        def before(self, primitive, args, static):
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"), Refuses():
        sl.exp(sl.Tensor([1.0]))
    assert sl.exp(sl.Tensor([0.0])).item() == 1.0


def test_a_compiled_step_is_run_as_written_while_somebody_listens():
    calls = []

    def step(x):
        calls.append(1)
        return sl.exp(x).sum()

    compiled = sl.compile(step)
    x = np.ones(4, np.float32)
    expected = compiled(x).item(), compiled(x).item()
    assert len(calls) == 1
    with Ears() as ears:
        got = compiled(x).item()
    assert (got, got) == expected
    assert len(calls) == 2
    assert "after exp (4,)" in ears.heard
    compiled(x)
    assert len(calls) == 2


def test_effects_are_heard():
    class Hears(Listener):
        def __init__(self):
            self.heard = []

        def before_effect(self, function, arrays):
            self.heard.append(("before", function.__name__, len(arrays)))

        def after_effect(self, function, arrays):
            self.heard.append(("after", function.__name__, len(arrays)))

    model = sl.nn.Dense(2, 2).init(sl.Rng(0))
    optimizer = sl.SGD(0.1).bind(model.parameters())
    gradients = sl.grad(model(np.ones((1, 2))).sum(), optimizer.params)
    with Hears() as ears:
        optimizer.step(gradients)
    assert [(when, count) for when, _, count in ears.heard] == [
        ("before", 1),
        ("after", 1),
    ]


def test_what_is_differentiated_is_known_while_it_is():
    class Looks(Listener):
        def __init__(self):
            self.seen = []

        def before(self, primitive, args, static):
            self.seen.append(recording.differentiated)

    x = sl.Tensor(np.ones(3), requires_grad=True)
    with Looks() as looks:
        y = sl.exp(x)
        z = y.sum()
        sl.grad(z, x)
    there, back = looks.seen[:2], looks.seen[2:]
    assert there == [None, None]
    assert {id(z), id(y)} == {id(t) for t in back}
    assert recording.differentiated is None


def test_an_error_on_the_way_back_leaves_nothing_behind():
    x = sl.Tensor(np.ones(3), requires_grad=True)

    class Refuses(Listener):
        def before(self, primitive, args, static):
            if recording.differentiated is not None:
                raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"), Refuses():
        sl.grad(sl.exp(x).sum(), x)
    assert recording.differentiated is None
