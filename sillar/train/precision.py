"""In which numbers a run computes and stores, as one setting of `fit`."""

from __future__ import annotations

from typing import Any

from sillar.backends import Backend
from sillar.backends.half import HALVES, rewrite
from sillar.errors import ConfigError
from sillar.optim import LossScale, Transform

PRECISIONS = ("float32", "float64", *HALVES)


def checked(owner: str, precision: Any) -> str:
    """Return the name of a precision if it is one."""
    if precision not in PRECISIONS:
        raise ConfigError(
            f"{owner}: precision must be one of {', '.join(PRECISIONS)}, got"
            f" {precision!r:.40}"
        )
    return str(precision)


def rewriting(precision: str) -> Any:
    """Return what changes a traced step so that it stores halves; None for others."""
    if precision not in HALVES:
        return None
    return lambda trace, backend: rewrite(trace, precision, backend)


def scaled(precision: str, transforms: tuple[Transform, ...]) -> tuple[Transform, ...]:
    """Return the transforms, a loss scale before them where float16 needs one."""
    if precision != "float16" or loss_scale(transforms) is not None:
        return transforms
    return LossScale(), *transforms


def loss_scale(transforms: tuple[Transform, ...]) -> LossScale | None:
    """Return the loss scale among the transforms, if there is one."""
    return next((t for t in transforms if isinstance(t, LossScale)), None)


def note(precision: str, backend: Backend) -> str:
    """Return what the user should know of how the device computes, or nothing."""
    if precision not in HALVES or backend.fast_half:
        return ""
    return (
        f"{precision}: {backend.name} has no fast arithmetic in 16 bits here, so it"
        " stores in 16 bits what the backward pass needs, and computes in 32"
    )
