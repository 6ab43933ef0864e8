"""What every back end promises, held against one of yours: NumPy's numbers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from sillar import optim
from sillar.backends import Backend, backend_of, load
from sillar.core.rng import Rng
from sillar.core.tape import Primitive, place
from sillar.core.tensor import Tensor
from sillar.errors import BackendError, ConfigError, GradientError, ShapeError
from sillar.optim import Optimizer
from sillar.testing.cases.primitives import CONSTANT
from sillar.testing.compare import check_close, within
from sillar.testing.layers import Trial
from sillar.testing.orders import fields
from sillar.testing.subjects import Case, subjects

TOLERANCES = {"float64": 1e-9, "float32": 1e-4}
ORDER = 2
STEPS = 5
NUMPY = backend_of(np.zeros(1))
DRAWS = ("random_uniform", "random_normal")

Check = Callable[[], None]


def check_backend(
    backend: str | Backend,
    *,
    only: Iterable[str] | None = None,
    dtypes: Iterable[str] = tuple(TOLERANCES),
) -> None:
    """Raise unless a back end gives NumPy's numbers, to second order.

    It is given by name, or as an object that `register` knows. Every primitive, layer,
    loss and optimizer runs on it, or those named `only`, in each of the `dtypes` and in
    shapes that are plain, broadcast, strided, of size 1 and empty: outputs and
    gradients of first and second order stay on the back end, keep their type, and are
    NumPy's, to 1e-9 in float64 and 1e-4 in float32, relative to the largest. Masks of
    dropout are drawn on the host.
    """
    kinds = list(dtypes)
    if not kinds or set(kinds) - set(TOLERANCES):
        raise ConfigError(
            f"check_backend: expected some of {list(TOLERANCES)}, got {kinds}"
        )
    found = checks(load(backend) if isinstance(backend, str) else backend, kinds)
    names = list(found) if only is None else list(only)
    unknown = [name for name in names if name not in found]
    if unknown:
        raise ConfigError(
            f"check_backend: expected names of primitives, layers, losses and"
            f" optimizers, got {unknown}"
        )
    for name in names:
        found[name]()


def checks(
    backend: Backend,
    dtypes: Iterable[str] = tuple(TOLERANCES),
    most: int | None = None,
) -> dict[str, Check]:
    """Return the check of each primitive, layer, loss and optimizer, by name.

    With `most` there are so many cases of each shape, and not all.
    """
    found: dict[str, Check] = {}
    for subject in subjects():
        if subject.cases and subject.name != place.name:  # which leaves the back end
            found[subject.name] = partial(
                _check_subject, backend, subject, dtypes, most
            )
    for name, (op, args, static) in CONSTANT.items():
        check = _check_draws if name in DRAWS else _check_constant
        found[name] = partial(check, backend, op, args, static)
    for name, kind in inspect.getmembers(optim, _is_rule):
        found[name] = partial(_check_rule, backend, kind, dtypes)
    return found


def _is_rule(kind: Any) -> bool:
    """Say whether this is an optimizer that can be made."""
    optimizer = inspect.isclass(kind) and issubclass(kind, Optimizer)
    return optimizer and not inspect.isabstract(kind)


def _check_subject(
    backend: Backend, subject: Any, dtypes: Iterable[str], most: int | None
) -> None:
    for shape, cases in subject.cases.items():
        for dtype in dtypes:
            for case in cases[:most]:
                where = f"{backend.name}, {subject.name}, {shape}, {dtype}"
                with within(where), draws_of_the_host(backend):
                    _check_case(backend, case, dtype, TOLERANCES[dtype])


def _check_case(backend: Backend, case: Case, dtype: str, tolerance: float) -> None:
    f, variables = case.make(dtype)
    try:
        expected = f()
    except ShapeError:
        if case.may_refuse:
            return
        raise
    slopes = fields(*case.make(dtype), ORDER)
    f, variables = case.make(dtype)
    _move(backend, f, variables)
    got = f()
    _check_home(backend, got, expected)
    check_close("the output", expected, backend.to_numpy(got.data), tolerance)
    for order, (a, b) in enumerate(
        zip(slopes, fields(f, variables, ORDER), strict=True), start=1
    ):
        for name in a:
            what = f"the gradient of order {order} for {name}"
            if a[name].dtype != b[name].dtype:
                raise GradientError(
                    f"{what}: expected {a[name].dtype}, got {b[name].dtype}"
                )
            check_close(what, a[name], b[name], tolerance)


def _move(backend: Backend, f: Any, variables: Any) -> None:
    """Move the variables to the back end, and a layer's buffers."""
    buffers = f.layer.buffers().values() if isinstance(f, Trial) else ()
    for x in (*variables.values(), *buffers):
        x.data = backend.from_numpy(x.data)


def _check_home(backend: Backend, got: Tensor, expected: Tensor) -> None:
    """Raise unless the output lies on the back end, in NumPy's type."""
    if not isinstance(got.data, backend.array_types):
        kind = type(got.data).__qualname__
        raise BackendError(f"expected an output on {backend.name}, got {kind}")
    if got.dtype != expected.dtype:
        raise BackendError(f"expected {expected.dtype}, got {got.dtype}")


@contextmanager
def draws_of_the_host(backend: Backend) -> Iterator[None]:
    """Let a back end draw NumPy's numbers, to compare what is made of them."""
    kept = {name: vars(backend).get(name) for name in DRAWS}

    def drawn(name: str, key: Any, shape: Any, dtype: str) -> Any:
        words = backend.to_numpy(key) if backend_of(key) is backend else key
        return backend.from_numpy(getattr(NUMPY, name)(words, shape, dtype))

    vars(backend).update({name: partial(drawn, name) for name in DRAWS})
    try:
        yield
    finally:
        for name, function in kept.items():
            del vars(backend)[name]
            vars(backend).update({name: function} if function else {})


def _placed(backend: Backend, args: Iterable[Any]) -> list[Any]:
    return [
        Tensor(backend.from_numpy(a)) if isinstance(a, np.ndarray) else a for a in args
    ]


def _check_constant(backend: Backend, op: Primitive, args: Any, static: Any) -> None:
    with within(f"{backend.name}, {op.name}"):
        expected, got = op(*args, **static), op(*_placed(backend, args), **static)
        _check_home(backend, got, expected)
        same = np.array_equal(expected.numpy(), backend.to_numpy(got.data))
        if not same:
            raise BackendError(f"expected {expected!r}, got {got!r}")


def _check_draws(backend: Backend, op: Primitive, args: Any, static: Any) -> None:
    """Raise unless equal keys draw equal numbers, other keys others, in range."""
    static = static | {"shape": (40, 50)}
    with within(f"{backend.name}, {op.name}"):
        (key,), (other,) = _placed(backend, args), _placed(backend, [args[0] + 1])
        first, again, others = (op(k, **static) for k in (key, key, other))
        _check_home(backend, first, op(*args, **static))
        x, y, z = (backend.to_numpy(a.data) for a in (first, again, others))
        uniform = op.name == "random_uniform"
        mean, spread = (0.5, 12**-0.5) if uniform else (0.0, 1.0)
        right = (
            np.array_equal(x, y) and not np.any(x == z),
            abs(x.mean() - mean) < 0.1 and abs(x.std() - spread) < 0.1,
            not uniform or (x.min() >= 0 and x.max() < 1),
        )
        if not all(right):
            raise BackendError(
                "expected equal numbers for equal keys, others for other keys, of mean"
                f" {mean:g} and deviation {spread:.3g}, got {x.ravel()[:3]}"
            )


def _check_rule(
    backend: Backend, kind: Callable[..., Optimizer], dtypes: Iterable[str]
) -> None:
    """Raise unless an optimizer's rule moves arrays of the back end as NumPy's."""
    for dtype in dtypes:
        p, *gradients = (
            Rng(0).split("draw", i).normal((7,), dtype) for i in range(1 + STEPS)
        )
        ends = []
        for home in (NUMPY, backend):
            rule, moved = kind(lr=0.1), home.from_numpy(p)
            state = rule.init(moved)
            for t, g in enumerate(gradients, start=1):
                moved, state = rule.update(moved, home.from_numpy(g), state, 0.1, t)
            ends.append(Tensor(moved))
        with within(f"{backend.name}, {kind.__name__}, {dtype}"):
            expected, got = ends
            _check_home(backend, got, expected)
            moved = backend.to_numpy(got.data)
            check_close("the parameters", expected, moved, TOLERANCES[dtype])
