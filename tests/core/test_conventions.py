"""Where there is no derivative there is a convention: stated, pinned, and PyTorch's."""

import numpy as np
import pytest
import torch
import torch.nn.functional as torch_f

import sillar as sl
from sillar.testing.cases.kinks import KINKS, PYTORCHS


def leaky(x):
    return torch_f.leaky_relu(x, 0.25)


def elu(x):
    return torch_f.elu(x, 0.5)


def pool(x):
    return torch_f.max_pool1d(x[None], 3)


def huber_slope(x):
    loss = torch_f.huber_loss(x, torch.zeros_like(x), delta=0.5, reduction="sum")
    return torch.autograd.grad(loss, x, create_graph=True)[0]


TORCH = {
    "relu": torch.relu,
    "ReLU": torch.nn.ReLU(),
    "leaky_relu": leaky,
    "LeakyReLU": leaky,
    "elu": elu,
    "ELU": elu,
    "absolute": torch.abs,
    "sign": lambda x: x + torch.sign(x),
    "clip": lambda x: torch.clamp(x, -1.0, 1.0),
    "where": lambda x: torch.where(x > 0, x, x * 2.0),
    "power": lambda x: x**0 + torch.zeros_like(x) ** (x + 1.0),
    "maximum": lambda x: torch.maximum(x, torch.ones_like(x)),
    "minimum": lambda x: torch.minimum(x, torch.ones_like(x)),
    "max": torch.amax,
    "min": lambda x: torch.amin(-x),
    "max_pool": pool,
    "MaxPool2D": pool,
    "MaxPool1D": pool,
    "GlobalMaxPool2D": lambda x: torch_f.adaptive_max_pool2d(x[None, None, None], 1),
    "GlobalMaxPool1D": lambda x: torch_f.adaptive_max_pool1d(x[None, None], 1),
    "MAE": lambda x: torch_f.l1_loss(x, torch.zeros_like(x)),
    "Hinge": lambda x: torch.relu(1.0 - x).mean(),
    "Huber": huber_slope,
}

every_kink = pytest.mark.parametrize("name", KINKS)


@every_kink
def test_the_docstring_states_the_convention(name):
    assert KINKS[name].says in " ".join(KINKS[name].documented.__doc__.split())


@every_kink
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_derivative_is_the_convention(name, dtype):
    kink = KINKS[name]
    x = sl.Tensor(np.array(kink.at, dtype), requires_grad=True)
    assert kink.slopes == sl.grad(kink.f(x).sum(), x).numpy().tolist()


@every_kink
def test_the_convention_is_pytorchs_or_said_to_differ(name):
    x = torch.tensor(KINKS[name].at, dtype=torch.float64, requires_grad=True)
    TORCH[name](x).sum().backward()
    assert (x.grad.tolist() == KINKS[name].slopes) == (name not in PYTORCHS)


@pytest.mark.parametrize("name", ["relu", "absolute", "leaky_relu", "clip", "max"])
def test_piecewise_linear_functions_have_no_curvature_at_their_kinks(name):
    kink = KINKS[name]
    x = sl.Tensor(np.array(kink.at), requires_grad=True)
    slope = sl.grad(kink.f(x).sum(), x, create_graph=True)
    assert sl.grad(slope.sum(), x).numpy().tolist() == [0.0] * len(kink.at)


def test_comparisons_and_sign_are_not_followed():
    x = sl.Tensor(np.zeros(2), requires_grad=True)
    for y in (sl.sign(x), x > 0.0, x >= 0.0, x == 0.0, sl.argmax(x)):
        assert not y.requires_grad
