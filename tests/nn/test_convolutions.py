"""Layers of convolutional networks, held against PyTorch and a few lines of NumPy."""

from itertools import product

import numpy as np
import pytest
from torch import nn as torch_nn
from torch_kit import assert_agree, shaken

import sillar as sl
from sillar import nn
from sillar.testing.cases.layers import apart, normal


def assert_same(layer, theirs, x):
    nn.from_torch(layer, shaken(theirs).state_dict())
    assert_agree(layer, theirs, x.astype("float32"))


@pytest.mark.parametrize("kernel", [1, 2, 5])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_conv1d_is_pytorchs(kernel, groups):
    for stride, padding, dilation in product([1, 3], [0, 2], [1, 2]):
        options = {"stride": stride, "padding": padding, "dilation": dilation}
        assert_same(
            nn.Conv1D(4, 8, kernel, groups=groups, **options),
            torch_nn.Conv1d(4, 8, kernel, groups=groups, **options),
            normal(3, 9, 4),
        )


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
@pytest.mark.parametrize("dilation", [1, 2])
def test_conv1d_keeps_the_length(kernel, dilation):
    options = {"padding": "same", "dilation": dilation, "bias": False}
    assert_same(
        nn.Conv1D(2, 3, kernel, **options),
        torch_nn.Conv1d(2, 3, kernel, **options),
        normal(2, 8, 2),
    )


def test_a_causal_conv1d_sees_only_what_came_before():
    layer = nn.Conv1D(2, 3, 3, dilation=2, padding="causal").init(sl.Rng(0), "float64")
    x = normal(2, 9, 2)
    y = layer(x).numpy()
    assert y.shape == (2, 9, 3)
    w = layer.weight.numpy()
    for t in range(9):
        seen = [(k, t - 2 * (2 - k)) for k in range(3) if t - 2 * (2 - k) >= 0]
        expected = sum(x[:, s] @ w[k] for k, s in seen)
        np.testing.assert_allclose(expected, y[:, t])


@pytest.mark.parametrize("kernel", [1, 2, (3, 2)], ids=str)
@pytest.mark.parametrize("stride", [1, 2, (1, 3)], ids=str)
@pytest.mark.parametrize("groups", [1, 2])
def test_conv2d_transpose_is_pytorchs(kernel, stride, groups):
    for padding, dilation, more in product([0, (1, 0)], [1, 3, (1, 2)], [0, 1, (0, 2)]):
        options = {"stride": stride, "padding": padding, "output_padding": more}
        options |= {"dilation": dilation, "groups": groups}
        most = np.maximum(np.broadcast_to(stride, 2), np.broadcast_to(dilation, 2))
        if np.all(np.broadcast_to(more, 2) < most):  # PyTorch's limit
            assert_same(
                nn.Conv2DTranspose(4, 6, kernel, **options),
                torch_nn.ConvTranspose2d(4, 6, kernel, **options),
                normal(2, 4, 5, 4),
            )


def test_conv2d_transpose_without_bias():
    theirs = torch_nn.ConvTranspose2d(4, 2, 3, bias=False)
    assert_same(nn.Conv2DTranspose(4, 2, 3, bias=False), theirs, normal(2, 3, 3, 4))


def test_conv2d_transpose_adds_a_kernel_at_every_cell():
    layer = nn.Conv2DTranspose(2, 3, (2, 4), stride=(3, 2)).init(sl.Rng(0), "float64")
    x, w = normal(2, 3, 2, 2), layer.weight.numpy()
    expected = np.zeros((2, 8, 6, 3))
    for i, j in np.ndindex(3, 2):
        patch = np.einsum("nc,hwoc->nhwo", x[:, i, j], w)
        expected[:, 3 * i : 3 * i + 2, 2 * j : 2 * j + 4] += patch
    np.testing.assert_allclose(expected, layer(x).numpy())


def test_conv2d_transpose_is_the_gradient_of_a_convolution():
    conv = nn.Conv2D(3, 4, 3, stride=2, padding=1, bias=False).init(
        sl.Rng(0), "float64"
    )
    back = nn.Conv2DTranspose(4, 3, 3, stride=2, padding=1, output_padding=1)
    back.init(sl.Rng(1), "float64").load_state(
        {"weight": conv.weight.numpy(), "bias": np.zeros(3)}
    )
    x = sl.Tensor(normal(2, 6, 8, 3), requires_grad=True)
    y = conv(x)
    u = normal(*y.shape, seed=1)
    g = sl.grad(y, x, cotangents=sl.Tensor(u))
    np.testing.assert_allclose(g.numpy(), back(u).numpy(), atol=1e-12)


@pytest.mark.parametrize("depth_multiplier", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_depthwise_is_pytorchs_convolution_in_as_many_groups_as_channels(
    depth_multiplier, bias
):
    for stride, padding, dilation in product([1, (2, 1)], [0, (1, 2)], [1, 2]):
        options = {"stride": stride, "padding": padding, "dilation": dilation}
        options["bias"] = bias
        assert_same(
            nn.DepthwiseConv2D(4, (3, 2), depth_multiplier=depth_multiplier, **options),
            torch_nn.Conv2d(4, 4 * depth_multiplier, (3, 2), groups=4, **options),
            normal(2, 6, 7, 4),
        )


def windows(x, kernel):
    """Return every window of images: (n, h', w', c, kh, kw)."""
    return np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(1, 2))


def test_depthwise_and_separable_are_what_keras_says():
    depth = nn.DepthwiseConv2D(3, (2, 3), depth_multiplier=2, bias=False)
    depth.init(sl.Rng(0), "float64")
    x = normal(2, 4, 5, 3)
    kernels = depth.weight.numpy().reshape(2, 3, 3, 2)  # as Keras has them
    expected = np.einsum("nijchw,hwcm->nijcm", windows(x, (2, 3)), kernels)
    expected = expected.reshape(2, 3, 3, 6)
    np.testing.assert_allclose(expected, depth(x).numpy())

    layer = nn.SeparableConv2D(3, 5, (2, 3), depth_multiplier=2)
    layer.init(sl.Rng(0), "float64")
    layer.depthwise.load_state(depth.state())
    mixed = expected @ layer.pointwise.weight.numpy()[0, 0]
    np.testing.assert_allclose(mixed, layer(x).numpy())
    assert list(layer.parameters()) == [
        "depthwise.weight",
        "pointwise.weight",
        "pointwise.bias",
    ]
    assert layer.parameters().size == 2 * 3 * 3 * 2 + 6 * 5 + 5


class Separable(torch_nn.Module):
    def __init__(self):
        super().__init__()
        self.depthwise = torch_nn.Conv2d(
            4, 8, 3, groups=4, bias=False, stride=2, padding=1, dilation=2
        )
        self.pointwise = torch_nn.Conv2d(8, 6, 1)

    def forward(self, x):
        return self.pointwise(self.depthwise(x))


def test_separable_is_pytorchs_pair_by_its_names():
    layer = nn.SeparableConv2D(
        4, 6, 3, depth_multiplier=2, stride=2, padding=1, dilation=2
    )
    assert_same(layer, Separable(), normal(2, 7, 6, 4))


@pytest.mark.parametrize("shape", [(3, 6), (3, 4, 6), (2, 3, 5, 6), (1, 1, 1, 6)])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_group_norm_is_pytorchs(shape, groups):
    for options in ({}, {"eps": 0.1}, {"affine": False}):
        assert_same(
            nn.GroupNorm(groups, 6, **options),
            torch_nn.GroupNorm(groups, 6, **options),
            normal(*shape),
        )


def test_group_norm_is_what_the_paper_says():
    x = normal(2, 3, 4, 6)
    y = nn.GroupNorm(3, 6).init(sl.Rng(0), "float64")(x).numpy()
    for example, group in product(range(2), range(3)):
        part = x[example, ..., group * 2 : group * 2 + 2]
        expected = (part - part.mean()) / np.sqrt(part.var() + 1e-5)
        np.testing.assert_allclose(expected, y[example, ..., group * 2 : group * 2 + 2])


class Last(torch_nn.Module):
    """A pooling to one cell, with the cell's axes dropped."""

    def __init__(self, pool):
        super().__init__()
        self.pool = pool

    def forward(self, x):
        return self.pool(x).flatten(1)


@pytest.mark.parametrize(
    ("layer", "theirs", "shape"),
    [
        (nn.GlobalAvgPool2D(), Last(torch_nn.AdaptiveAvgPool2d(1)), (2, 3, 4, 5)),
        (nn.GlobalMaxPool2D(), Last(torch_nn.AdaptiveMaxPool2d(1)), (2, 3, 4, 5)),
        (nn.GlobalAvgPool1D(), Last(torch_nn.AdaptiveAvgPool1d(1)), (2, 3, 5)),
        (nn.GlobalMaxPool1D(), Last(torch_nn.AdaptiveMaxPool1d(1)), (2, 3, 5)),
        (nn.MaxPool1D(2), torch_nn.MaxPool1d(2), (2, 7, 3)),
        (nn.MaxPool1D(3, stride=1, padding=1), torch_nn.MaxPool1d(3, 1, 1), (2, 7, 3)),
        (nn.AvgPool1D(2), torch_nn.AvgPool1d(2), (2, 7, 3)),
        (nn.AvgPool1D(4, stride=3, padding=2), torch_nn.AvgPool1d(4, 3, 2), (2, 7, 3)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_poolings_are_pytorchs(layer, theirs, shape):
    assert_same(layer, theirs, apart(*shape))


def test_poolings_are_what_they_say():
    x = apart(2, 4, 6, 3)
    np.testing.assert_allclose(x.mean((1, 2)), nn.GlobalAvgPool2D()(x).numpy())
    np.testing.assert_array_equal(x.max((1, 2)), nn.GlobalMaxPool2D()(x).numpy())
    series = x[:, 0]
    np.testing.assert_allclose(series.mean(1), nn.GlobalAvgPool1D()(series).numpy())
    np.testing.assert_array_equal(series.max(1), nn.GlobalMaxPool1D()(series).numpy())
    pairs = series.reshape(2, 3, 2, 3)
    np.testing.assert_array_equal(pairs.max(2), nn.MaxPool1D(2)(series).numpy())
    np.testing.assert_allclose(pairs.mean(2), nn.AvgPool1D(2)(series).numpy())


def test_equal_largest_values_share_the_gradient_of_a_global_pooling():
    x = sl.Tensor(np.ones((1, 2, 2, 1)), requires_grad=True)
    g = sl.grad(nn.GlobalMaxPool2D()(x).sum(), x)
    np.testing.assert_array_equal(np.full((1, 2, 2, 1), 0.25), g.numpy())
