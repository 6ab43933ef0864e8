"""Our layers and PyTorch's with equal weights: outputs and gradients to 1e-5."""

import copy

import numpy as np
import torch

import sillar as sl
from sillar import nn
from sillar.testing.cases.layers import normal


def channels_first(x, moved=True):
    """Return images or series as PyTorch has them, and anything else as it is."""
    return np.moveaxis(x, -1, 1) if moved and x.ndim > 2 else x


def channels_last(tensor, moved=True):
    """Return a tensor as an array with the channels where they are here."""
    array = tensor.detach().numpy()
    return np.moveaxis(array, 1, -1) if moved and array.ndim > 2 else array


def shaken(module):
    """Return the module with values of its own everywhere, in evaluation mode."""
    with torch.no_grad():
        for i, (name, tensor) in enumerate(module.state_dict().items()):
            values = normal(*tensor.shape, seed=i)
            if "running_var" in name:
                values = 0.5 + np.abs(values)
            if tensor.dtype.is_floating_point:
                tensor.copy_(torch.tensor(values))
    return module.eval()


def near(expected, got):
    scale = max(1.0, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * scale)


def assert_agree(model, theirs, x, *, moved=True, training=None):
    """Compare outputs, and the gradients for the input and for all parameters.

    Gradients are carried over as the weights are: from_torch is linear.
    """
    smooth = x.dtype.kind == "f"
    ours = sl.Tensor(x, requires_grad=smooth)
    input_ = torch.tensor(channels_first(x, moved), requires_grad=smooth)
    y, expected = model(ours, rng=training), theirs(input_)
    assert y.dtype == (x.dtype if smooth else "float32")
    near(channels_last(expected, moved), y.numpy())

    u = normal(*y.shape, seed=9).astype(y.dtype)
    expected.backward(torch.tensor(channels_first(u, moved)))
    slopes = {name: p.grad for name, p in theirs.named_parameters()}
    others = dict(theirs.named_buffers())
    holder = nn.from_torch(copy.deepcopy(model), {**slopes, **others})
    parameters = model.parameters()
    for path, g in sl.grad(y, parameters, cotangents=sl.Tensor(u)).items():
        near(holder.parameters()[path].numpy(), g.numpy())
    if smooth:
        g = sl.grad(y, ours, cotangents=sl.Tensor(u))
        near(channels_last(input_.grad, moved), g.numpy())
