"""RMSprop."""

from __future__ import annotations

from sillar.backends import Array, backend_of
from sillar.optim.checks import above_zero, at_least_zero, below_one
from sillar.optim.optimizer import Optimizer
from sillar.optim.schedule import Schedule


class RMSprop(Optimizer):
    """Gradients over their running root mean square (Tieleman & Hinton 2012).

    Lecture 6.5 of "Neural networks for machine learning"; `centered` subtracts the
    squared mean as in Graves 2013, equations 38-41, with eps outside the root.
    `weight_decay` * p is added to g first.
    """

    def __init__(
        self,
        lr: float | Schedule = 1e-2,
        *,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        centered: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(lr)
        self.alpha = below_one("RMSprop: alpha", alpha)
        self.eps = above_zero("RMSprop: eps", eps)
        self.momentum = below_one("RMSprop: momentum", momentum)
        self.centered = centered
        self.weight_decay = at_least_zero("RMSprop: weight_decay", weight_decay)

    def init(self, p):
        used = {"square": True, "mean": self.centered, "v": self.momentum > 0}
        zeros_like = backend_of(p).zeros_like
        return {name: zeros_like(p) for name, needed in used.items() if needed}

    def update(self, p, g, s, lr, t):
        if self.weight_decay:
            g = g + self.weight_decay * p
        new = {"square": self.alpha * s["square"] + (1 - self.alpha) * g * g}
        if self.centered:
            new["mean"] = self.alpha * s["mean"] + (1 - self.alpha) * g
        direction = g / self._root(new)
        if self.momentum:
            new["v"] = direction = self.momentum * s["v"] + direction
        return p - lr * direction, new

    def step_size(self, s, lr, t):
        return lr / (1 - self.momentum) / self._root(s)

    def _root(self, s: dict[str, Array]) -> Array:
        variance = s["square"]
        if self.centered:
            variance = abs(variance - s["mean"] * s["mean"])  # < 0 only by rounding
        return variance**0.5 + self.eps
