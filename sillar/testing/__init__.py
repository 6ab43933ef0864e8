"""Checks that hold your own functions, layers, losses and optimizers to ours."""

from sillar.testing.backends import check_backend
from sillar.testing.gradients import check_grads
from sillar.testing.layers import check_layer
from sillar.testing.losses import check_loss
from sillar.testing.optimizers import check_optimizer

__all__ = [
    "check_backend",
    "check_grads",
    "check_layer",
    "check_loss",
    "check_optimizer",
]
