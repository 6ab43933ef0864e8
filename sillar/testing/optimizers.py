"""What every optimizer promises, held against yours."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sillar.core.parameter import Parameter, Parameters
from sillar.core.rng import Rng
from sillar.errors import ConfigError, DtypeError, GradientError, ShapeError
from sillar.nn.initializers import zeros
from sillar.optim.optimizer import BLOCK, Optimizer
from sillar.testing.compare import check_finite, within

Maker = Callable[[], Optimizer]
DTYPES = ("float32", "float64")
STEPS = 3


def check_optimizer(make: Maker) -> None:
    """Raise unless the optimizers that `make()` returns keep their promises.

    `make` returns a new one at each call. The vector is moved in place and keeps its
    type, as the state does; the rule is elementwise, so that blocks of a vector move as
    they do alone; a saved state resumes to the same bits; a gradient of zeros, or an
    empty vector, does no harm; and the first step along p = g is not uphill.
    """
    optimizer = make()
    if optimizer is make():
        raise ConfigError(
            f"expected make() to return a new optimizer, got {optimizer!r}"
        )
    with within(f"{optimizer!r}"):
        for dtype in DTYPES:
            _check_types(make, dtype)
            _check_resumes(make, dtype)
            _check_blocks(make, dtype)
            _check_zero_gradient(make, dtype)
            _check_empty(make, dtype)
            _check_downhill(make, dtype)


def _draws(count: int, size: int, dtype: str) -> list[Any]:
    return [Rng(0).split("draw", i).normal((size,), dtype) for i in range(count)]


def _bound(make: Maker, values: Any) -> Optimizer:
    parameters = Parameters({"p": Parameter(values.shape, zeros)})
    parameters.lay_out(values.dtype, lambda path, p: values)
    return make().bind(parameters)


def _run(optimizer: Optimizer, gradients: Sequence[Any]) -> Any:
    """Return the parameters after one step for each gradient."""
    for g in gradients:
        optimizer.step(g)
    return optimizer.params.vector.copy()


def _check_types(make: Maker, dtype: str) -> None:
    values, *gradients = _draws(1 + STEPS, 5, dtype)
    optimizer = _bound(make, values)
    before = optimizer.params.vector
    _run(optimizer, gradients)
    if optimizer.params.vector is not before:
        raise ConfigError("step: expected the vector to be moved in place, got another")
    arrays = {k: a for k, a in optimizer.state().items() if k.startswith("rule.")}
    for name, array in {"the parameters": before, **arrays}.items():
        if array.dtype != dtype:
            raise DtypeError(f"step: expected {name} in {dtype}, got {array.dtype}")


def _check_blocks(make: Maker, dtype: str) -> None:
    values, *gradients = _draws(1 + STEPS, BLOCK + 7, dtype)
    parts = [
        _run(_bound(make, values[part]), [g[part] for g in gradients])
        for part in (slice(1000), slice(1000, None))
    ]
    expected, got = np.concatenate(parts), _run(_bound(make, values), gradients)
    different = np.flatnonzero(expected != got)
    if different.size:
        raise GradientError(
            "update: expected a vector to move as its parts do, got"
            f" {different.size} other elements, the first at {different[0]}: a rule"
            " must be elementwise"
        )


def _check_resumes(make: Maker, dtype: str) -> None:
    values, *gradients = _draws(1 + 2 * STEPS, 5, dtype)
    first = _bound(make, values)
    halfway, saved = _run(first, gradients[:STEPS]), first.state()
    kept = copy.deepcopy(saved)
    expected = _run(first, gradients[STEPS:])
    if any(not np.array_equal(kept[name], saved[name]) for name in kept):
        raise ConfigError("state: expected a copy, got arrays that later steps change")
    second = _bound(make, halfway)
    second.load_state(saved)
    got = _run(second, gradients[STEPS:])
    if not np.array_equal(expected, got):
        raise ConfigError(
            f"load_state(state()): expected to resume to {expected[:3]}, got {got[:3]}:"
            " keep what update needs in the state"
        )


def _check_zero_gradient(make: Maker, dtype: str) -> None:
    (values,) = _draws(1, 5, dtype)
    after = _run(_bound(make, values), [np.zeros_like(values)] * STEPS)
    check_finite("step: parameters after gradients of zeros", after)


def _check_empty(make: Maker, dtype: str) -> None:
    (nothing,) = _draws(1, 0, dtype)
    after = _run(_bound(make, nothing), [nothing] * STEPS)
    if after.shape != (0,):
        raise ShapeError(f"step: expected an empty vector to stay, got {after.shape}")


def _check_downhill(make: Maker, dtype: str) -> None:
    (values,) = _draws(1, 5, dtype)
    moved = _run(_bound(make, values), [values]) - values
    if not float(moved @ values) <= 0:
        raise GradientError(
            f"step: expected no move along the gradient {values[:3]}, got {moved[:3]}:"
            " the sign of update is wrong"
        )
