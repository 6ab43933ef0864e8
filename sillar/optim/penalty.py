"""Penalties that pull parameters towards zero.

A penalty given to `Optimizer.bind` is not added to the gradient: after each update the
optimizer applies its proximal map. For plain SGD that is proximal gradient descent. For
momentum and for rules with a rate of their own per element (Adam, RMSprop) it is a
heuristic: the map takes the step that the rule makes for a steady gradient
(`Optimizer.step_size`; Yun et al. 2021, ProxGen), which is right where training ends
and not on the way there; and an element whose gradient was always zero loses its value
at once. For Lion, whose steps do not depend on the gradient's size, it
takes the learning rate, and exact zeros are rare. To put the penalty into the loss
instead, add `penalty.compute(params)` to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from fnmatch import fnmatchcase
from typing import Any

from sillar.backends import Array, backend_of
from sillar.errors import ConfigError
from sillar.optim.checks import at_least_zero


@dataclass(frozen=True)
class Penalty(ABC):
    """A cost of size `rate` on the parameters whose dotted path fits the glob `where`.

    For any rule but plain SGD the proximal step is a heuristic.
    """

    rate: float
    _: KW_ONLY
    where: str = "*"

    def __post_init__(self) -> None:
        at_least_zero(f"{type(self).__name__}: rate", self.rate)

    def paths(self, params: Mapping[str, Any]) -> list[str]:
        """Return the paths that `where` selects, in order; there must be one."""
        chosen = [path for path in params if fnmatchcase(path, self.where)]
        if params and not chosen:
            raise ConfigError(
                f"{type(self).__name__}: where={self.where!r} selects none of"
                f" {list(params)}: give a glob such as '*weight'"
            )
        return chosen

    def compute(self, params: Mapping[str, Any]) -> Any:
        """Return the cost of the selected parameters, to be added to a loss."""
        return sum(self.cost(params[path]) for path in self.paths(params))

    @abstractmethod
    def cost(self, p: Any) -> Any:
        """Return the cost of one tensor or array as a scalar."""

    @abstractmethod
    def gradient(self, p: Array) -> Array:
        """Return the gradient of the cost at `p`."""

    @abstractmethod
    def proximal(self, p: Array, step: Array | float) -> Array:
        """Return argmin over x of cost(x) + sum (x - p)^2 / (2 step)."""


class L1(Penalty):
    """rate * sum |p|, which drives parameters to exact zeros.

    Its proximal map is the soft threshold of Parikh & Boyd 2014, section 6.5.2. With
    any rule but plain SGD the proximal step is a heuristic.
    """

    def cost(self, p: Any) -> Any:
        return float(self.rate) * abs(p).sum()

    def gradient(self, p: Array) -> Array:
        return float(self.rate) * backend_of(p).sign(p)

    def proximal(self, p: Array, step: Array | float) -> Array:
        threshold = float(self.rate) * step
        return p - backend_of(p).clip(p, -threshold, threshold)


class L2(Penalty):
    """rate / 2 * sum p^2; its proximal map is p / (1 + step * rate).

    With any rule but plain SGD the proximal step is a heuristic.
    """

    def cost(self, p: Any) -> Any:
        return float(self.rate) / 2 * (p * p).sum()

    def gradient(self, p: Array) -> Array:
        return float(self.rate) * p

    def proximal(self, p: Array, step: Array | float) -> Array:
        return p / (1 + float(self.rate) * step)
