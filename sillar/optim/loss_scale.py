"""Keeping the gradients of float16 within its range."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sillar.backends import Array, backend_of
from sillar.errors import NonFiniteError
from sillar.optim.checks import above_zero, integer, same_names
from sillar.optim.transform import Transform

LEAST = 2.0**-24  # a loss that has to be smaller is not one for float16


class LossScale(Transform):
    """Gradients of `scale` times the loss, divided by `scale` again; it finds its size.

    Small gradients, which float16 would round to zero, so survive the backward pass. A
    gradient with NaN or infinity is held back and halves the scale; `grow_every` good
    ones in a row double it (Micikevicius et al. 2018, section 3.2). `fit` multiplies,
    and puts one first if `precision` is "float16". `skipped` counts what was held back.
    """

    def __init__(self, initial: float = 2.0**16, *, grow_every: int = 2000) -> None:
        self.initial = above_zero("LossScale: initial", initial)
        self.grow_every = integer("LossScale: grow_every", grow_every)
        self.reset()

    def reset(self) -> None:
        """Begin with the initial scale."""
        self.scale, self.good, self.skipped = float(self.initial), 0, 0

    def __call__(self, g: Array) -> Array | None:
        xp, scale = backend_of(g), self.scale
        if not bool(xp.all(xp.isfinite(g))):
            self._shrink()
            return None
        self.good += 1
        if self.good == self.grow_every:
            self.scale, self.good = scale * 2.0, 0
        return g / scale

    def _shrink(self) -> None:
        self.scale, self.good, self.skipped = self.scale / 2.0, 0, self.skipped + 1
        if self.scale < LEAST:
            raise NonFiniteError(
                "LossScale: gradients have NaN or infinity whatever the scale, step"
                ' after step: train with precision="bfloat16", whose range is that of'
                " float32, or lower the learning rate"
            )

    def state(self) -> dict[str, Any]:
        """Return the scale, how long it has held, and how many steps were held back."""
        return {"scale": self.scale, "good": self.good, "skipped": self.skipped}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up a saved state."""
        where = "LossScale.load_state"
        same_names(where, ("scale", "good", "skipped"), state)
        self.scale = above_zero(f"{where}: scale", state["scale"])
        self.good = integer(f"{where}: good", state["good"], low=0)
        self.skipped = integer(f"{where}: skipped", state["skipped"], low=0)

    def __repr__(self) -> str:
        return f"LossScale({self.initial!r}, grow_every={self.grow_every})"
