"""Batch, layer and group normalisation."""

from __future__ import annotations

import math

from sillar.core.normalization import (
    batch_norm,
    channel_statistics,
    normalized,
)
from sillar.core.ops import reshape, sqrt
from sillar.core.parameter import Buffer, Parameter
from sillar.core.share import whole_rows
from sillar.core.tensor import Tensor
from sillar.errors import ConfigError, ShapeError
from sillar.nn.initializers import ones, zeros
from sillar.nn.layer import Layer, is_training
from sillar.nn.layers import at_least


class BatchNorm(Layer):
    """Centre and scale each channel, the last axis (Ioffe & Szegedy 2015, alg. 1).

    In training with the mean and variance of the batch, which also move the running
    ones: running = (1 - momentum) * running + momentum * batch, with the unbiased
    variance. At inference with the running ones.
    """

    mixes_batch = True

    def __init__(
        self, n: int, *, momentum: float = 0.1, eps: float = 1e-5, affine: bool = True
    ) -> None:
        self.n = at_least("BatchNorm", "n", n, 1)
        self.momentum = _between("BatchNorm", "momentum", momentum)
        self.eps = _positive("BatchNorm", eps)
        self.affine = affine
        self.weight = Parameter((n,), ones) if affine else None
        self.bias = Parameter((n,), zeros) if affine else None
        self.running_mean = Buffer((n,), zeros)
        self.running_var = Buffer((n,), ones)

    def forward(self, x: Tensor) -> Tensor:
        _check_last_axis(self, x, self.n)
        weight = 1.0 if self.weight is None else self.weight
        bias = 0.0 if self.bias is None else self.bias
        if is_training():
            statistics = self._batch_statistics(x.detach())
            return batch_norm(x, weight, bias, *statistics, eps=self.eps)
        scale = weight / sqrt(self.running_var + self.eps)
        return (x - self.running_mean) * scale + bias

    def _batch_statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if whole_rows(x.shape[0]) * math.prod(x.shape[1:-1]) < 2:
            raise ShapeError(
                f"{self!r}: training needs two values or more per channel, got shape"
                f" {x.shape}: use a larger batch"
            )
        centre, spread, count = channel_statistics(x)
        for running, batch in (
            (self.running_mean, centre),
            (self.running_var, spread * (count / (count - 1))),
        ):
            running.assign(running * (1 - self.momentum) + batch * self.momentum)
        return centre, spread


class LayerNorm(Layer):
    """Centre and scale each vector along the last axis (Ba et al. 2016)."""

    def __init__(self, n: int, *, eps: float = 1e-5, affine: bool = True) -> None:
        self.n = at_least("LayerNorm", "n", n, 1)
        self.eps = _positive("LayerNorm", eps)
        self.affine = affine
        self.weight = Parameter((n,), ones) if affine else None
        self.bias = Parameter((n,), zeros) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        _check_last_axis(self, x, self.n)
        y = normalized(x, -1, self.eps)
        return y if self.weight is None else y * self.weight + self.bias


class GroupNorm(Layer):
    """Centre and scale groups of channels of each example (Wu & He 2018).

    The channels, the last axis, are cut into `groups`; mean and variance are over
    one group and all positions: x (batch, ..., n) -> (batch, ..., n).
    """

    def __init__(
        self, groups: int, n: int, *, eps: float = 1e-5, affine: bool = True
    ) -> None:
        self.groups = at_least("GroupNorm", "groups", groups, 1)
        self.n = at_least("GroupNorm", "n", n, 1)
        if n % groups:
            raise ConfigError(
                f"GroupNorm: groups must divide the channels, got {groups} groups for"
                f" {n} channels"
            )
        self.eps = _positive("GroupNorm", eps)
        self.affine = affine
        self.weight = Parameter((n,), ones) if affine else None
        self.bias = Parameter((n,), zeros) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        _check_last_axis(self, x, self.n)
        places = math.prod(x.shape[1:-1])
        parts = (x.shape[0], places, self.groups, self.n // self.groups)
        z = reshape(x, shape=parts)
        y = reshape(normalized(z, (1, 3), self.eps), shape=x.shape)
        return y if self.weight is None else y * self.weight + self.bias


def _check_last_axis(layer: Layer, x: Tensor, n: int) -> None:
    if x.ndim < 2 or x.shape[-1] != n:
        raise ShapeError(f"{layer!r}: expected input (..., {n}), got {x.shape}")


def _positive(owner: str, eps: float) -> float:
    if not eps > 0:
        raise ConfigError(f"{owner}: eps must be > 0, got {eps!r:.40}")
    return float(eps)  # NumPy's own numbers are not weak


def _between(owner: str, name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ConfigError(f"{owner}: {name} must be in [0, 1], got {value!r:.40}")
    return value
