"""Layers held against PyTorch's in float32: outputs and every gradient to 1e-5."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn as torch_nn

import sillar as sl
from sillar import nn
from sillar.testing.cases.layers import normal

TO_TORCH = {  # axes of a weight here, in PyTorch's order
    (nn.Dense, "weight"): (1, 0),
    (nn.Conv2D, "weight"): (3, 2, 0, 1),
}


def to_torch(x):
    """Return images with channels first; other arrays as they are."""
    tensor = torch.tensor(x)
    return tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor


def from_torch(x):
    x = x.detach()
    return (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).numpy()


def parameter(layer, path, array):
    axes = TO_TORCH.get((type(layer), path), tuple(range(array.ndim)))
    return torch.tensor(array).permute(axes)


def near(expected, got):
    expected, got = np.asarray(expected), np.asarray(got)
    scale = max(1.0, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * scale)


def assert_same(layer, theirs, x, *, training=None):
    """Compare outputs and gradients for the input and all parameters on `x`."""
    layer.init(sl.Rng(0))
    for i, (path, p) in enumerate(layer.parameters().items()):
        p.data[...] = normal(*p.shape, seed=i)
        getattr(theirs, path).data = parameter(layer, path, p.data)
    compare(layer, theirs, x.astype("float32"), training)


def compare(layer, theirs, x, training=None):
    ours = sl.Tensor(x, requires_grad=True)
    input_ = to_torch(x).requires_grad_()
    y, expected = layer(ours, rng=training), theirs(input_)
    assert y.dtype == "float32"
    near(from_torch(expected), y.numpy())

    u = normal(*y.shape, seed=9).astype("float32")
    expected.backward(to_torch(u))
    named = dict(layer.parameters())
    gradients = sl.grad(y, {"x": ours, **named}, cotangents=sl.Tensor(u))
    near(from_torch(input_.grad), gradients.pop("x").numpy())
    for path, g in gradients.items():
        near(getattr(theirs, path).grad, parameter(layer, path, g.numpy()))


@pytest.mark.parametrize("shape", [(4, 3), (2, 5, 3), (3,), (0, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_dense(shape, bias):
    assert_same(nn.Dense(3, 2, bias=bias), torch_nn.Linear(3, 2, bias), normal(*shape))


KERNELS = [1, 2, 3, (3, 2), (2, 4)]
STRIDES = [1, 2, (2, 1)]
PADDINGS = [0, 1, (2, 1)]
DILATIONS = [1, (1, 2)]
GROUPS = [1, 2]


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("stride", STRIDES, ids=str)
def test_conv2d(kernel, stride):
    for padding, dilation, groups in product(PADDINGS, DILATIONS, GROUPS):
        options = {"stride": stride, "padding": padding, "dilation": dilation}
        assert_same(
            nn.Conv2D(4, 6, kernel, groups=groups, **options),
            torch_nn.Conv2d(4, 6, kernel, groups=groups, **options),
            normal(2, 6, 7, 4),
        )


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("dilation", DILATIONS, ids=str)
def test_conv2d_with_padding_that_keeps_the_size(kernel, dilation):
    options = {"padding": "same", "dilation": dilation}
    x = normal(2, 6, 7, 4)
    assert nn.Conv2D(4, 6, kernel, **options).init(sl.Rng(0))(x).shape == (2, 6, 7, 6)
    assert_same(
        nn.Conv2D(4, 6, kernel, **options), torch_nn.Conv2d(4, 6, kernel, **options), x
    )


def test_conv2d_by_depth_and_without_bias():
    theirs = torch_nn.Conv2d(4, 8, 3, groups=4, bias=False)
    assert_same(nn.Conv2D(4, 8, 3, groups=4, bias=False), theirs, normal(2, 5, 5, 4))


def test_conv2d_over_more_images_than_fit_in_one_block():
    assert_same(nn.Conv2D(8, 4, 5), torch_nn.Conv2d(8, 4, 5), normal(9, 16, 16, 8))


POOLS = [
    {"size": 2, "stride": None, "padding": 0},
    {"size": 3, "stride": 2, "padding": 1},
    {"size": (3, 2), "stride": (1, 2), "padding": (1, 0)},
    {"size": 2, "stride": 3, "padding": 0},
    {"size": (1, 4), "stride": 1, "padding": (0, 2)},
]
pools = pytest.mark.parametrize("options", POOLS, ids=str)


@pools
@pytest.mark.parametrize("values", [np.array, np.round], ids=["apart", "ties"])
def test_max_pool(options, values):
    theirs = torch_nn.MaxPool2d(*options.values())
    assert_same(nn.MaxPool2D(**options), theirs, values(normal(2, 6, 7, 3)))


@pools
def test_average_pool(options):
    theirs = torch_nn.AvgPool2d(*options.values())
    assert_same(nn.AvgPool2D(**options), theirs, normal(2, 6, 7, 3))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(("kind", "shape"), [("1d", (6, 3)), ("2d", (2, 4, 5, 3))])
def test_batch_norm_in_training_and_at_inference(kind, shape, affine):
    layer = nn.BatchNorm(3, momentum=0.3, eps=1e-3, affine=affine)
    module = {"1d": torch_nn.BatchNorm1d, "2d": torch_nn.BatchNorm2d}[kind]
    theirs = module(3, momentum=0.3, eps=1e-3, affine=affine)
    assert_same(layer, theirs, normal(*shape), training=sl.Rng(0))
    for seed, scale in enumerate((3.0, 0.1)):
        theirs.zero_grad()
        x = (normal(*shape, seed=seed) * scale + 1).astype("float32")
        compare(layer, theirs, x, sl.Rng(0))
        near(theirs.running_mean, layer.running_mean.numpy())
        near(theirs.running_var, layer.running_var.numpy())
    theirs.eval()
    theirs.zero_grad()
    compare(layer, theirs, normal(*shape).astype("float32"))


@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm(affine):
    theirs = torch_nn.LayerNorm(5, eps=1e-3, elementwise_affine=affine)
    assert_same(nn.LayerNorm(5, eps=1e-3, affine=affine), theirs, normal(2, 3, 5))


def test_embedding_adds_the_gradients_of_repeated_indices():
    layer, theirs = nn.Embedding(5, 3).init(sl.Rng(0)), torch_nn.Embedding(5, 3)
    theirs.weight.data = torch.tensor(layer.weight.numpy())
    indices = np.array([[1, 1, 4], [0, 1, 4]])
    y, expected = layer(indices), theirs(torch.tensor(indices))
    near(expected.detach(), y.numpy())
    u = normal(*y.shape, seed=9).astype("float32")
    expected.backward(torch.tensor(u))
    gradient = sl.grad(y, layer.weight, cotangents=sl.Tensor(u))
    near(theirs.weight.grad, gradient.numpy())


def test_flatten():
    x = normal(3, 2, 5).astype("float32")
    assert_same(nn.Flatten(), torch_nn.Flatten(), x)


ACTIVATIONS = {
    "ELU": (nn.ELU(0.7), torch_nn.ELU(0.7)),
    "GELU": (nn.GELU(), torch_nn.GELU()),
    "GELU-tanh": (nn.GELU(approximate=True), torch_nn.GELU("tanh")),
    "LeakyReLU": (nn.LeakyReLU(0.2), torch_nn.LeakyReLU(0.2)),
    "ReLU": (nn.ReLU(), torch_nn.ReLU()),
    "Sigmoid": (nn.Sigmoid(), torch_nn.Sigmoid()),
    "SiLU": (nn.SiLU(), torch_nn.SiLU()),
    "Softmax": (nn.Softmax(), torch_nn.Softmax(-1)),
    "Softmax-axis": (nn.Softmax(axis=0), torch_nn.Softmax(0)),
    "Softplus": (nn.Softplus(), torch_nn.Softplus()),
    "Tanh": (nn.Tanh(), torch_nn.Tanh()),
}


@pytest.mark.parametrize(("layer", "theirs"), ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_activations_near_zero_and_far_from_it(layer, theirs):
    far = [[-1e4, 1e4, 0.0, -100.0], [88.0, -88.0, 20.0, -20.0], [0.0, -0.0, 1e-8, 1.0]]
    for x in (normal(4, 6) * 3, np.array(far)):
        assert_same(layer, theirs, x)


def test_every_activation_is_compared():
    activations = {n for n in nn.__all__ if n in vars(nn.activations)} - {"Layer"}
    assert activations == {type(layer).__name__ for layer, _ in ACTIVATIONS.values()}
