"""Gradient descent, with or without momentum."""

from __future__ import annotations

from sillar.backends import backend_of
from sillar.errors import ConfigError
from sillar.optim.checks import at_least_zero, below_one
from sillar.optim.optimizer import Optimizer
from sillar.optim.schedule import Schedule


class SGD(Optimizer):
    """Gradient descent: p - lr * g (Robbins & Monro 1951).

    With momentum (Polyak 1964) the velocity v = momentum * v + g takes the place of g,
    with nesterov (Sutskever et al. 2013, section 2) g + momentum * v does.
    `weight_decay` * p is added to g first.
    """

    def __init__(
        self,
        lr: float | Schedule,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(lr)
        self.momentum = below_one("SGD: momentum", momentum)
        self.nesterov = nesterov
        self.weight_decay = at_least_zero("SGD: weight_decay", weight_decay)
        if nesterov and self.momentum == 0:
            raise ConfigError(
                "SGD: nesterov=True needs momentum in (0, 1), got momentum=0.0"
            )

    def init(self, p):
        return {"v": backend_of(p).zeros_like(p)} if self.momentum else {}

    def update(self, p, g, s, lr, t):
        if self.weight_decay:
            g = g + self.weight_decay * p
        if not self.momentum:
            return p - lr * g, s
        v = self.momentum * s["v"] + g
        direction = g + self.momentum * v if self.nesterov else v
        return p - lr * direction, {"v": v}

    def step_size(self, s, lr, t):
        return lr / (1 - self.momentum)
