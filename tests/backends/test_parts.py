"""A step in parts, a thread or process each, computes what the whole step does."""

import os
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sillar as sl
from sillar import nn
from sillar.backends.numpy import parts, recurrent, team, threads
from sillar.backends.numpy.split import Cut, EntangledError, Given, Term, split
from sillar.core import normalization
from sillar.core.compile import compile
from sillar.errors import ConfigError
from sillar.nn import sweep

N = 12


CREWS = [(2, False), (3, False), (2, True), (3, True)]


@pytest.fixture(autouse=True, params=CREWS, ids=lambda crew: f"{crew[0]}-{crew[1]}")
def count(request, monkeypatch):
    """Cut every step, however small; by threads, then by processes."""
    monkeypatch.setattr(parts, "WORTH", 0)
    count, processes = request.param
    monkeypatch.setattr(threads._settings, "count", count)
    monkeypatch.setattr(threads._settings, "processes", processes)
    return count


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def near(expected, got, **tolerance):
    np.testing.assert_allclose(
        got.numpy(), expected.numpy(), **({"rtol": 2e-5, "atol": 2e-6} | tolerance)
    )


UNARY = (
    lambda x: sl.tanh(x),
    lambda x: sl.relu(x) - sl.sigmoid(x * 2.0),
    lambda x: x.T.reshape(*x.shape),
    lambda x: x[::-1],
    lambda x: x[:, ::-1],
    lambda x: x - x.mean(axis=0, keepdims=True),
    lambda x: x / (1.0 + sl.absolute(x).sum(axis=1, keepdims=True)),
    lambda x: x.reshape(N, 3, 1).transpose(1, 0, 2).reshape(3, N).T,
    lambda x: x.reshape(2, N // 2, 3).sum(axis=0, keepdims=True) + x.reshape(2, -1, 3),
    lambda x: sl.log_softmax(x, axis=1) * sl.logsumexp(x, axis=0),
    lambda x: sl.einsum("ij->ji", x).T * x.max(axis=1, keepdims=True),
    lambda x: x * x.sum() * 0.01,
    lambda x: sl.cumsum(x, axis=1)[:, None, :][..., 0, :],
)
BINARY = (
    lambda a, b: a + b,
    lambda a, b: sl.where(a > b, a, b) * sl.maximum(a, b),
    lambda a, b: (a @ b.T) @ b * 0.1,
    lambda a, b: a @ (a.T @ b) * 0.1,
    lambda a, b: sl.einsum("ni,nj->ij", a, b)[0] + b,
    lambda a, b: sl.concat(a, b)[3 : 3 + N],
    lambda a, b: sl.concat(a, b, axis=1)[:, 1:4],
    lambda a, b: (a.reshape(N, 1, 3) @ b.reshape(N, 3, 1)).reshape(N, 1) + a,
)
KINDS = len(UNARY) + len(BINARY) - 1
STEPS = st.lists(
    st.tuples(st.integers(0, KINDS), st.integers(0, 9), st.integers(0, 9)), max_size=12
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS, seed=st.integers(0, 3))
def test_random_graphs(steps, seed):
    def graph(a, b):
        values = [a, b]
        for kind, i, j in steps:
            x, y = values[i % len(values)], values[j % len(values)]
            many = kind >= len(UNARY)
            made = BINARY[kind - len(UNARY)](x, y) if many else UNARY[kind](x)
            values.append(sl.tanh(made.reshape(N, 3)))
        gradients = sl.grad(values[-1].sum(), [a, b]) if steps else []
        return values[-1], values[len(values) // 2], list(gradients)

    def step(a, b):
        return graph(*(sl.Tensor(x.data, requires_grad=True) for x in (a, b)))

    compiled = compile(step)
    for k in range(3):
        a, b = numbers(N, 3, seed=seed + k), numbers(N, 3, seed=seed + k + 9)
        expected, got = step(sl.Tensor(a), sl.Tensor(b)), compiled(a, b)
        near(expected[0], got[0])
        near(expected[1], got[1])
        for one, other in zip(expected[2], got[2], strict=True):
            near(one, other, rtol=1e-4, atol=1e-4)


LAYERS = (
    *(nn.Conv2D(2, 6, 3, groups=2), nn.BatchNorm(6), nn.ReLU(), nn.MaxPool2D(2)),
    *(nn.Conv2D(6, 4, 2), nn.GELU(), nn.AvgPool2D(2), nn.Flatten(), nn.Dropout(0.4)),
    *(nn.LayerNorm(16), nn.Dense(16, 3)),
)


def training(model):
    parameters, loss_of = model.parameters(), sl.CrossEntropy()
    # not Adam: it makes steps of the noise that is a bias's gradient before BatchNorm
    optimizer = sl.SGD(0.1, momentum=0.9).bind(parameters, transforms=[sl.ClipNorm(1)])

    def step(x, y, rng):
        outputs = model(x, rng=rng)
        loss = loss_of(outputs, y)
        optimizer.step(sl.grad(loss, parameters))
        return loss, {"outputs": outputs}

    return step


def test_a_whole_training_step():
    one = nn.Sequential(*LAYERS).init(sl.Rng(0))
    saved = {k: v.copy() for k, v in one.state().items()}
    plain, labels = training(one), np.arange(N) % 3
    losses = [
        plain(numbers(N, 12, 12, 2, seed=k), labels, sl.Rng(k))[0] for k in range(4)
    ]
    expected = {k: v.copy() for k, v in one.state().items()}
    one.load_state(saved)
    compiled = compile(training(one))
    for k, loss in enumerate(losses):
        near(loss, compiled(numbers(N, 12, 12, 2, seed=k), labels, sl.Rng(k))[0])
    for path, array in one.state().items():
        np.testing.assert_allclose(array, expected[path], rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("mask", ["argument", "constant", "shared", None])
def test_attention_and_its_masks(mask, heads):
    layer = nn.Attention(4, heads, causal=mask is None).init(sl.Rng(0))
    seen = np.random.default_rng(1).random((N, 5, 5)) < 0.7
    constant = {"constant": seen, "shared": seen[:1]}.get(mask)

    def step(x, *masks):
        y = layer(x, *(masks if constant is None else [constant]))
        return y, sl.grad((y * y).sum(), layer.parameters())

    given = [seen] if mask == "argument" else []
    compiled = compile(step)
    for seed in range(2):
        x = numbers(N, 5, 4, seed=seed)
        expected, slopes = step(sl.Tensor(x), *map(sl.Tensor, given))
        y, got = compiled(x, *given)
        near(expected, y)
        for path, slope in slopes.items():
            near(slope, got[path], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["batch_norm", "erf"])
def test_kernels_write_into_parts_that_do_not_lie_in_order(name):
    """Cut along the second axis, what a part has of the result is not one piece."""

    def step(x):
        z = (x.reshape(N, 3, 1) + x.reshape(N, 1, 3)).transpose(1, 0, 2)
        if name == "erf":
            return sl.erf(z)
        centre, spread, _ = normalization.channel_statistics(z)
        return normalization.batch_norm(z, 1.0, 0.5, centre, spread, eps=0.1)

    compiled = compile(step)
    for seed in range(2):
        x = numbers(N, 3, seed=seed)
        near(step(sl.Tensor(x)), compiled(x))


def test_it_really_runs_in_parts(count, monkeypatch):
    seen = []
    if threads.processes():
        kind, name, more = team.Team, "advance", 1
    else:
        kind, name, more = threads._Pool, "run", 0
    original = getattr(kind, name)

    def run(self, given):
        seen.append(len(self.members) + more if more else len(given))
        return original(self, given)

    monkeypatch.setattr(kind, name, run)
    compiled = compile(lambda x: sl.tanh(x) @ numbers(3, 5))
    x = numbers(N, 3)
    compiled(x)
    near(sl.tanh(x) @ numbers(3, 5), compiled(x))
    assert set(seen) == {count}


def test_replays_give_the_same_bits():
    compiled = compile(training(nn.Sequential(*LAYERS).init(sl.Rng(0))))
    x, y = numbers(N, 12, 12, 2), np.arange(N) % 3
    compiled(x, y, sl.Rng(0))
    again = compile(lambda x: (x.T @ sl.tanh(x)).sum(axis=0) + x.mean())
    x = numbers(N, 300)
    again(x)
    first = again(x).numpy()
    for _ in range(20):
        assert np.array_equal(first, again(x).numpy())


def test_an_error_in_a_part_reaches_the_caller_and_nothing_is_stuck():
    compiled = compile(lambda x: sl.log(x) * 2.0)
    good = np.abs(numbers(N, 3)) + 1
    expected = compiled(good).numpy()
    for place in (0, N - 1):
        bad = good.copy()
        bad[place] = -1
        with np.errstate(invalid="raise"), pytest.raises(FloatingPointError):
            compiled(bad)
        with np.errstate(invalid="ignore"):  # it is the caller's that counts
            assert np.isnan(compiled(bad).numpy()[place]).all()
        assert np.array_equal(expected, compiled(good).numpy())


def test_calls_from_several_threads_wait_for_one_another():
    compiled = compile(lambda x: sl.tanh(x) @ x.T)
    xs = [numbers(N, 40, seed=k) for k in range(8)]
    compiled(xs[0])  # traced: computed whole, and rounded as that is
    expected = [compiled(x).numpy() for x in xs]
    failures = []

    def work(k):
        for _ in range(20):
            if not np.array_equal(compiled(xs[k]).numpy(), expected[k]):
                failures.append(k)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert not failures


@pytest.mark.filterwarnings("ignore:os.fork")  # of JAX, if a test has loaded it
def test_a_forked_child_starts_threads_of_its_own():
    compiled = compile(lambda x: sl.tanh(x) * 2.0)
    x = numbers(N, 3)
    compiled(x)
    expected = compiled(x).numpy()
    child = os.fork()
    if child == 0:
        same = False
        try:
            same = np.array_equal(expected, compiled(x).numpy())
        finally:
            os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_the_number_of_threads_is_checked():
    for wrong in (0, -1, 1.5, "2", True):
        with pytest.raises(ConfigError, match="set_threads: expected an integer >= 1"):
            sl.set_threads(wrong)


RECURRENT = (
    nn.LSTM(3, 4, layers=2, bidirectional=True, dropout=0.2),
    *(nn.GRU(8, 5, bias=False), nn.GRU(5, 4, bidirectional=True, last=True)),
    nn.Dense(8, 3),
)


def test_recurrent_layers(monkeypatch):
    monkeypatch.setattr(recurrent, "BLOCK", 3)
    model = nn.Sequential(*RECURRENT).init(sl.Rng(0))
    parameters = model.parameters()

    def step(x, y, rng):
        outputs = model(x, rng=rng)
        return outputs, sl.grad(sl.CrossEntropy()(outputs, y), parameters)

    compiled = compile(step)
    for k in range(3):
        batch = numbers(N, 6, 3, seed=k), np.arange(N) % 3, sl.Rng(k)
        expected, got = step(*batch), compiled(*batch)
        near(expected[0], got[0])
        for path in parameters:
            near(expected[1][path], got[1][path])


def test_a_sweep_whose_gradient_mixes_the_batch():
    mix = numbers(N, 4, N)

    def step(x, w):
        y = sweep.recurrent(x.transpose(1, 2, 0), w, cell="gru")
        return y, sl.grad((sl.einsum("thb,bhc->thc", y, mix) ** 2).sum(), w)

    def variables(x, w):
        return step(x, sl.Tensor(w.data, requires_grad=True))

    x, w = numbers(N, 2, 3), numbers(9, 12, seed=1)
    compiled = compile(variables)
    for _ in range(2):
        for one, other in zip(
            variables(sl.Tensor(x), sl.Tensor(w)), compiled(x, w), strict=True
        ):
            near(one, other, rtol=1e-4, atol=1e-4)


STATES = [Cut(2), Cut(2), None, Cut(0), Cut(0)]


def test_kernels_of_sweeps_are_in_parts():
    def cut(name, states):
        return split(name, Given(4, states, [], (3, 2, 4), {"cell": "lstm"}))

    assert cut("recurrent_keep", STATES[1:3]).state == Cut(0)
    assert cut("recurrent", STATES[1:4]).state == Cut(2)
    assert cut("recurrent", STATES[1:3]).state == Cut(2)
    assert cut("recurrent_slopes", STATES[:4]).state == Cut(0)
    assert cut("recurrent_input", STATES).state == Cut(2)
    assert cut("recurrent_weight", STATES).state == Term()
    for wrong in ([Cut(1), None], [Cut(2), Cut(1)]):
        assert cut("recurrent_keep", wrong) is None
    for wrong in (Term(), Cut(1)):
        with pytest.raises(EntangledError):
            cut("recurrent_slopes", [wrong, *STATES[1:4]])


def placed(step, *args):
    """Return the names of what a step does in parts, and of what in between."""
    trace, seen = [], {}
    schedule = parts._Schedule

    class Spy(schedule):
        def __init__(self, *given):
            super().__init__(*given)
            trace.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "_Schedule", Spy)
        compile(step)(*args)
    for stage, calls in trace[0].stages.items():
        names = {p.call.primitive.name for p in calls if p.call.primitive}
        seen.setdefault(stage % 2, set()).update(names)
    return seen[1], seen[0]


def test_normalisation_by_the_batch_is_done_in_parts_too():
    model = nn.Sequential(nn.Conv2D(2, 4, 3), nn.BatchNorm(4), nn.ReLU(), nn.Flatten())
    model = model.init(sl.Rng(0))

    def step(x, rng):
        y = model(x, rng=rng)
        return sl.grad((y * y).sum(), model.parameters())

    in_parts, between = placed(step, numbers(N, 8, 8, 2), sl.Rng(0))
    assert {"batch_norm", "batch_norm_input", "conv_weight"} <= in_parts
    assert not {"batch_norm", "batch_norm_input", "conv"} & between


def test_a_transposed_weight_is_looked_at_where_it_lies():
    model = nn.Sequential(nn.Dense(8, 6), nn.Tanh(), nn.Dense(6, 3)).init(sl.Rng(0))

    def step(x):
        return sl.grad(model(x).sum(), model.parameters())

    in_parts, between = placed(step, numbers(N, 8))
    assert "transpose" not in between
    assert "matmul" in in_parts
