"""Adam, and Adam with decoupled weight decay."""

from __future__ import annotations

from sillar.backends import backend_of
from sillar.optim.checks import above_zero, at_least_zero, below_one
from sillar.optim.optimizer import Optimizer
from sillar.optim.schedule import Schedule


class _Moments(Optimizer):
    """What both share: running means of g and g^2, corrected for their start at 0.

    `m` and `v` hold the paper's moments without their factors 1 - beta. Those, and the
    corrections, go into the rate and `eps` (section 2, last paragraph): three passes
    over the vectors less.
    """

    def __init__(
        self, lr: float | Schedule, beta1: float, beta2: float, eps: float
    ) -> None:
        super().__init__(lr)
        name = type(self).__name__
        self.beta1 = below_one(f"{name}: beta1", beta1)
        self.beta2 = below_one(f"{name}: beta2", beta2)
        self.eps = above_zero(f"{name}: eps", eps)

    def init(self, p):
        zeros_like = backend_of(p).zeros_like
        return {"m": zeros_like(p), "v": zeros_like(p)}

    def update(self, p, g, s, lr, t):
        m = self.beta1 * s["m"] + g
        v = self.beta2 * s["v"] + g * g
        root = ((1 - self.beta2) / (1 - self.beta2**t)) ** 0.5  # root v^.5 = v_hat^.5
        rate = lr * (1 - self.beta1) / (1 - self.beta1**t) / root
        return p - rate * m / (v**0.5 + self.eps / root), {"m": m, "v": v}

    def step_size(self, s, lr, t):
        v_hat = s["v"] * ((1 - self.beta2) / (1 - self.beta2**t))
        return lr / (v_hat**0.5 + self.eps)


class Adam(_Moments):
    """Adam with bias correction (Kingma & Ba 2015, algorithm 1)."""

    def __init__(
        self,
        lr: float | Schedule = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(lr, beta1, beta2, eps)


class AdamW(_Moments):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2).

    The decay is lr * weight_decay * p, so that a schedule scales it too.
    """

    def __init__(
        self,
        lr: float | Schedule = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(lr, beta1, beta2, eps)
        self.weight_decay = at_least_zero("AdamW: weight_decay", weight_decay)

    def update(self, p, g, s, lr, t):
        return super().update(p * (1 - lr * self.weight_decay), g, s, lr, t)
