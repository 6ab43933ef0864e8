"""How checks compare what is expected with what they got, and say where they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from sillar.core.tape import lift
from sillar.core.tensor import Tensor
from sillar.errors import GradientError, ShapeError, SillarError

EXACT = 1e-10  # two formulas for the same number in float64
ROUGH = 1e-4  # the same formula in float32 and in float64


def check_close(what: str, expected: Any, got: Any, tolerance: float) -> None:
    """Raise unless shapes are equal and values near, relative to the largest."""
    expected, got = lift(expected).numpy(), lift(got).numpy()
    if expected.shape != got.shape:
        raise ShapeError(f"{what}: expected shape {expected.shape}, got {got.shape}")
    scale = 1.0 + np.max(np.abs(expected), initial=0.0)
    worst = np.max(np.abs(expected - got), initial=0.0)
    if not worst <= tolerance * scale:
        raise GradientError(
            f"{what}: expected {expected.ravel()[:3]} to {tolerance:g}, got"
            f" {got.ravel()[:3]}, which differs by up to {worst:.3g}"
        )


def check_finite(what: str, value: Any) -> None:
    """Raise unless every number is finite."""
    if not np.all(np.isfinite(lift(value).numpy())):
        raise GradientError(f"{what}: expected finite numbers, got {value!r:.80}")


@contextmanager
def within(place: str) -> Iterator[None]:
    """Name the place in every error that passes."""
    try:
        yield
    except SillarError as error:
        error.trail.insert(0, place)
        raise


def cast(value: Any, dtype: Any) -> Tensor:
    """Return a new tensor, in `dtype` unless it holds whole numbers or truths."""
    raw = lift(value).numpy()
    return Tensor(raw.astype(dtype if raw.dtype.kind == "f" else raw.dtype))


def variable(value: Any, dtype: Any) -> Tensor:
    """Return `cast(value, dtype)`, tracked if it can have a gradient."""
    x = cast(value, dtype)
    x.requires_grad = x.dtype.kind == "f"
    return x


def ones_like(y: Tensor) -> Tensor:
    """Return ones of the shape and type of `y`."""
    return Tensor(np.ones_like(y.data))
