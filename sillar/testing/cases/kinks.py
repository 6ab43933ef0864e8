"""Points without a derivative: what stands in the docstring, and an example of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from sillar import nn
from sillar.backends import Window
from sillar.core import functional, ops


class Kink(NamedTuple):
    """The words of a docstring, and the derivative of sum(f(x)) at one x."""

    documented: Any
    says: str
    f: Callable[[Any], Any]
    at: list[float]
    slopes: list[float]


def _loss(loss: nn.Loss, target: float = 0.0) -> Callable[[Any], Any]:
    return lambda x: loss.compute(x, np.full(x.shape, target))


def _image(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return f of an image of one row and one channel."""
    return lambda x: f(ops.reshape(x, shape=(1, 1, -1, 1)))


def _series(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return f of a series of one channel."""
    return lambda x: f(ops.reshape(x, shape=(1, -1, 1)))


HUBER = nn.Huber(0.5, reduction="sum")
SHARE = "equal values share the gradient"
FIRST = "of equal ones the first has the gradient"
GLOBAL = "equal ones share the gradient"
TIE = ([2.0, 2.0, 1.0], [0.5, 0.5, 0.0])
TIE_FIRST = ([2.0, 2.0, 1.0], [1.0, 0.0, 0.0])
AT_0 = "the derivative at 0 is 0"
SLOPE = "the derivative at 0 is `slope`"
ALPHA = "the derivative at 0 is `alpha`"

KINKS = {
    "relu": Kink(ops.relu, AT_0, ops.relu, [0.0], [0.0]),
    "ReLU": Kink(nn.ReLU, AT_0, nn.ReLU(), [0.0], [0.0]),
    "leaky_relu": Kink(
        *(functional.leaky_relu, SLOPE),
        *(lambda x: functional.leaky_relu(x, 0.25), [0.0], [0.25]),
    ),
    "LeakyReLU": Kink(nn.LeakyReLU, SLOPE, nn.LeakyReLU(0.25), [0.0], [0.25]),
    "elu": Kink(
        *(functional.elu, ALPHA, lambda x: functional.elu(x, 0.5), [0.0], [0.5]),
    ),
    "ELU": Kink(nn.ELU, ALPHA, nn.ELU(0.5), [0.0], [0.5]),
    "absolute": Kink(ops.absolute, AT_0, ops.absolute, [0.0], [0.0]),
    "sign": Kink(
        *(ops.sign, "without a gradient", lambda x: x + ops.sign(x), [0.0], [1.0]),
    ),
    "clip": Kink(
        *(functional.clip, "the derivative is 1 inside and at the limits"),
        *(lambda x: functional.clip(x, -1.0, 1.0), [-2.0, -1.0, 1.0], [0.0, 1.0, 1.0]),
    ),
    "where": Kink(
        *(ops.where, "what was taken has the gradient"),
        *(lambda x: ops.where(x > 0, x, x * 2.0), [0.0, 1.0], [2.0, 1.0]),
    ),
    "power": Kink(
        *(ops.power, "x ** 0 and 0 ** exponent are constant"),
        *(lambda x: x**0 + ops.power(np.zeros(1), x + 1.0), [0.0], [0.0]),
    ),
    "maximum": Kink(
        ops.maximum, SHARE, lambda x: ops.maximum(x, 1.0), [1.0, 2.0], [0.5, 1.0]
    ),
    "minimum": Kink(
        ops.minimum, SHARE, lambda x: ops.minimum(x, 1.0), [1.0, 2.0], [0.5, 0.0]
    ),
    "max": Kink(ops.max_, SHARE, ops.max_, *TIE),
    "min": Kink(ops.min_, SHARE, lambda x: ops.min_(-x), TIE[0], [-0.5, -0.5, 0.0]),
    "max_pool": Kink(
        *(ops.max_pool, "the first of equals has the gradient"),
        *(_image(lambda x: ops.max_pool(x, window=Window((1, 3)))), *TIE_FIRST),
    ),
    "MaxPool2D": Kink(nn.MaxPool2D, FIRST, _image(nn.MaxPool2D((1, 3))), *TIE_FIRST),
    "MaxPool1D": Kink(nn.MaxPool1D, FIRST, _series(nn.MaxPool1D(3)), *TIE_FIRST),
    "GlobalMaxPool2D": Kink(
        nn.GlobalMaxPool2D, GLOBAL, _image(nn.GlobalMaxPool2D()), *TIE
    ),
    "GlobalMaxPool1D": Kink(
        nn.GlobalMaxPool1D, GLOBAL, _series(nn.GlobalMaxPool1D()), *TIE
    ),
    "MAE": Kink(nn.MAE, AT_0, _loss(nn.MAE()), [0.0], [0.0]),
    "Hinge": Kink(nn.Hinge, "0 at the kink", _loss(nn.Hinge(), 1.0), [1.0], [0.0]),
    "Huber": Kink(
        *(nn.Huber, "the second derivative at `delta` is 1"),
        *(lambda x: HUBER.gradient(x, np.zeros(2)), [0.5, -0.5], [1.0, 1.0]),
    ),
}

# Where PyTorch has another convention: ours follow `max` and `clip`.
PYTORCHS = {
    "GlobalMaxPool2D": "the first has the gradient",
    "GlobalMaxPool1D": "the first has the gradient",
    "Huber": "the second derivative is 0",
}
