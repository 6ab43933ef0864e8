"""JAX's arrays: cells that can be written to, and steps as one XLA program."""

import numpy as np
import pytest

import sillar as sl
from sillar import nn
from sillar.backends import load
from sillar.errors import BackendError

jax = pytest.importorskip("jax")
JAX = load("jax")


def cell(*values):
    return JAX.from_numpy(np.array(values, "float32"))


def test_a_view_is_a_stretch_of_its_cell():
    vector = cell(0, 1, 2, 3, 4, 5)
    matrix = vector[2:6].reshape(2, 2)
    assert matrix.shape == (2, 2)
    matrix[:] = JAX.from_numpy(np.array([[7.0, 8], [9, 10]]))
    assert np.array_equal(np.asarray(vector), [0, 1, 7, 8, 9, 10])
    vector[3:4] = 0.5
    assert np.array_equal(np.asarray(matrix), [[7, 0.5], [9, 10]])
    assert JAX.address(matrix) == JAX.address(vector) + 2 * vector.itemsize
    assert matrix.dtype == np.float32


def test_parameters_are_views_of_their_vector():
    model = nn.Sequential(nn.Dense(3, 2), nn.Dense(2, 1)).init(sl.Rng(0)).to("jax")
    parameters = model.parameters()
    parameters.vector[:] = np.arange(11, dtype="float32")
    assert np.array_equal(np.asarray(model[1].bias.data), [10])
    again = model.parameters().vector
    assert JAX.address(parameters.vector) == JAX.address(again)


def test_operators_mix_types_as_numpy_does():
    whole, real = JAX.from_numpy(np.array([1, 2])), cell(0.5, 0.25)
    assert (whole + real).dtype == np.float64
    assert (real * 2.0).dtype == np.float32
    assert (whole / 2).dtype == np.float64
    assert (1 - real).dtype == np.float32
    assert np.array_equal(np.asarray(np.float32(2) * real), [1, 0.5])
    assert np.array_equal(np.asarray(-real < 0), [True, True])
    assert float(cell(3.0)[0]) == 3


def training():
    """Return a step with running statistics, and its model."""
    model = nn.Sequential(nn.Dense(4, 3), nn.BatchNorm(3), nn.Dense(3, 2))
    model.init(sl.Rng(0)).to("jax")
    parameters, loss = model.parameters(), sl.CrossEntropy()

    def step(x, y, rng):
        found = loss(model(x, rng=rng), y)
        return found, sl.grad(found, parameters)

    return step, model


X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
Y = np.arange(6) % 2


def test_a_compiled_step_is_one_program_and_nothing_is_moved_in_it():
    step, model = training()
    compiled = sl.compile(step)
    given = JAX.from_numpy(X), JAX.from_numpy(Y), sl.Rng(1)
    compiled(*given)  # traced
    compiled(*given)  # made by XLA
    statistics = next(iter(model.buffers().values()))
    before = np.asarray(statistics.data)
    (plan,) = compiled._plans.values()
    program = plan.run.model.program
    assert program._cache_size() == 1
    x, y = sl.Tensor(given[0]), sl.Tensor(given[1])
    with jax.transfer_guard_device_to_host("disallow"):
        for _ in range(3):
            loss, _ = compiled(x, y, given[2])
    assert program._cache_size() == 1
    assert np.isfinite(float(loss))
    assert not np.array_equal(
        before, np.asarray(next(iter(model.buffers().values())).data)
    )
    compiled(*(JAX.from_numpy(a[:4]) for a in (X, Y)), sl.Rng(1))
    assert len(compiled._plans) == 2  # another shape is another program


def test_equal_traces_share_a_program():
    step, _ = training()
    first, again = sl.compile(step), sl.compile(step)
    given = JAX.from_numpy(X), JAX.from_numpy(Y), sl.Rng(1)
    for compiled in (first, again, first, again):
        compiled(*given)
    plans = [plan for c in (first, again) for plan in c._plans.values()]
    assert plans[0].run.model is plans[1].run.model


def test_a_compiled_step_gives_what_it_gives_eagerly():
    results = []
    for make in (sl.compile, lambda step: step):
        step, model = training()
        run = make(step)
        losses = [float(run(X, Y, sl.Rng(k))[0]) for k in range(4)]
        results.append((losses, np.asarray(next(iter(model.buffers().values())).data)))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-5)


def test_draws_depend_on_all_of_a_key():
    keys = [np.array(k, "uint64") for k in ([1, 2], [1, 3], [2**40, 2], [1, 2**40])]
    draws = [np.asarray(JAX.random_normal(k, (5,), "float32")) for k in keys]
    assert len({d.tobytes() for d in draws}) == 4
    again = np.asarray(JAX.random_normal(keys[0], (5,), "float32"))
    assert np.array_equal(again, draws[0])


def test_a_device_that_is_not_there_is_told():
    with pytest.raises(BackendError, match="expected one of the devices cpu"):
        JAX.from_numpy(X, "tpu")
    assert np.array_equal(np.asarray(JAX.from_numpy(X, "cpu")), X)


@pytest.mark.parametrize(
    "index",
    [(3,), (-4,), (np.array([0, 3]),), (slice(None), np.array([[2]])), (..., -3)],
)
def test_an_index_out_of_range_is_refused_as_by_numpy(index):
    x = np.arange(6.0).reshape(3, 2)
    with pytest.raises(IndexError) as expected:
        x[index]
    placed = tuple(
        JAX.from_numpy(part) if isinstance(part, np.ndarray) else part for part in index
    )
    with pytest.raises(IndexError) as found:
        JAX.getitem(JAX.from_numpy(x), placed)
    assert str(found.value) == str(expected.value)


def test_an_index_out_of_range_within_a_program_gives_nan():
    table = sl.Tensor(JAX.from_numpy(np.arange(4.0)))
    step = sl.compile(lambda i: table[i] * 1.0)
    step(sl.Tensor(JAX.from_numpy(np.array([0, 1]))))
    found = step(sl.Tensor(JAX.from_numpy(np.array([-1, 7])))).numpy()
    assert np.array_equal(found, [3, np.nan], equal_nan=True)
