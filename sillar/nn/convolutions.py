"""Kinds of convolution over images: transposed, by depth, and separable."""

from __future__ import annotations

from sillar.core import ops
from sillar.core.parameter import Initializer, Parameter
from sillar.core.tensor import Tensor
from sillar.errors import ShapeError
from sillar.nn.images import (
    Conv2D,
    Sizes,
    check_images,
    conv_window,
    grouped,
    pair,
)
from sillar.nn.initializers import he_normal, zeros
from sillar.nn.layer import Layer
from sillar.nn.layers import at_least


class Conv2DTranspose(Layer):
    """The convolution that leads back: x (n, h, w, c_in) -> (n, h', w', c_out).

    It is the gradient of a Conv2D for its input (Zeiler et al. 2010), and
    h' = (h - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1.
    The weight is that of the Conv2D, (kh, kw, c_out / groups, c_in).
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: Sizes,
        *,
        stride: Sizes = 1,
        padding: Sizes = 0,
        output_padding: Sizes = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        initializer: Initializer = he_normal,
    ) -> None:
        owner = "Conv2DTranspose"
        self.c_in, self.c_out, self.groups = grouped(owner, c_in, c_out, groups)
        self.kernel, self.stride, self.dilation = kernel, stride, dilation
        self.padding, self.output_padding = padding, output_padding
        self.initializer = initializer
        pair(owner, "padding", padding, 0)  # "same" has no meaning here
        self.window = conv_window(owner, kernel, stride, padding, dilation)
        self.more = pair(owner, "output_padding", output_padding, 0)
        shape = (*self.window.kernel, c_out // groups, c_in)
        self.weight = Parameter(shape, initializer)
        self.bias = Parameter((c_out,), zeros) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, self.c_in)
        size = self._along(0, x.shape[1]), self._along(1, x.shape[2])
        if min(*size, *x.shape[1:3]) < 1:
            raise ShapeError(
                f"{self!r}: images {x.shape[1:3]} would become {size}: use less padding"
            )
        places = self.window.positions(size)
        below, right = places[0] - x.shape[1], places[1] - x.shape[2]
        if below or right:  # output_padding made room for windows that have no input
            x = ops.pad(x, widths=((0, 0), (0, below), (0, right), (0, 0)))
        y = ops.conv_input(
            x, self.weight, size=size, window=self.window, groups=self.groups
        )
        return y if self.bias is None else y + self.bias

    def _along(self, axis: int, n: int) -> int:
        covered = (n - 1) * self.window.stride[axis] + self.window.span(axis)
        return covered - sum(self.window.padding[axis]) + self.more[axis]


class DepthwiseConv2D(Layer):
    """A convolution of each channel alone: x (n, h, w, c_in) -> (n, h', w', c_out).

    Each channel gets `depth_multiplier` kernels, so that c_out is c_in times as many.
    """

    def __init__(
        self,
        c_in: int,
        kernel: Sizes,
        *,
        depth_multiplier: int = 1,
        stride: Sizes = 1,
        padding: Sizes | str = 0,
        dilation: Sizes = 1,
        bias: bool = True,
        initializer: Initializer = he_normal,
    ) -> None:
        owner = "DepthwiseConv2D"
        self.c_in = at_least(owner, "c_in", c_in, 1)
        self.depth_multiplier = at_least(owner, "depth_multiplier", depth_multiplier, 1)
        self.c_out = self.c_in * self.depth_multiplier
        self.kernel, self.stride, self.dilation = kernel, stride, dilation
        self.padding, self.initializer = padding, initializer
        self.window = conv_window(owner, kernel, stride, padding, dilation)
        self.weight = Parameter((*self.window.kernel, 1, self.c_out), initializer)
        self.bias = Parameter((self.c_out,), zeros) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, self.c_in)
        y = ops.conv(x, self.weight, window=self.window, groups=self.c_in)
        return y if self.bias is None else y + self.bias


class SeparableConv2D(Layer):
    """A convolution by depth, then one of 1 x 1 that mixes channels (Chollet 2017).

    x (n, h, w, c_in) -> (n, h', w', c_out), with fewer weights than a Conv2D.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: Sizes,
        *,
        depth_multiplier: int = 1,
        stride: Sizes = 1,
        padding: Sizes | str = 0,
        dilation: Sizes = 1,
        bias: bool = True,
        initializer: Initializer = he_normal,
    ) -> None:
        self.c_in, self.c_out, self.bias = c_in, c_out, bias
        self.kernel, self.stride, self.dilation = kernel, stride, dilation
        self.padding, self.initializer = padding, initializer
        self.depth_multiplier = depth_multiplier
        self.depthwise = DepthwiseConv2D(
            c_in,
            kernel,
            depth_multiplier=depth_multiplier,
            stride=stride,
            padding=padding,
            dilation=dilation,
            bias=False,
            initializer=initializer,
        )
        self.pointwise = Conv2D(
            self.depthwise.c_out, c_out, 1, bias=bias, initializer=initializer
        )

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, self.c_in)
        return self.pointwise(self.depthwise(x))
