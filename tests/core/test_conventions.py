"""Where there is no derivative there is a convention: pinned, beside PyTorch's."""

import numpy as np
import pytest
import torch
import torch.nn.functional as torch_f

import sillar as sl
from sillar import nn


def slope(f, values):
    x = sl.Tensor(np.array(values), requires_grad=True)
    return sl.grad(f(x).sum(), x).numpy().tolist()


def torch_slope(f, values):
    x = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    f(x).sum().backward()
    return x.grad.tolist()


# name: ours, PyTorch's, where, the derivative there
KINKS = {
    "relu": (sl.relu, torch.relu, [0.0], [0.0]),
    "leaky_relu": (
        lambda x: sl.leaky_relu(x, 0.25),
        lambda x: torch_f.leaky_relu(x, 0.25),
        [0.0],
        [0.25],
    ),
    "elu": (
        lambda x: sl.elu(x, 0.5),
        lambda x: torch_f.elu(x, 0.5),
        [0.0],
        [0.5],
    ),
    "absolute": (sl.absolute, torch.abs, [0.0], [0.0]),
    "clip": (
        lambda x: sl.clip(x, -1.0, 1.0),
        lambda x: torch.clamp(x, -1.0, 1.0),
        [-1.0, 1.0],
        [1.0, 1.0],
    ),
    "max": (
        lambda x: sl.max(x, axis=0),
        lambda x: torch.amax(x, 0),
        [2.0, 2.0, 1.0],
        [0.5, 0.5, 0.0],
    ),
    "min": (
        lambda x: sl.min(x, axis=0),
        lambda x: torch.amin(x, 0),
        [2.0, 1.0, 1.0],
        [0.0, 0.5, 0.5],
    ),
    "maximum": (
        lambda x: sl.maximum(x, 1.0),
        lambda x: torch.maximum(x, torch.ones_like(x)),
        [1.0],
        [0.5],
    ),
    "MAE": (
        lambda x: nn.MAE(reduction="sum")(x, np.zeros(1)),
        lambda x: torch_f.l1_loss(x, torch.zeros(1, dtype=x.dtype)),
        [0.0],
        [0.0],
    ),
    "Huber": (
        lambda x: nn.Huber(0.5, reduction="sum")(x, np.zeros(2)),
        lambda x: torch_f.huber_loss(
            x, torch.zeros(2, dtype=x.dtype), delta=0.5, reduction="sum"
        ),
        [0.5, -0.5],
        [0.5, -0.5],
    ),
}


@pytest.mark.parametrize(
    ("ours", "theirs", "values", "expected"), KINKS.values(), ids=KINKS
)
def test_derivatives_at_kinks(ours, theirs, values, expected):
    assert expected == slope(ours, values) == torch_slope(theirs, values)


def test_hinge_at_the_margin():
    assert slope(lambda x: nn.Hinge(reduction="sum")(x, np.ones(1)), [1.0]) == [0.0]


def test_pooling_gives_the_first_of_equals_and_global_pooling_shares():
    """PyTorch's adaptive pooling gives the first of equals; ours is a maximum."""
    x = sl.Tensor(np.ones((1, 2, 2, 1)), requires_grad=True)
    first = sl.grad(nn.MaxPool2D(2)(x).sum(), x).numpy().ravel().tolist()
    shared = sl.grad(nn.GlobalMaxPool2D()(x).sum(), x).numpy().ravel().tolist()
    z = torch.ones(1, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    torch_f.max_pool2d(z, 2).sum().backward()
    assert [1.0, 0.0, 0.0, 0.0] == first == z.grad.ravel().tolist()
    assert shared == [0.25] * 4


def test_jumps_have_no_derivative():
    x = sl.Tensor(np.zeros(2), requires_grad=True)
    assert not sl.sign(x).requires_grad
    assert not (x > 0.0).requires_grad
