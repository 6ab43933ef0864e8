"""Where the time goes: rows that add up, counts that are right, lines of the user."""

import math
import pstats
import time
from functools import partial

import numpy as np
import pytest

import sillar as sl
from sillar import nn
from sillar.core import ops
from sillar.core.tape import all_primitives, effect
from sillar.watch import profile
from sillar.watch.limits import Limits, limits
from sillar.watch.work import OPERATIONS, moved, operations

X = np.random.default_rng(0).normal(size=(8, 12, 12, 1)).astype(np.float32)
Y = np.arange(8) % 3


def model():
    convolution = nn.Conv2D(1, 4, kernel=3), nn.ReLU(), nn.MaxPool2D(2), nn.Flatten()
    return nn.Sequential(*convolution, nn.Dense(100, 3)).init(sl.Rng(0))


def step(net, optimizer):
    loss = sl.CrossEntropy()(net(X, rng=sl.Rng(0)), Y)
    optimizer.step(sl.grad(loss, optimizer.params))
    return loss.item()


@pytest.fixture
def measured():
    net = model()
    optimizer = sl.Adam().bind(net.parameters())
    step(net, optimizer)
    with profile(net) as found:
        for _ in range(3):
            step(net, optimizer)
    return found


def test_the_rows_add_up_to_the_wall_time():
    net = model()
    optimizer = sl.Adam().bind(net.parameters())
    start = time.perf_counter()
    with profile(net) as found:
        for _ in range(20):
            step(net, optimizer)
        time.sleep(0.02)  # nothing that could be heard
    wall = time.perf_counter() - start
    rows = found.rows()
    heard = [row for row in rows if row["direction"]]
    assert 0.95 * wall < sum(row["seconds"] for row in rows) < 1.05 * wall
    assert 0.95 < sum(row["share"] for row in rows) < 1.05
    assert all(row["seconds"] >= 0 for row in rows)
    python = next(row for row in rows if row["operation"] == "Python between calls")
    assert 0.02 < python["seconds"] < wall - sum(row["seconds"] for row in heard)
    assert found.wall == pytest.approx(sum(row["seconds"] for row in found.layers()))


def test_a_slow_operation_leads_the_table():
    @sl.primitive
    def slow(xp, x):
        """Return x, late."""
        time.sleep(0.02)
        return x

    with profile() as found:
        sl.exp(slow(sl.Tensor([1.0])))
    first = found.rows()[0]
    assert first["operation"] == "slow"
    assert first["seconds"] > 0.02
    assert first["line"].startswith("test_profile.py:")


def test_forward_and_backward_are_apart_and_have_layer_and_line(measured):
    products = {
        row["direction"]: row
        for row in measured.rows()
        if row["operation"] == "matmul" and row["layer"] == "layers.4"
    }
    assert products["forward"]["calls"] == 3
    assert products["backward"]["calls"] == 6
    assert products["forward"]["line"] == products["backward"]["line"]
    assert products["forward"]["line"].startswith("test_profile.py:")
    assert products["forward"]["kind"] == "Dense"
    assert products["forward"]["operations"] == 3 * 2 * 8 * 100 * 3
    assert products["forward"]["bytes"] == 3 * 4 * (8 * 100 + 100 * 3 + 8 * 3)


def test_the_optimizer_has_a_row(measured):
    (row,) = (row for row in measured.rows() if row["operation"] == "Adam")
    assert (row["calls"], row["direction"], row["bound"]) == (3, "", "")


def test_layers_are_the_sums_of_their_rows(measured):
    layers = {row["layer"]: row for row in measured.layers()}
    expected = {"layers.0", "layers.1", "layers.2", "layers.3", "layers.4"}
    assert expected | {"CrossEntropy", "Adam", "outside of layers"} <= set(layers)
    rows = [row for row in measured.rows() if row["layer"] == "layers.0"]
    own = layers["layers.0"]
    assert own["seconds"] == pytest.approx(sum(row["seconds"] for row in rows))
    assert own["seconds"] == pytest.approx(own["forward"] + own["backward"])
    assert own["operations"] == sum(row["operations"] for row in rows)
    assert own["kind"] == "Conv2D"


def test_fit_is_measured_step_by_step():
    net, data = model(), sl.data.Dataset(X, Y)
    with profile(net) as found:
        sl.fit(net, sl.CrossEntropy(), sl.Adam(), data, epochs=3, callbacks=[])
    rows = found.rows()
    (conv,) = (row for row in rows if row["operation"] == "conv")
    assert (conv["calls"], conv["layer"]) == (3, "layers.0")
    assert conv["line"].startswith("test_profile.py:")
    assert found.wall == pytest.approx(sum(row["seconds"] for row in rows))


def test_the_limit_is_the_larger_of_two():
    most = Limits(operations=100.0, bytes=10.0)
    assert most.seconds(200, 10) == 2.0
    assert most.bound(200, 10) == "compute"
    assert most.seconds(200, 30) == 3.0
    assert most.bound(200, 30) == "memory"


def test_limits_are_measured_once():
    assert limits("float32") is limits("float32")
    assert limits("float64") is not limits("float32")
    assert min(*limits("float32"), *limits("float64")) > 1e8


def test_text_fits_a_terminal(measured):
    text = str(measured)
    assert max(map(len, text.splitlines())) <= 80
    for word in ("layers.0 (Conv2D)", "forward:", "backward:", "Python between calls"):
        assert word in text


def test_text_of_many_and_long_names_fits_too():
    class Deeply(nn.Layer):
        def __init__(self, depth):
            self.somewhere_within = Deeply(depth - 1) if depth else nn.Dense(2, 2)

        def forward(self, x):
            return sl.tanh(self.somewhere_within(x))

    net = Deeply(20).init(sl.Rng(0))
    with profile(net) as found:
        net(np.ones((2, 2), np.float32))
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("and ") and " more, " in line for line in lines)


def test_nothing_heard_is_a_profile_too():
    with profile() as found:
        pass
    assert "0 calls" in str(found)


def test_a_file_for_pstats_names_the_users_functions(tmp_path):
    net, path = model(), tmp_path / "step.prof"
    optimizer = sl.Adam().bind(net.parameters())
    with profile(net, cprofile=path):
        step(net, optimizer)
    functions = {name for _, _, name in pstats.Stats(str(path)).stats}
    assert {"step", "grad", "forward"} <= functions


def test_a_profile_ends_with_an_error_in_the_block():
    def fails():
        sl.exp(sl.Tensor([1.0]))
        raise ZeroDivisionError

    found = profile()
    with pytest.raises(ZeroDivisionError), found:
        fails()
    assert found.wall > 0
    sl.exp(sl.Tensor([1.0]))
    assert sum(row["calls"] for row in found.rows()) == 1


def test_every_primitive_of_ours_is_in_the_table_of_work():
    """Whoever adds a primitive says what it computes: in sillar/watch/work.py."""
    ours = {p.name for p in all_primitives() if p.forward.__module__[:7] == "sillar."}
    assert sorted(ours - set(OPERATIONS)) == []
    assert sorted(set(OPERATIONS) - ours) == []


def counted(name, static, out, *arrays):
    return operations(name, [np.empty(s) for s in arrays], static, np.empty(out))


def test_operations_of_products():
    window = nn.Conv2D(1, 1, kernel=3).window
    assert counted("matmul", {}, (5, 2, 3), (5, 2, 7), (5, 7, 3)) == 2 * 5 * 2 * 7 * 3
    letters = {"subscripts": "bij,bjk->bik"}
    assert counted("einsum", letters, (5, 2, 3), (5, 2, 7), (5, 7, 3)) == 420
    image, kernel, out = (2, 6, 6, 4), (3, 3, 4, 8), (2, 4, 4, 8)
    expected = 2 * math.prod(out) * 3 * 3 * 4
    assert counted("conv", {"window": window}, out, image, kernel) == expected
    assert counted("conv_input", {"window": window}, image, out, kernel) == expected
    assert counted("conv_weight", {"window": window}, kernel, image, out) == expected


def test_operations_of_the_rest():
    window = nn.MaxPool2D(2).window
    x, w, y, g = (5, 3, 7), (3 + 2 + 4, 16), (5, 4, 7), (5, 4, 7)
    assert counted("recurrent_keep", {}, (7, 99), x, w) == 2 * 9 * 16 * 5 * 7
    assert counted("recurrent", {}, y, x, w) == 2 * 9 * 16 * 5 * 7
    assert counted("recurrent", {}, y, x, w, (7, 99)) == 0
    assert counted("recurrent_slopes", {}, (7, 80), g, x, w) == 2 * 4 * 16 * 5 * 7
    assert counted("recurrent_input", {}, x, g, x, w) == 2 * 3 * 16 * 5 * 7
    assert counted("recurrent_weight", {}, w, g, x, w) == 2 * 9 * 16 * 5 * 7
    assert counted("tanh", {}, (3, 4), (3, 4)) == 12
    assert counted("sum", {}, (), (3, 4)) == 12
    assert counted("logsumexp", {}, (3,), (3, 4)) == 48
    assert counted("reshape", {}, (12,), (3, 4)) == 0
    assert counted("max_pool", {"window": window}, (1, 2, 2, 3), (1, 4, 4, 3)) == 48
    assert counted("max_unpool", {"window": window}, (1, 4, 4, 3), (1, 2, 2, 3)) == 48
    assert counted("unheard", {}, (3, 4), (3, 4), (3, 4)) == 12


def test_operations_of_attention():
    """As the products of matrices that it is made of (d = width / heads = 4)."""
    shapes = (2, 5, 24), (2, 1, 5, 5)
    scores = 2 * (2 * 2 * 5 * 5 * 4)  # batch 2, heads 2, 5 x 5 places
    softmax = 4 * (2 * 2 * 5 * 5)
    static = {"heads": 2, "causal": True}
    expected = 2 * scores + softmax
    assert counted("attention", static, (2, 5, 8), *shapes) == expected
    slope = counted("attention_slope", static, (2, 5, 24), (2, 5, 8), *shapes)
    assert slope == 5 * scores


def test_views_move_nothing_and_copies_do():
    x = np.ones((4, 6))
    assert moved("transpose", [x], x.T) == 0
    assert moved("getitem", [x], x[1:]) == 0
    assert moved("getitem", [x], x[[0, 1]]) == (24 + 12) * 8
    assert moved("reshape", [x.T], x.T.reshape(24)) == 2 * 24 * 8
    assert moved("multiply", [x, 2.0], x * 2.0) == 2 * 24 * 8


def test_unequal_work_at_one_place_is_counted_apart():
    with profile() as found:
        for n in (3, 5):
            ops.matmul(np.ones((2, n)), np.ones((n, 2)))
    (row,) = (row for row in found.rows() if row["operation"] == "matmul")
    assert (row["calls"], row["operations"]) == (2, 2 * 4 * 3 + 2 * 4 * 5)


def test_effects_are_named_by_whose_they_are():
    class Counter:
        def add(self, x):
            pass

    def note(n, x):
        pass

    x = sl.Tensor([1.0])
    with profile() as found:
        effect(Counter().add, x)
        effect(partial(note, 1), x)
        effect(lambda x: None, x)
    names = {row["operation"] for row in found.rows() if row["calls"]}
    assert {"Counter", "note", "<lambda>"} == names
