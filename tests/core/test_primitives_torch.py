"""Values and gradients of the primitives that PyTorch has, held against it."""

import numpy as np
import pytest
import torch
from torch.nn import functional as torch_nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sillar.core import normalization, ops
from sillar.core.attention import attention, attention_slope
from sillar.core.grad import grad
from sillar.core.share import over_shares
from sillar.core.tape import place
from sillar.core.tensor import Tensor
from sillar.nn import sweep
from sillar.testing.cases import kernels
from sillar.testing.cases.primitives import CASES


def axes_of(x, axis):
    return tuple(range(x.ndim)) if axis is None else axis


def first(x):
    """Return images with channels first, as PyTorch has them."""
    return x.permute(0, 3, 1, 2)


def last(x):
    return x.permute(0, 2, 3, 1)


def conv(x, w, *, window, groups=1):
    (top, bottom), (left, right) = window.padding
    padded = torch_nn.pad(first(x), (left, right, top, bottom))
    w = w.permute(3, 2, 0, 1)
    return last(
        torch_nn.conv2d(padded, w, None, window.stride, 0, window.dilation, groups)
    )


def conv_input(g, w, *, size, groups=1, **static):
    channels = w.shape[2] * groups
    x = torch.zeros(len(g), *size, channels, dtype=g.dtype, requires_grad=True)
    y = conv(x, w, groups=groups, **static)
    return torch.autograd.grad(y, x, g, create_graph=True)[0]


def conv_weight(x, g, *, window, groups=1):
    shape = *window.kernel, x.shape[-1] // groups, g.shape[-1]
    w = torch.zeros(shape, dtype=g.dtype, requires_grad=True)
    y = conv(x, w, window=window, groups=groups)
    return torch.autograd.grad(y, w, g, create_graph=True)[0]


def pad(x, *, widths, value=0.0):
    return torch_nn.pad(x, [n for pair in reversed(widths) for n in pair], value=value)


def scatter_add(values, rows, *, template, shape):
    return torch.zeros(shape, dtype=values.dtype).index_put((rows,), values, True)


def cross_entropy(x, labels):
    return torch_nn.cross_entropy(x.movedim(-1, 1), labels, reduction="none")


def cross_entropy_input(g, x, labels):
    slopes = x.softmax(-1) - torch_nn.one_hot(labels, x.shape[-1])
    return slopes * (g if isinstance(g, float) else g[..., None])


def batch_norm(x, weight, bias, *, eps):
    if isinstance(weight, float):  # PyTorch's way to say so is None
        weight = bias = None
    y = x.reshape(-1, x.shape[-1])
    y = torch_nn.batch_norm(y, None, None, weight, bias, training=True, eps=eps)
    return y.reshape(x.shape)


def batch_norm_input(g, x, weight, *, eps):
    y = batch_norm(x, weight, torch.zeros_like(weight), eps=eps)
    return torch.autograd.grad(y, x, g, create_graph=True)[0]


def batch_norm_weight(g, x, weight, *, eps):
    y = batch_norm(x, weight, torch.zeros_like(weight), eps=eps)
    dw = torch.autograd.grad(y, weight, g, create_graph=True)[0]
    return dw + weight * 0.0  # there it is not even an input


def attention_(qkv, mask, *, heads, causal):
    batch, n, width = qkv.shape
    parts = qkv.reshape(batch, n, 3, heads, width // (3 * heads))
    q, k, v = parts.permute(2, 0, 3, 1, 4)
    seen = torch.ones(n, n, dtype=bool).tril() if causal else torch.ones(n, n) > 0
    y = torch_nn.scaled_dot_product_attention(q, k, v, attn_mask=seen & mask)
    return y.transpose(1, 2).reshape(batch, n, width // 3)


def attention_slope_(g, qkv, mask, **static):
    with sdpa_kernel(SDPBackend.MATH):  # the others have no second order
        y = attention_(qkv, mask, **static)
    return torch.autograd.grad(y, qkv, g, create_graph=True)[0]


def sum_pool(x, *, window):
    y = torch_nn.avg_pool2d(first(x), window.kernel, window.stride)
    return last(y) * window.kernel[0] * window.kernel[1]


TORCH = {
    ops.add: torch.add,
    ops.subtract: torch.subtract,
    ops.multiply: torch.multiply,
    ops.divide: torch.divide,
    ops.negative: torch.negative,
    ops.power: torch.pow,
    ops.exp: torch.exp,
    ops.expm1: torch.expm1,
    ops.log: torch.log,
    ops.log1p: torch.log1p,
    ops.sqrt: torch.sqrt,
    ops.sin: torch.sin,
    ops.cos: torch.cos,
    ops.tanh: torch.tanh,
    ops.sigmoid: torch.sigmoid,
    ops.softplus: lambda x: torch_nn.softplus(x, threshold=1e9),
    ops.erf: torch.erf,
    ops.normal_cdf: torch.special.ndtr,
    ops.normal_pdf: lambda x: torch.distributions.Normal(0.0, 1.0).log_prob(x).exp(),
    ops.relu: torch.relu,
    ops.absolute: torch.abs,
    ops.maximum: lambda a, b: torch.maximum(a, torch.as_tensor(b, dtype=a.dtype)),
    ops.minimum: torch.minimum,
    ops.where: torch.where,
    ops.reshape: lambda x, *, shape: x.reshape(shape),
    ops.transpose: lambda x, *, axes: x.permute(axes),
    ops.broadcast_to: lambda x, *, shape: x.broadcast_to(shape),
    ops.astype: lambda x, *, dtype: x.to(getattr(torch, dtype)),
    ops.concat: lambda *xs, axis=0: torch.cat(xs, axis),
    ops.pack: lambda *xs: torch.cat([x.reshape(-1) for x in xs]),
    ops.pad: pad,
    ops.getitem: lambda x, *arrays, template: x[arrays],
    ops.scatter_add: scatter_add,
    ops.sum_: lambda x, *, axis=None, keepdims=False: (
        x.clone() if axis == () else x.sum(axes_of(x, axis), keepdims)
    ),
    ops.max_: lambda x, *, axis=None, keepdims=False: x.amax(
        axes_of(x, axis), keepdims
    ),
    ops.min_: lambda x, *, axis=None, keepdims=False: x.amin(
        axes_of(x, axis), keepdims
    ),
    ops.min_: lambda x, *, axis=None, keepdims=False: x.amin(
        axes_of(x, axis), keepdims
    ),
    ops.logsumexp: lambda x, *, axis=-1, keepdims=False: x.logsumexp(axis, keepdims),
    ops.cross_entropy: cross_entropy,
    ops.cross_entropy_input: cross_entropy_input,
    ops.cumsum: lambda x, *, axis=0: x.cumsum(axis),
    normalization.channel_squares: lambda x, centre: (
        (x - centre).square().sum(tuple(range(x.ndim - 1)))
    ),
    kernels.batch_norm: batch_norm,
    kernels.batch_norm_input: batch_norm_input,
    kernels.batch_norm_weight: batch_norm_weight,
    ops.matmul: torch.matmul,
    ops.einsum_: lambda *xs, subscripts: torch.einsum(subscripts, *xs),
    ops.conv: conv,
    ops.conv_input: conv_input,
    ops.conv_weight: conv_weight,
    ops.max_pool: lambda x, *, window: last(
        torch_nn.max_pool2d(first(x), window.kernel, window.stride)
    ),
    ops.sum_pool: sum_pool,
    attention: attention_,
    attention_slope: attention_slope_,
}
WITHOUT = {
    over_shares: "asks other processes: tests/distributed/test_mpi.py",
    place: "moves an array to another back end",
    ops.max_pool_at: "a gradient's gradient, not public there",
    ops.max_unpool: "takes the image instead of indices",
    ops.sum_unpool: "a gradient, not public there",
    sweep.recurrent: "a module there: tests/nn/test_recurrent.py",
    sweep.recurrent_input: "a gradient, not public there",
    sweep.recurrent_weight: "a gradient, not public there",
}
NOT_THERE = {
    "batch_norm_input-weak": "no numbers as weights",
    "getitem": "negative steps",
    "getitem-ellipsis": "no arrays: the table's function has no template",
    "getitem-one": "no arrays: the table's function has no template",
    "scatter_add-slice": "no slices in index_put",
    "power-of-2": "the exponent alone cannot be a tensor beside a float",
    "conv-empty": "its gradient refuses empty batches",
    "conv_input-empty": "its gradient refuses empty batches",
    "conv_weight-empty": "its gradient refuses empty batches",
    "batch_norm-empty": "it refuses to be without channels",
    "batch_norm_input-empty": "it refuses to be without channels",
    "batch_norm_weight-empty": "it refuses to be without channels",
    "attention_slope-empty": "no second order for an empty batch",
}
TIES = {
    "maximum": (ops.maximum, [np.array([1.0, 2.0]), np.array([1.0, 3.0])], {}),
    "minimum": (ops.minimum, [np.array([1.0, 2.0]), np.array([1.0, 3.0])], {}),
    "max": (ops.max_, [np.array([[1.0, 2.0, 2.0], [3.0, 3.0, 3.0]])], {"axis": 1}),
    "max-all": (ops.max_, [np.ones((2, 3))], {}),
    "min": (ops.min_, [np.array([[1.0, 1.0, 2.0], [3.0, 3.0, 3.0]])], {"axis": 1}),
    "absolute": (ops.absolute, [np.zeros(2)], {}),
    "relu": (ops.relu, [np.zeros(2)], {}),
    "power": (ops.power, [np.zeros(3), np.array([1.0, 2.0, 3.0])], {}),
    "max_pool": (
        ops.max_pool,
        [np.ones((1, 4, 4, 1))],
        {"window": CASES["max_pool"][2]["window"]},
    ),
}
SHARED = {
    name: case
    for name, case in CASES.items()
    if case[0] in TORCH and name not in NOT_THERE
} | {f"ties-{name}": case for name, case in TIES.items()}


def both(args):
    """Return the arguments for us and for PyTorch; floats are variables."""
    ours, theirs = [], []
    for a in args:
        array = isinstance(a, np.ndarray)
        tracked = array and a.dtype.kind == "f"
        ours.append(Tensor(a, requires_grad=tracked) if array else a)
        theirs.append(torch.tensor(a, requires_grad=tracked) if array else a)
    return ours, theirs


def test_every_primitive_is_in_pytorch_or_has_a_reason():
    assert {op for op, *_ in CASES.values()} == {*TORCH, *WITHOUT}


@pytest.mark.parametrize(("op", "args", "static"), SHARED.values(), ids=SHARED)
def test_values_and_gradients_are_pytorchs(op, args, static):
    ours, theirs = both(args)
    y, expected = op(*ours, **static), TORCH[op](*theirs, **static)
    np.testing.assert_allclose(expected.detach(), y.numpy(), rtol=1e-12, atol=1e-14)

    u = np.random.default_rng(0).normal(size=y.shape)
    expected.backward(torch.tensor(u))
    variables = {i: x for i, x in enumerate(ours) if getattr(x, "requires_grad", False)}
    for i, g in grad(y, variables, cotangents=Tensor(u)).items():
        np.testing.assert_allclose(theirs[i].grad, g.numpy(), rtol=1e-11, atol=1e-13)
