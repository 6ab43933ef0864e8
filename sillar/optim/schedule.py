"""Learning rates as pure functions of the step, so that a resumed run goes on exactly.

Steps count applied updates from 0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import cos, pi

from sillar.errors import ConfigError
from sillar.optim.checks import above_zero, at_least_zero, below_one, integer, up_to


class Schedule(ABC):
    """A learning rate for every step."""

    @abstractmethod
    def __call__(self, step: int) -> float:
        """Return the learning rate of update number `step`, counted from 0."""


@dataclass(frozen=True)
class Constant(Schedule):
    """The same rate at every step."""

    lr: float

    def __post_init__(self) -> None:
        at_least_zero("Constant: lr", self.lr)

    def __call__(self, step: int) -> float:
        return self.lr


@dataclass(frozen=True)
class StepDecay(Schedule):
    """lr * gamma^floor(step / step_size): multiplied by gamma every `step_size`."""

    lr: float
    step_size: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        at_least_zero("StepDecay: lr", self.lr)
        integer("StepDecay: step_size", self.step_size)
        above_zero("StepDecay: gamma", self.gamma)

    def __call__(self, step: int) -> float:
        return self.lr * self.gamma ** (step // self.step_size)


@dataclass(frozen=True)
class ExponentialDecay(Schedule):
    """lr * gamma^step."""

    lr: float
    gamma: float

    def __post_init__(self) -> None:
        at_least_zero("ExponentialDecay: lr", self.lr)
        above_zero("ExponentialDecay: gamma", self.gamma)

    def __call__(self, step: int) -> float:
        return self.lr * self.gamma**step


@dataclass(frozen=True)
class CosineAnnealing(Schedule):
    """Half a cosine from lr down to lr_min in `steps` steps, then lr_min.

    Loshchilov & Hutter 2017 (SGDR), equation 5, without restarts.
    """

    lr: float
    steps: int
    lr_min: float = 0.0

    def __post_init__(self) -> None:
        at_least_zero("CosineAnnealing: lr", self.lr)
        integer("CosineAnnealing: steps", self.steps)
        up_to("CosineAnnealing: lr_min", self.lr_min, self.lr)

    def __call__(self, step: int) -> float:
        return _cosine(self.lr, self.lr_min, min(step / self.steps, 1.0))


@dataclass(frozen=True)
class CosineRestarts(Schedule):
    """Cosines from lr towards lr_min, each `multiplier` times as long as the last.

    Loshchilov & Hutter 2017 (SGDR), equation 5; `period` is T_0, `multiplier` T_mult.
    """

    lr: float
    period: int
    multiplier: int = 1
    lr_min: float = 0.0

    def __post_init__(self) -> None:
        at_least_zero("CosineRestarts: lr", self.lr)
        integer("CosineRestarts: period", self.period)
        integer("CosineRestarts: multiplier", self.multiplier)
        up_to("CosineRestarts: lr_min", self.lr_min, self.lr)

    def __call__(self, step: int) -> float:
        period = self.period
        if self.multiplier == 1:
            step %= period
        while step >= period:  # in integers: a logarithm is off by one at restarts
            step -= period
            period *= self.multiplier
        return _cosine(self.lr, self.lr_min, step / period)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Cosine from lr / div up to lr, then down to lr / (div * final_div).

    Smith & Topin 2018 (super-convergence), with cosines; the rise takes `pct_start` of
    the `steps`. Momentum is left alone. After the last step the rate stays.
    """

    lr: float
    steps: int
    pct_start: float = 0.3
    div: float = 25.0
    final_div: float = 1e4

    def __post_init__(self) -> None:
        at_least_zero("OneCycle: lr", self.lr)
        integer("OneCycle: steps", self.steps)
        below_one("OneCycle: pct_start", self.pct_start)
        above_zero("OneCycle: div", self.div)
        above_zero("OneCycle: final_div", self.final_div)

    def __call__(self, step: int) -> float:
        first = self.lr / self.div
        peak, last = self.pct_start * self.steps - 1, self.steps - 1
        if step < peak:
            return _cosine(first, self.lr, step / peak)
        done = (step - peak) / (last - peak)
        return _cosine(self.lr, first / self.final_div, min(done, 1.0))


@dataclass(frozen=True)
class LinearWarmup(Schedule):
    """Rise from start_factor * schedule(0) to schedule(0), then follow `schedule`.

    The rise takes `steps` steps, and `schedule` starts where it ends: step `steps` of
    the whole is step 0 of `schedule` (Goyal et al. 2017, section 2.2).
    """

    schedule: Schedule
    steps: int
    start_factor: float = 1 / 3

    def __post_init__(self) -> None:
        if not isinstance(self.schedule, Schedule):
            raise ConfigError(
                f"LinearWarmup: expected a Schedule, got {self.schedule!r}: for a"
                " fixed rate give Constant(lr)"
            )
        integer("LinearWarmup: steps", self.steps)
        up_to("LinearWarmup: start_factor", self.start_factor, 1)

    def __call__(self, step: int) -> float:
        if step >= self.steps:
            return self.schedule(step - self.steps)
        done = step / self.steps
        factor = self.start_factor + (1 - self.start_factor) * done
        return factor * self.schedule(0)


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + cos(pi * done)) / 2
