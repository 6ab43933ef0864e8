"""PyTorch's arrays against NumPy's: every primitive, and where the two differ."""

import numpy as np
import pytest

import sillar as sl
from sillar import nn
from sillar.backends import backend_of
from sillar.backends.indices import forwards
from sillar.backends.replay import Recorded
from sillar.core.compile import Compiled
from sillar.core.tape import Primitive, place
from sillar.errors import BackendError, DtypeError
from sillar.testing.cases.kernels import SAVED
from sillar.testing.cases.primitives import CASES, CONSTANT

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from sillar.backends.torch import TorchBackend  # noqa: E402

NUMPY, TORCH = backend_of(np.zeros(1)), TorchBackend()
ROWS = {
    name: case
    for name, case in (CASES | CONSTANT).items()
    if case[0] not in (place, *SAVED)
}
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}


def as_type(value, dtype):
    real = isinstance(value, np.ndarray) and value.dtype.kind == "f"
    return value.astype(dtype) if real else value


def on_torch(value):
    return TORCH.from_numpy(value) if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("op", "args", "static"), ROWS.values(), ids=ROWS)
def test_primitives_give_what_numpy_gives(op, args, static, dtype):
    args = [as_type(a, dtype) for a in args]
    expected = np.asarray(op.forward(NUMPY, *args, **static))
    got = TORCH.to_numpy(op.forward(TORCH, *map(on_torch, args), **static))
    close = TOLERANCE[dtype]
    np.testing.assert_allclose(expected, got, rtol=close, atol=close, strict=True)


OPERANDS = [
    np.array([True, True]),
    np.array([1, 2], "int32"),
    np.array([1, 2], "int64"),
    np.array([0.5, 2], "float32"),
    np.array([0.5, 2], "float64"),
    np.array(2.0),  # of no axes, yet not weak
    np.array(3),
]
SCALARS = [True, 3, 0.5]
BINARY = ("add", "multiply", "divide", "maximum", "minimum", "greater", "equal")


@pytest.mark.parametrize("name", BINARY)
def test_types_mix_as_in_numpy(name):
    for a in OPERANDS:
        for b in (*OPERANDS, *SCALARS):
            expected = getattr(np, name)(a, b)
            for x, y in ((a, b), (b, a)):
                got = TORCH.to_numpy(getattr(TORCH, name)(on_torch(x), on_torch(y)))
                assert expected.dtype == got.dtype, (a.dtype, b)
                np.testing.assert_allclose(getattr(np, name)(x, y), got, rtol=1e-6)


@pytest.mark.parametrize("name", ["exp", "log1p", "sqrt", "tanh", "sin"])
def test_functions_of_whole_numbers_are_float64(name):
    x = np.array([0, 1, 2])
    got = TORCH.to_numpy(getattr(TORCH, name)(on_torch(x)))
    np.testing.assert_allclose(getattr(np, name)(x), got, rtol=1e-12, strict=True)


def test_nan_passes_as_in_numpy():
    x = np.array([np.nan, -2.0, 0.0, 3.0])
    for name in ("sign", "isfinite", "abs", "max", "min", "argmax"):
        got = TORCH.to_numpy(getattr(TORCH, name)(on_torch(x)))
        np.testing.assert_array_equal(getattr(np, name)(x), got)
    got = TORCH.to_numpy(TORCH.maximum(on_torch(x), 0))
    np.testing.assert_array_equal(np.maximum(x, 0), got)


INDICES = [
    (slice(None, None, -1),),
    (slice(3, 0, -2), None, slice(None)),
    (Ellipsis, slice(None, None, -1)),
    (slice(1, 1, -1),),
    (0, slice(None, 1, -1), Ellipsis),
    (None, Ellipsis, slice(-1, None, -3), 1),
    (np.array([2, 0, 2]), slice(None, None, -1)),
    (np.array([-1, 0, -1]),),
    (np.arange(4) % 2 == 0, slice(None, None, -1)),
    (slice(None), np.array([[1], [0]]), np.array([0, 2])),
]


@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_indices_are_numpys(index):
    x = np.arange(60.0).reshape(4, 5, 3)
    got = TORCH.getitem(on_torch(x), index)
    np.testing.assert_array_equal(x[index], TORCH.to_numpy(got), strict=True)
    straight, axes = forwards(index, x.shape)
    np.testing.assert_array_equal(x[index], np.flip(x, axes)[straight])
    values = np.arange(1.0, 1 + x[index].size).reshape(x[index].shape)
    expected = np.zeros(x.shape)
    np.add.at(expected, index, values)
    got = TORCH.scatter_add(on_torch(values), index, x.shape)
    np.testing.assert_array_equal(expected, TORCH.to_numpy(got), strict=True)


def test_arrays_go_there_and_back():
    for dtype in ("float16", "float32", "float64", "int8", "int64", "uint64", "bool"):
        x = np.array([[0, 1], [1, 0]], dtype)
        got = TORCH.to_numpy(TORCH.from_numpy(x))
        np.testing.assert_array_equal(x, got, strict=True)
    half = pytest.importorskip("ml_dtypes").bfloat16
    x = np.array([1.5, -2.0], half)
    assert TORCH.from_numpy(x).dtype is torch.bfloat16
    np.testing.assert_array_equal(x, TORCH.to_numpy(TORCH.from_numpy(x)), strict=True)


def test_a_copy_shares_nothing_with_its_origin():
    x = np.zeros(3)
    TORCH.assign(TORCH.from_numpy(x), np.ones(3))
    assert x.sum() == 0


def test_wrong_devices_and_types_say_what_there_is():
    with pytest.raises(BackendError, match=r"expected one of the devices cpu.*'moon'"):
        TORCH.from_numpy(np.zeros(1), "moon")
    with pytest.raises(DtypeError, match=r"expected one of float16.*complex64"):
        TORCH.astype(TORCH.ones(1), "complex64")


KEY = np.array([5, 2**63 + 9], "uint64")


@pytest.mark.parametrize("kind", ["random_uniform", "random_normal"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_draws_on_the_host_are_numpys(kind, dtype):
    expected = getattr(NUMPY, kind)(KEY, (3, 2), dtype)
    got = getattr(TORCH, kind)(on_torch(KEY), (3, 2), dtype)
    np.testing.assert_array_equal(expected, TORCH.to_numpy(got), strict=True)


class Elsewhere(TorchBackend):
    """Draws as on a device that is not the host."""

    on_host = False


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_draws_on_a_device_depend_on_key_and_place_alone(dtype):
    away, other = Elsewhere(), np.array([5, 2**63 + 8], "uint64")
    for kind in ("random_uniform", "random_normal"):
        x = getattr(away, kind)(KEY, (200, 50), dtype)
        assert x.dtype is getattr(torch, dtype)
        assert torch.equal(x, getattr(away, kind)(KEY, (200, 50), dtype))
        assert not torch.equal(x, getattr(away, kind)(other, (200, 50), dtype))
        assert torch.equal(x[:2], getattr(away, kind)(KEY, (2, 50), dtype))
    uniform = away.random_uniform(KEY, (10_000,), dtype).numpy()
    assert 0 <= uniform.min() < 0.001 < 0.999 < uniform.max() <= 1
    assert abs(uniform.mean() - 0.5) < 0.02
    normal = away.random_normal(KEY, (10_000,), dtype).numpy()
    assert abs(normal.mean()) < 0.05
    assert abs(normal.std() - 1) < 0.03
    assert np.isfinite(normal).all()


class Calls:
    """A trace of y = x * 2 (recorded), an effect that notes y, z = y + c."""

    def __init__(self, noted, constant):
        double = Primitive(lambda xp, x, factor: xp.multiply(x, factor))
        plus = Primitive(lambda xp, x, y: xp.add(x, y))
        self.kinds = [None] * 4
        self.constants, self.arguments, self.outputs = {1: constant}, [0], [3]
        self.calls = [
            call(double, (0, (2.0,)), 2),
            call(None, (2,), None, lambda y: noted.append(float(y))),
            call(plus, (2, 1), 3),
        ]

    def live_calls(self):
        return self.calls


def call(primitive, inputs, output, effect=None):
    from sillar.core.trace import Call

    return Call(primitive, inputs, {}, output, effect)


class Memory(TorchDispatchMode):
    """Repeats the kernels of run() on the memory they had, as a CUDA graph does."""

    def __init__(self, run):
        super().__init__()
        self.kernels = []
        with self:
            run()

    def __torch_dispatch__(self, kernel, types, args=(), kwargs=None):
        out = kernel(*args, **(kwargs or {}))
        self.kernels.append((kernel, args, kwargs or {}, out))
        return out

    def replay(self):
        for kernel, args, kwargs, out in self.kernels:
            out.copy_(kernel(*args, **kwargs))


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("possible", [True, False])
def test_stretches_between_effects_are_recorded_where_they_can_be(possible, reuse):
    noted, made = [], []

    def record(run):
        made.append(run)
        return Memory(run).replay if possible else None

    trace = Calls(noted, torch.ones(()))
    step = Recorded(TORCH, trace, record, reuse=reuse)
    results = [float(step(torch.tensor(x))[0]) for x in (1.0, 2.0, 3.0, 4.0)]
    assert results == [3.0, 5.0, 7.0, 9.0]
    assert noted == [2.0, 4.0, 6.0, 8.0]
    assert len(made) == 1 + possible  # stretches, at the second call alone


def test_running_means_do_not_cut_a_step_in_stretches():
    model = nn.Sequential(nn.Dense(3, 4), nn.BatchNorm(4)).init(sl.Rng(0)).to("torch")
    found = []

    def rewrite(trace, backend):
        found.append(Recorded(backend, trace, lambda run: None, reuse=False))

    step = Compiled(lambda x, rng: model(x, rng=rng), rewrite=rewrite)
    before = model[1].running_mean.numpy().copy()
    step(torch.ones(5, 3), sl.Rng(0))
    assert len(found[0].stretches) == 1
    assert not np.array_equal(before, model[1].running_mean.numpy())
