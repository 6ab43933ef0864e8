"""Layers that share an input: side by side, or how far they are from it."""

from __future__ import annotations

from sillar.core.functional import mean
from sillar.core.ops import concat, log
from sillar.core.tensor import Tensor
from sillar.errors import ConfigError, ShapeError
from sillar.nn.layer import Layer
from sillar.nn.layers import Container, in_turn

FLOOR = 1e-6  # added to a squared error, so that its logarithm is finite


class Parallel(Container):
    """Layers that see the same input; their outputs side by side on the last axis."""

    def __init__(self, *layers: Layer) -> None:
        super().__init__(*layers)
        if not layers:
            raise ConfigError("Parallel: expected at least one layer, got none")

    def forward(self, x: Tensor) -> Tensor:
        return concat(*(layer(x) for layer in self.layers), axis=-1)


class ReconstructionError(Container):
    """How badly the layers, one after another, give back x: (..., n) -> (..., 1).

    log(mean((layers(x) - x)^2) + 1e-6): of an autoencoder that knows the usual, it is
    large for what is unusual (Hawkins et al. 2002, equation 3, as a logarithm).
    """

    def forward(self, x: Tensor) -> Tensor:
        back = in_turn(self.layers, x)
        if back.shape != x.shape or not x.ndim:
            raise ShapeError(
                f"ReconstructionError: expected layers that give back {x.shape}, got"
                f" {back.shape}: the last must be as wide as the input"
            )
        difference = back - x
        squared = difference * difference
        return log(mean(squared, axis=-1, keepdims=True) + FLOOR)
