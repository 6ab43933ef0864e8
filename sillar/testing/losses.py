"""What every loss promises, held against one of yours."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from sillar.core.grad import grad
from sillar.core.tensor import Tensor
from sillar.errors import DtypeError, ShapeError
from sillar.nn.losses import REDUCTIONS, Loss
from sillar.testing.compare import (
    EXACT,
    ROUGH,
    cast,
    check_close,
    check_finite,
    ones_like,
    variable,
    within,
)
from sillar.testing.gradients import check_rules, check_variables


def check_loss(loss: Loss, prediction: Any, target: Any) -> None:
    """Raise unless a copy of `loss` keeps the promises of a loss on these arguments.

    In each reduction: `gradient` is the derivative of `compute` to 1e-10, both match
    differences up to second order, and float32 stays float32. Reduced, a loss is a
    scalar; it is the sum of the elements for "sum"; and an empty batch has one.
    The values lie away from kinks.
    """
    prediction, target = variable(prediction, "float64"), cast(target, "float64")
    for reduction in REDUCTIONS:
        trial = _with(loss, reduction)
        with within(f"{type(loss).__name__} with reduction {reduction!r}"):
            _check_gradient(trial, prediction, target)
            _check_single(trial, prediction, target)
            if reduction != "none":
                _check_scalar(trial, prediction, target)
    total = _with(loss, "none").compute(prediction, target).sum()
    summed = _with(loss, "sum").compute(prediction, target)
    with within(type(loss).__name__):
        check_close("compute: the sum of the elements", total, summed, EXACT)


def _with(loss: Loss, reduction: str) -> Loss:
    trial = copy.deepcopy(loss)
    trial.reduction = reduction
    return trial


def _check_gradient(loss: Loss, prediction: Tensor, target: Tensor) -> None:
    y = loss.compute(prediction, target)
    expected = grad(y, prediction, cotangents=ones_like(y))
    check_close("gradient", expected, loss.gradient(prediction, target), EXACT)
    variables = {"the prediction": prediction}
    check_variables(lambda: loss.compute(prediction, target), variables, order=2)
    check_variables(lambda: loss.gradient(prediction, target), variables, order=1)


def _check_single(loss: Loss, prediction: Tensor, target: Tensor) -> None:
    p, t = variable(prediction, "float32"), cast(target, "float32")
    for name, f in {"compute": loss.compute, "gradient": loss.gradient}.items():
        got = f(p, t)
        if got.dtype != np.float32:
            raise DtypeError(f"{name}: expected float32 from float32, got {got.dtype}")
        check_close(f"{name} in float32", f(prediction, target), got, ROUGH)
    check_rules(loss.compute(p, t))


def _check_scalar(loss: Loss, prediction: Tensor, target: Tensor) -> None:
    y = loss.compute(prediction, target)
    if y.shape != ():
        raise ShapeError(f"compute: expected a scalar, got shape {y.shape}")
    if prediction.ndim:
        check_finite(
            "compute of an empty batch", loss.compute(prediction[:0], target[:0])
        )
