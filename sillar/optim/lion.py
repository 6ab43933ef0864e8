"""Lion."""

from __future__ import annotations

from sillar.backends import backend_of
from sillar.optim.checks import at_least_zero, below_one
from sillar.optim.optimizer import Optimizer
from sillar.optim.schedule import Schedule


class Lion(Optimizer):
    """Evolved sign momentum (Chen et al. 2023, algorithm 2).

    Every element moves by lr, so rates are some ten times smaller than Adam's.
    """

    def __init__(
        self,
        lr: float | Schedule = 1e-4,
        *,
        beta1: float = 0.9,
        beta2: float = 0.99,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(lr)
        self.beta1 = below_one("Lion: beta1", beta1)
        self.beta2 = below_one("Lion: beta2", beta2)
        self.weight_decay = at_least_zero("Lion: weight_decay", weight_decay)

    def init(self, p):
        return {"m": backend_of(p).zeros_like(p)}

    def update(self, p, g, s, lr, t):
        sign = backend_of(g).sign(self.beta1 * s["m"] + (1 - self.beta1) * g)
        m = self.beta2 * s["m"] + (1 - self.beta2) * g
        return p * (1 - lr * self.weight_decay) - lr * sign, {"m": m}
